"""
What holds for every test: hypothesis profiles, the corpora, and the closing lines of a run.

The closing lines name the servers that the tests started (seen by the interpreter itself, so nobody has to register
one) and every skipped test. With CI=true a skipped test fails the run: a missing server must never look green. The
one exception are tests marked `corpus` where there is no corpus at all, as in a plain clone.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

CHECKOUT = Path(__file__).resolve().parents[1]
SERVERS = {
    "dovecot": "dovecot",
    "exim4": "exim",
    "master": "postfix",
    "postfix": "postfix",
    "slapd": "slapd",
    "smtp-sink": "smtp-sink",
}
NOT_SERVING = {"--version", "-V", "-n", "-a", "--help", "check", "reload", "status", "stop"}
NO_CORPORA = "the collections of real messages are not here: SLUICE_CORPORA names their directory"
PROPERTY = "servers started"

settings.register_profile("dev", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci",
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    print_blob=True,
)
settings.register_profile(
    "quick", max_examples=10, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") == "true" else "dev"))


# --- corpora ----------------------------------------------------------------------------------------------------


def find_corpora() -> Path | None:
    """The directory of real messages: SLUICE_CORPORA (which must then exist), or the one beside the checkout."""
    named = os.environ.get("SLUICE_CORPORA")
    if named:
        if not Path(named).is_dir():
            raise pytest.UsageError(f"SLUICE_CORPORA is set, but {named} is no directory")
        return Path(named)
    beside = CHECKOUT.parent / "shared" / "corpora"
    return beside if beside.is_dir() else None


@pytest.fixture(scope="session")
def corpora() -> Path:
    """For tests marked `corpus`; without the mark a missing directory is an error."""
    found = find_corpora()
    if found is None:
        raise pytest.UsageError(f"{NO_CORPORA}; mark the test `corpus`")
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_corpora() is None:
        for item in items:
            if item.get_closest_marker("corpus") is not None:
                item.add_marker(pytest.mark.skip(reason=NO_CORPORA))


# --- servers, as the interpreter sees them start ----------------------------------------------------------------


class ServerWatch:
    """Counts servers by name from the audit events of this process; a daemon that a test forks itself is not seen."""

    def __init__(self) -> None:
        self._started: Counter[str] = Counter()

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            name = server_name([os.fsdecode(word) for word in args[1]])
            if name is not None:
                self._started[name] += 1
        elif event == "support.mother.launch" and "serve" in args[0]:
            self._started["sluice"] += 1
        elif event == "socket.bind":
            self._started["sockets bound inside the tests"] += 1

    def take(self) -> dict[str, int]:
        """What was started since the last call."""
        taken, self._started = dict(self._started), Counter()
        return taken


def server_name(command: list[str]) -> str | None:
    """
    The server that a command line starts, or None.

    >>> server_name(["/usr/sbin/dovecot", "-F", "-c", "x.conf"])
    'dovecot'
    >>> server_name(["/usr/sbin/dovecot", "--version"]) is None
    True
    >>> server_name(["python", "-m", "router", "--config", "x.yaml", "serve"])
    'sluice'
    """
    if NOT_SERVING & set(command[1:]):
        return None
    for word in command[:6]:  # behind strace, env, nice and the like
        name = Path(word).name
        if name in SERVERS:
            return SERVERS[name]
    if "serve" in command and any(Path(word).name in {"sluice", "router"} for word in command):
        return "sluice"
    return None


WATCH = ServerWatch()
sys.addaudithook(WATCH)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Hand what the test started to its report, which reaches the process that prints the summary."""
    try:
        yield
    finally:
        started = WATCH.take()
        if started:
            item.user_properties.append((PROPERTY, started))


# --- the closing lines ------------------------------------------------------------------------------------------


class Closing:
    """Gathers servers and skips from the reports of all processes of a run."""

    def __init__(self) -> None:
        self.servers: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            for name, value in report.user_properties:
                if name == PROPERTY and isinstance(value, dict):
                    self.servers.update(value)
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped[report.nodeid] = reason_of(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.skipped[report.nodeid] = reason_of(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.forbidden() and session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
        yield  # everything else first: these lines are the last but pytest's own count
        started = ", ".join(f"{name} {count}" for name, count in sorted(self.servers.items()))
        terminalreporter.write_line(f"servers started: {started or 'none'}")
        terminalreporter.write_line(f"tests skipped: {len(self.skipped)}")
        for test, reason in sorted(self.skipped.items()):
            terminalreporter.write_line(f"  {test}: {reason}")
        if self.forbidden():
            terminalreporter.write_line(f"CI: {len(self.forbidden())} skipped tests fail this run", red=True)

    def forbidden(self) -> list[str]:
        """Tests that had to run and did not."""
        if os.environ.get("CI") != "true":
            return []
        return [test for test, reason in self.skipped.items() if reason != NO_CORPORA or find_corpora() is not None]


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The words a test skipped with."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    return text.removeprefix("Skipped: ")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # with xdist: only where the summary is printed
        config.pluginmanager.register(Closing(), "sluice-closing")
