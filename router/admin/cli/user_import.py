"""
`sluice user import FILE`: take a users.csv into the control database while mail flows.

Guarantees: every error of the file is reported at once with file and line, and then nothing was changed; otherwise
all of it becomes visible in one step.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed, Exit
from router.admin.cli.hold_operations import operations
from router.admin.cli.hold_options import TIMEOUT, DryRun, Timeout, reason_text
from router.admin.cli.output import Advance
from router.control import users_csv
from router.control.audit import Act
from router.control.importing import ImportResult, UserImport
from router.control.users_csv import ImportRefused, UserFile


def import_file(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A users.csv; its header names the columns.")],
    reason: Annotated[
        str, typer.Option("--reason", "-r", parser=reason_text, metavar="TEXT", help="Why; default: the file's name.")
    ] = "import",
    timeout: Timeout = TIMEOUT,
    dry_run: DryRun = False,
) -> int:
    """
    Import mailboxes. Those that are not in the file are left alone.

    Exit 0: in force. 65: the file has errors, all of them are shown, and nothing was changed. 75: durable, but not in
    force everywhere in time.
    """
    context = Context.of(ctx)
    content = _read(context, file)
    act = context.act(reason if reason != "import" else f"import of {file.name}", correcting=True)
    result = _import(context, content, act, dry_run=dry_run)
    lagging = operations(context).wait_applied(result.epoch, timeout) if result.epoch and not dry_run else ()
    status = Exit.TRY_AGAIN if lagging else Exit.OK
    _tell(context, result, dry_run=dry_run)
    for member in lagging:
        context.out.line(f"durable, NOT in force yet: worker {member.slot} (pid {member.pid}) has not applied it")
    context.out.document(
        {
            "file": str(file),
            "dry_run": dry_run,
            "created": result.created,
            "changed": result.changed,
            "unchanged": result.unchanged,
            "epoch": result.epoch or None,
            "waiting_for": [{"worker": one.slot, "pid": one.pid} for one in lagging],
            "exit": int(status),
        }
    )
    return status


def _read(context: Context, file: Path) -> UserFile:
    settings = context.settings()
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise CommandFailed(Exit.NO_INPUT, f"{file}: {error.strerror}") from error
    try:
        return users_csv.read(file, settings.stores, settings.domains)
    except ImportRefused as error:
        raise _refused(file, error) from error


def _import(context: Context, content: UserFile, act: Act, *, dry_run: bool) -> ImportResult:
    title = f"{'checking' if dry_run else 'importing'} {len(content.rows)} mailboxes"
    try:
        with context.out.progress(title) as advance:
            work = UserImport(context.database(), content, act, sleep=_sleeper(advance))
            return work.dry_run() if dry_run else work.apply()
    except ImportRefused as error:
        raise _refused(content.path, error) from error


def _sleeper(advance: Advance) -> Callable[[float], None]:
    """The pause between two slices is when progress is shown."""

    def sleep(seconds: float) -> None:
        advance(1)
        time.sleep(seconds)

    return sleep


def _refused(file: Path, error: ImportRefused) -> CommandFailed:
    count = "1 error" if len(error.messages) == 1 else f"{len(error.messages)} errors"
    return CommandFailed(Exit.DATA, f"{file}: {count}, nothing was changed", details=tuple(error.messages))


def _tell(context: Context, result: ImportResult, *, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    context.out.line(
        f"{result.created} {would}created, {result.changed} {would}changed, {result.unchanged} as they were"
    )
