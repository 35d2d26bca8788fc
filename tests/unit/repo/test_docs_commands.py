"""Every `sluice` command and every alarm that a page for administrators shows is one, and none is left out."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from router.admin.cli.app import VERBS, app
from router.control.directory_alarms import DISPUTE, DOUBT, DOWN, DRIFT, PROBLEM
from router.control.losses import LOSS
from router.report.alarms import AlarmKind

PAGES = ("README.md", "docs/install.md", "docs/emergency.md", "docs/operations.md", "docs/configuration.md")
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(sluice[^`]*)`")
TYPED = re.compile(r"^ *(?:runuser -u sluice -- )?(sluice .*)$", re.MULTILINE)
OF_ROOT = {"--json": 0, "--config": 1, "--install-completion": 0}
ROW = re.compile(r"^\| `([a-z-]+)` \|", re.MULTILINE)
OF_CONTROL = {AlarmKind.HOLD_OVERDUE, *(AlarmKind(kind) for kind in (DOUBT, DOWN, DISPUTE, DRIFT, LOSS, PROBLEM))}
"""Control does not know the names of the kinds: it is no part of the station that has them."""
OF_FORWARDS = {AlarmKind.FORWARD_LOOP}
"""Raised by what follows forwards, under the name of the mailbox."""
RAISED = re.compile(r"AlarmKind\.([A-Z_]+)|_?alarm\(\s*\"([a-z-]+)\"")


def commands_in(text: str) -> list[str]:
    """What a reader would type, remarks and redirections taken off."""
    fenced = "\n".join(FENCE.findall(text))
    found = [" ".join(one.split()) for one in INLINE.findall(FENCE.sub("", text))] + TYPED.findall(fenced)
    return [re.split(r" #| >| <", one)[0].strip() for one in found]


def fault(line: str) -> str:
    """What is wrong with a command line, or nothing."""
    words = iter(shlex.split(line.replace("…", "")))
    next(words)
    verb = next(words, "")
    while verb in OF_ROOT:
        for _ in range(OF_ROOT[verb]):
            next(words)
        verb = next(words, "")
    if verb in {"", "VERB"}:
        return ""
    if verb not in VERBS:
        return f"{line}: there is no verb {verb}"
    root: Any = typer.main.get_command(app)
    _, command, rest = root.resolve_command(None, [verb, *words])
    return _fault_below(line, command, rest)


def _fault_below(line: str, command: Any, words: list[str]) -> str:
    children = getattr(command, "commands", None)
    if children is not None and words and not words[0].startswith("-"):
        if words[0] not in children:
            return f"{line}: {command.name} has no {words[0]}"
        command, words = children[words[0]], words[1:]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
    wrong = [word for word in words if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known]
    return f"{line}: no option {wrong[0]}" if wrong else ""


def raised(package: Path) -> Iterator[AlarmKind]:
    """The kinds that the code raises; what merely names them all is left out."""
    for module in package.rglob("*.py"):
        if module.name in {"alarms.py", "alarm_keeper.py"}:
            continue
        for name, value in RAISED.findall(module.read_text(encoding="utf-8")):
            yield AlarmKind[name] if name else AlarmKind(value)


@pytest.mark.parametrize("name", PAGES)
def test_every_command_shown_exists(root: Path, name: str) -> None:
    shown = commands_in((root / name).read_text(encoding="utf-8"))
    assert shown
    assert [found for one in shown if (found := fault(one))] == []


def test_wrong_commands_are_seen() -> None:
    text = "`sluice batch go` and `sluice queue lst`\n```\nsluice --json status --all  # x\nsluice check --live\n```\n"
    assert [bool(fault(one)) for one in commands_in(text)] == [True, True, True, False]


def test_every_alarm_that_is_raised_is_explained_and_no_other(root: Path) -> None:
    page = (root / "docs" / "operations.md").read_text(encoding="utf-8")
    table = page.partition("### Alarms")[2].partition("\n### ")[0]
    assert set(ROW.findall(table)) == {*raised(root / "router"), *OF_CONTROL, *OF_FORWARDS}
