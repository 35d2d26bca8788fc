"""The closing lines of a run, tried on small runs of their own: servers are counted, skips named, none in CI."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Protocol, cast

import pytest


class TopConftest(Protocol):
    def server_name(self, command: list[str]) -> str | None: ...


SERVER = """
    import socket, subprocess, sys

    def test_server(tmp_path):
        (tmp_path / "smtp-sink").symlink_to("/bin/true")
        subprocess.run([str(tmp_path / "smtp-sink"), "127.0.0.1:0", "10"], check=True)
        socket.create_server(("127.0.0.1", 0)).close()
"""
SKIP = """
    import pytest

    def test_fine():
        pass

    @pytest.mark.skip(reason="no such server here")
    def test_skipped():
        pass
"""
MODULE_SKIP = """
    import pytest

    pytest.skip("the whole module", allow_module_level=True)
"""
CORPUS = """
    import pytest

    def test_fine():
        pass

    @pytest.mark.corpus
    def test_corpus(corpora):
        assert corpora.is_dir()
"""


def run(folder: Path, root: Path, source: str, *options: str, **environment: str) -> tuple[int, str]:
    """Run pytest over one test file below a copy of the top conftest; exit status and output."""
    tests = folder / "checkout" / "tests"
    tests.mkdir(parents=True)
    (tests / "conftest.py").write_text((root / "tests" / "conftest.py").read_text())
    (tests / "test_sample.py").write_text(re.sub(r"^    ", "", source, flags=re.MULTILINE))
    (tests / "pytest.ini").write_text("[pytest]\nmarkers =\n  corpus: x\n")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "CI", "SLUICE"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(tests)]
    done = subprocess.run(
        command, cwd=folder, env=clean | environment, capture_output=True, text=True, timeout=110, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_servers_are_counted(tmp_path: Path, root: Path, options: tuple[str, ...]) -> None:
    status, output = run(tmp_path, root, SERVER, *options)
    assert status == 0, output
    assert "servers started: smtp-sink 1, sockets bound inside the tests 1" in output
    assert "tests skipped: 0" in output


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("-n", "2")])
@pytest.mark.parametrize(
    ("source", "reason"), [(SKIP, "no such server here"), (MODULE_SKIP + SKIP, "the whole module")]
)
def test_a_skipped_test_fails_ci_alone(
    tmp_path: Path, root: Path, source: str, reason: str, options: tuple[str, ...]
) -> None:
    for ci, expected in (("", {0, 5}), ("true", {1})):
        status, output = run(tmp_path / f"ci{ci}", root, source, *options, CI=ci)
        assert status in expected, output
        assert "tests skipped: 1" in output
        assert reason in output


@pytest.mark.slow
def test_corpus_tests_may_be_skipped_only_where_there_is_no_corpus(tmp_path: Path, root: Path) -> None:
    status, output = run(tmp_path / "without", root, CORPUS, CI="true")
    assert status == 0, output
    assert "SLUICE_CORPORA" in output
    (tmp_path / "real").mkdir()
    status, output = run(tmp_path / "named", root, CORPUS, CI="true", SLUICE_CORPORA=str(tmp_path / "real"))
    assert status == 0, output
    assert "tests skipped: 0" in output
    (tmp_path / "beside" / "shared" / "corpora").mkdir(parents=True)
    status, output = run(tmp_path / "beside", root, CORPUS, CI="true")
    assert status == 0, output
    assert "tests skipped: 0" in output
    status, output = run(tmp_path / "wrong", root, CORPUS, SLUICE_CORPORA=str(tmp_path / "gone"))
    assert status == pytest.ExitCode.USAGE_ERROR, output


@pytest.mark.parametrize(
    ("command", "server"),
    [
        (["/usr/sbin/dovecot", "-F", "-c", "x"], "dovecot"),
        (["strace", "-f", "/usr/sbin/smtp-sink", ":2525", "10"], "smtp-sink"),
        (["/x/.venv/bin/sluice", "--config", "x", "serve"], "sluice"),
        (["python", "-m", "router", "--config", "x", "serve"], "sluice"),
        (["dovecot", "--version"], None),
        (["postfix", "-c", "x", "stop"], None),
        (["doveadm", "fetch"], None),
        (["/x/.venv/bin/sluice", "hold", "a@b.example"], None),
    ],
)
def test_which_command_starts_a_server(
    pytestconfig: pytest.Config, root: Path, command: list[str], server: str | None
) -> None:
    top = cast("TopConftest", pytestconfig.pluginmanager.get_plugin(str(root / "tests" / "conftest.py")))
    assert top.server_name(command) == server
