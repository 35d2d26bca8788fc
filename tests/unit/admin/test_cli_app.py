"""The root command: verbs found lazily, one message for every failure, completion, where the configuration is."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from router.admin.cli import app as root
from router.admin.cli import exits
from router.admin.cli.context import Context, find_config, who
from router.admin.cli.exits import CommandFailed, Exit, explain
from router.daemon.serve import EX_CONFIG, EX_OSERR
from router.errors import (
    BodyDamaged,
    Conflict,
    ControlUnavailable,
    LookupFailed,
    NotFound,
    SluiceError,
    SpoolFull,
    SpoolUnavailable,
)

Sluice = Callable[..., Any]
"""Runs the command: `Result` of conftest."""

DAEMON = ("router.daemon", "uvloop", "aiosmtpd", "aiosmtplib", "sqlalchemy", "pydantic", "rich", "dns")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_help_imports_neither_the_daemon_nor_any_verb() -> None:
    code = (
        "import sys\nfrom router.admin.cli.app import VERBS, run\nrun(['--help'])\n"
        f"print([m for m in sys.modules if m.startswith({DAEMON!r})])\n"
        "print([m for m, _ in VERBS.values() if m in sys.modules])"
    )
    assert python(code).stdout.splitlines()[-2:] == ["[]", "[]"]


def test_every_verb_of_the_list_is_there_and_explains_itself(sluice: Sluice) -> None:
    listed = sluice("--help").out
    for verb in root.VERBS:
        assert f"\n  {verb} " in listed
        found = sluice(verb, "--help")
        assert (found.status, found.err) == (0, ""), verb
        assert "--install-completion" not in found.out


@pytest.mark.parametrize("words", ["sluice ho", "sluice --json ho"])
def test_completion_of_verbs(words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_SLUICE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert root.run([]) == 0
    assert capsys.readouterr().out.split() == ["hold"]


def test_completion_of_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_SLUICE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "sluice hold --")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert root.run([]) == 0
    offered = capsys.readouterr().out.split()
    assert {"--reason", "--max", "--timeout", "--json", "--config"} <= set(offered)


def test_no_verb_shows_the_help_and_is_a_usage_error(sluice: Sluice) -> None:
    found = sluice()
    assert found.status == 64
    assert "Commands:" in found.out


@pytest.mark.parametrize("arguments", [("vesion",), ("hold",), ("--nonsense",), ("hold", "a@b", "--max", "tomorrow")])
def test_usage_errors_are_64_and_one_message(sluice: Sluice, arguments: tuple[str, ...]) -> None:
    found = sluice(*arguments)
    assert found.status == 64
    assert found.out == ""
    assert found.err.startswith("sluice: ")
    assert "Traceback" not in found.err


def test_a_misspelt_verb_is_guessed(sluice: Sluice) -> None:
    assert "version" in sluice("vesion").err


def test_errors_in_json(sluice: Sluice) -> None:
    found = sluice("user", "show", "nobody@example.edu", "--json")
    assert found.out == ""
    told = json.loads(found.err)
    assert (told["version"], told["exit"], found.status) == (1, 65, 65)
    assert set(told) == {"version", "error", "exit", "remedy", "details"}
    assert "nobody@example.edu" in told["details"][0]


def test_json_and_config_may_stand_before_or_behind_the_verb(sluice: Sluice, config: Path) -> None:
    before = sluice("--json", "--config", str(config), "user", "show", "ann@example.edu")
    behind = sluice("user", "show", "ann@example.edu", "--json", "--config", str(config))
    assert before.json == behind.json
    assert before.json["version"] == 1


def test_missing_unreadable_and_faulty_configurations(sluice: Sluice, tmp_path: Path) -> None:
    missing = sluice("user", "list", "--config", str(tmp_path / "none.yaml"))
    assert missing.status == 66
    assert "--config" in missing.err
    (tmp_path / "bad.yaml").write_text("hostname: mx\nhostname: my\nnonsense: 1\n")
    faulty = sluice("user", "list", "--config", str(tmp_path / "bad.yaml"))
    assert faulty.status == 78
    assert "bad.yaml:3: nonsense" in faulty.err


def test_no_control_database_is_69_and_says_what_makes_one(sluice: Sluice, state: Path) -> None:
    (state / "control.db").unlink()
    found = sluice("user", "list")
    assert found.status == 69
    assert "sluice serve" in found.err


def test_where_the_configuration_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sluice.yaml").write_text("")
    monkeypatch.delenv("SLUICE_CONFIG", raising=False)
    assert find_config(None) == Path("/etc/sluice/sluice.yaml")
    monkeypatch.setenv("SLUICE_CONFIG", "/srv/s.yaml")
    assert find_config(None) == Path("/srv/s.yaml")
    assert find_config(Path("x.yaml")) == Path("x.yaml")


def test_the_actor_is_the_person_behind_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "hilde")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert who().startswith("hilde (")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "hilde" not in who()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("x"), 65),
        (Conflict("x"), 65),
        (LookupFailed("x"), 75),
        (ControlUnavailable("x"), 69),
        (SpoolUnavailable("x"), 74),
        (SpoolFull("x"), 74),
        (BodyDamaged("x"), 65),
        (SluiceError("x"), 70),
        (PermissionError(13, "Permission denied", "/p"), 77),
        (FileNotFoundError(2, "No such file", "/p"), 66),
        (OSError(5, "Input/output error", "/p"), 74),
        (KeyboardInterrupt(), 130),
        (ValueError("secret"), 70),
        (CommandFailed(Exit.CANNOT_CREATE, "x"), 73),
    ],
)
def test_every_error_has_a_status_and_a_text(error: BaseException, status: int) -> None:
    found = explain(error)
    assert found.status == status
    assert found.message


def _verb(monkeypatch: pytest.MonkeyPatch, body: Callable[[Context], None]) -> None:
    module = ModuleType("made_up_verb")
    app = typer.Typer()
    module.app = app  # type: ignore[attr-defined]

    @app.command()
    def verb(ctx: typer.Context) -> None:
        body(Context.of(ctx))

    monkeypatch.setitem(sys.modules, "made_up_verb", module)
    monkeypatch.setitem(root.VERBS, "made-up", ("made_up_verb", "A verb."))


def test_an_unforeseen_error_is_70_without_a_traceback(sluice: Sluice, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(_context: Context) -> None:
        raise ZeroDivisionError("secret\x1b[2J")

    _verb(monkeypatch, explode)
    found = sluice("made-up")
    assert found.status == 70
    assert "Traceback" not in found.err
    assert "\x1b" not in found.err
    monkeypatch.setenv("SLUICE_DEBUG", "1")
    assert "Traceback" in sluice("made-up").err


def test_an_interrupt_is_130_and_says_so(sluice: Sluice, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_context: Context) -> None:
        raise KeyboardInterrupt

    _verb(monkeypatch, interrupt)
    found = sluice("made-up")
    assert found.status == 130
    assert "interrupted" in found.err


def test_the_statuses_are_those_of_sysexits() -> None:
    numbers = {one.value for one in exits.Exit}
    assert {64, 65, 66, 69, 70, 73, 74, 75, 77, 78} < numbers


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(config: Path) -> None:
    command = f"{sys.executable} -m router -c {config} config show | head -c 1"
    found = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert found.stderr == ""


def test_version(sluice: Sluice) -> None:
    assert sluice("--version").out.startswith("sluice ")
    found = sluice("version", "--json").json
    assert {"version", "sluice", "parts"} == set(found)


def test_serve_hands_the_file_to_the_daemon(sluice: Sluice, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = ModuleType("router.daemon.serve")
    daemon.serve = lambda path: 75 if path == config else 1  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "router.daemon.serve", daemon)
    assert sluice("serve").status == 75
    assert sluice("serve", "--config", "/nowhere/s.yaml").status == 66


def test_the_help_of_serve_names_the_statuses_that_the_daemon_ends_with(sluice: Sluice) -> None:
    text = " ".join(sluice("serve", "--help").out.split())
    assert f"{EX_CONFIG}: the configuration is faulty" in text
    assert f"{EX_OSERR}: it cannot start" in text
    assert "70" not in text
