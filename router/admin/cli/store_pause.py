"""
`sluice store pause|resume`: stop and start deliveries to a store; its mail is accepted and waits.

Guarantees: returns 0 when every worker has applied it: from then on no delivery to the store is begun. One that was
under way may still end. Repeating a command changes nothing and waits again.

On failure: 75 when it is durable and not applied everywhere in time (the workers that are late are named), 65 for a
store that is not in the configuration.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Protocol

import typer
from sqlalchemy import Connection

from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed, Exit
from router.control import members, stores
from router.control.audit import Act
from router.control.database import ControlDatabase
from router.control.members import Member
from router.errors import NotFound

Name = Annotated[str, typer.Argument(metavar="STORE", help="Name of a store.")]
Timeout = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for the workers.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be changed, and change nothing.")]


class Setting(Protocol):
    """`stores.pause` or `stores.resume`."""

    def __call__(self, connection: Connection, store: str, act: Act) -> int: ...


def pause(
    ctx: typer.Context,
    store: Name,
    reason: Annotated[str, typer.Option(help="Why; shown by `status` and kept in the audit.", show_default=False)],
    timeout: Timeout = 60.0,
    dry_run: DryRun = False,
) -> int:
    """Deliver nothing to the store until `resume`. Its mail is accepted and waits; its retry lifetime goes on."""
    context = Context.of(ctx)
    if not reason.strip():
        raise CommandFailed(Exit.USAGE, "the reason is empty", "say --reason")
    if store not in context.settings().stores:
        raise _unknown(context, store)
    return _set(context, store, context.act(reason), stores.pause, "paused", timeout, dry_run=dry_run)


def resume(
    ctx: typer.Context,
    store: Name,
    reason: Annotated[str, typer.Option(help="Why; kept in the audit.")] = "",
    timeout: Timeout = 60.0,
    dry_run: DryRun = False,
) -> int:
    """Deliver to the store again, beginning at once."""
    context = Context.of(ctx)
    known = {one.store for one in context.database().run_read(stores.paused)} | set(context.settings().stores)
    if store not in known:
        raise _unknown(context, store)
    return _set(context, store, context.act(reason), stores.resume, "resumed", timeout, dry_run=dry_run)


def wait_applied(
    database: ControlDatabase,
    epoch: int,
    timeout: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Member]:
    """Wait until every member has applied `epoch`; those that have not after `timeout` seconds."""
    deadline, pause_for = clock() + timeout, 0.01
    while True:
        late = [one for one in database.run_read(members.all_members) if one.applied < epoch]
        if not late or clock() >= deadline:
            return late
        sleep(pause_for)
        pause_for = min(pause_for * 1.5, 0.25)


def _set(context: Context, store: str, act: Act, setting: Setting, word: str, timeout: float, *, dry_run: bool) -> int:
    database, out = context.database(), context.out
    before = any(one.store == store for one in database.run_read(stores.paused))
    changes = before != (word == "paused")
    if dry_run:
        out.document({"store": store, "paused": before, "would_change": changes, "dry_run": True})
        out.line(f"{store} {'would be' if changes else 'is already'} {word}")
        return Exit.OK
    epoch = database.run_write(partial(setting, store=store, act=act))
    late = wait_applied(database, epoch, timeout)
    out.document(
        {
            "store": store,
            "paused": word == "paused",
            "changed": changes,
            "epoch": epoch,
            "waiting_for": [{"slot": one.slot, "pid": one.pid, "spool": one.spool} for one in late],
        }
    )
    out.line(f"{store} {word if changes else f'was {word} already'}{'' if late else _force(database)}")
    for one in late:
        out.note(f"worker {one.slot} (pid {one.pid}) has not applied it yet; it is durable and will")
    return Exit.TRY_AGAIN if late else Exit.OK


def _force(database: ControlDatabase) -> str:
    running = database.run_read(members.all_members)
    return ", in force in all workers" if running else "; no worker is running, it takes effect with their start"


def _unknown(context: Context, store: str) -> NotFound:
    return NotFound(f"there is no store {store}; there are {', '.join(context.settings().stores)}")
