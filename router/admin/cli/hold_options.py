"""
Options that the changing verbs share, and how their texts are read.

On failure: `typer.BadParameter`, which is a usage error (64).
"""

from collections.abc import Iterable
from typing import Annotated

import typer

from router.admin.cli.exits import CommandFailed, Exit
from router.settings.values import BadValue, parse_duration

TIMEOUT = 60.0
"""Seconds."""
_LONGEST_REASON = 500


def duration(text: str | float) -> float:
    """Seconds of `90s`, `4h`; a default is seconds already."""
    if not isinstance(text, str):
        return float(text)
    try:
        return parse_duration(int(text) if text.isascii() and text.isdigit() else text)
    except BadValue as error:
        raise typer.BadParameter(f"{error}; {error.remedy}") from error


def reason_text(text: str) -> str:
    """Why a change is made, one printable line."""
    stripped = text.strip()
    if not stripped:
        raise typer.BadParameter("it must not be empty: the audit keeps it")
    if not stripped.isprintable() or len(stripped) > _LONGEST_REASON:
        raise typer.BadParameter(f"it must be one printable line of at most {_LONGEST_REASON} characters")
    return stripped


Reason = Annotated[
    str, typer.Option("--reason", "-r", parser=reason_text, metavar="TEXT", help="Why; it stands in the audit.")
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", parser=duration, metavar="TIME", help="How long to wait until it is in force."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Show what would be done, and do nothing.")]


def require_store(stores: Iterable[str], name: str) -> None:
    """Raises `CommandFailed` (65) for a store that the configuration does not have."""
    names = list(stores)
    if name not in names:
        raise CommandFailed(Exit.DATA, f"there is no store {name}", f"stores: {', '.join(names)}")
