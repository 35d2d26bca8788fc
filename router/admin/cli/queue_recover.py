"""
`sluice queue recover`: bring back the mail of a spool that was set aside because it is damaged.

Guarantees: safe beside running workers, which find the new spool by themselves; a second run brings nothing back twice,
also when the first was killed. Files are written as the owner of the spools. With `--dry-run` nothing is written.

On failure: 65 for a directory that is no spool set aside, or that another run is working on; 74 when it cannot be read.
Status 1: some mail is in `untold/`, for a person to look at.
"""

import asyncio
import socket
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Connection

from router.admin.cli.context import Context, acting_as_owner
from router.admin.cli.exits import CommandFailed, Exit
from router.control import alarms, audit, spools
from router.control.audit import Act
from router.control.database import ControlDatabase
from router.report.alarms import AlarmKind
from router.spool.recovering import UNTOLD, Recovered, Recovery
from router.spool.setting_aside import Aside, parse

Directory = Annotated[Path, typer.Argument(metavar="DIRECTORY", help="A spool set aside; `sluice status` names them.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be brought back, and write nothing.")]


def recover(ctx: typer.Context, directory: Directory, reason: Reason = "", dry_run: DryRun = False) -> int:
    """
    Bring back the mail that can be read in a damaged spool; what was delivered before is not delivered again.

    Mail of which that cannot be told is copied to `untold/` in the directory. Exit status 1 if there is such mail.
    """
    context = Context.of(ctx)
    place = _place(context, directory)
    database = context.database()
    act = context.act(reason, restored=True)
    recovery = Recovery(place, partial(_allocate, database, place), time.time)
    with acting_as_owner(place.directory):
        result = asyncio.run(recovery.run(dry_run=dry_run))
    if not dry_run:
        database.run_write(partial(_note, place=place, result=result, act=act))
    _tell(context, place, result, dry_run=dry_run)
    return Exit.FAILED if result.untold else Exit.OK


def _place(context: Context, directory: Path) -> Aside:
    root = context.settings().state_dir / "spool"
    # Resolved, so that no other name of the same place passes for a second one.
    found = parse(directory.resolve())
    if found is None or not found.directory.is_dir():
        raise CommandFailed(Exit.DATA, f"{directory} is no spool that was set aside", "`sluice status` names them")
    if found.directory.parent != root.resolve():
        raise CommandFailed(Exit.DATA, f"{directory} is not in {root}", "move it there: its note must stay with it")
    return found


def _allocate(database: ControlDatabase, place: Aside) -> int:
    name = f"{place.directory.parent}/from-{place.directory.name}-{time.time_ns()}"
    work = partial(spools.allocate, node=socket.gethostname(), path=name, now=time.time())
    return int(database.run_write(work))


def _note(connection: Connection, place: Aside, result: Recovered, act: Act) -> None:
    alarms.clear_alarm(connection, AlarmKind.SPOOL_DAMAGED, place.directory.name, act.at)
    if not result.before:
        after = {"spool": result.spool, "recipients": result.recipients, "untold": result.untold}
        audit.write(connection, act, "queue recover", place.directory.name, None, after)


def _tell(context: Context, place: Aside, result: Recovered, *, dry_run: bool) -> None:
    untold = str(place.directory / UNTOLD) if result.untold else ""
    facts = {"verb": "queue recover", "directory": str(place.directory), "dry_run": dry_run, **asdict(result)}
    context.out.document({**facts, "untold_directory": untold})
    if result.before:
        context.out.line(f"a former run has done it, with spool {result.spool:04d}; nothing was brought back again")
    did = "would be brought back" if dry_run else f"are back in spool {result.spool:04d}"
    context.out.line(f"{result.recipients} recipients of {result.messages} messages {did}")
    context.out.line(f"{result.closed} recipients were delivered, returned or removed before")
    if result.untold:
        context.out.line(f"{result.untold} messages cannot be told: look at {untold}")
    if result.broken:
        context.out.note(f"{result.broken} rows do not match their checksum and are lost")
    if not result.journal_complete:
        context.out.note("the journal has gaps, so more than usual cannot be told")
