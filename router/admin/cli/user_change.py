"""
`sluice user set`: change the home, status, addresses, target or division of mailboxes by hand.

Guarantees: the change is one transaction per mailbox with its audit row; setting what is set changes nothing. On
return it is in force in every worker. Home, status and addresses of people from a directory are refused before anything
is changed: its next reading would undo them. A home changed without a hold loses no mail, but deliveries to the old
store may be under way: that is what `move` is for.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import typer
from sqlalchemy import Connection

from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed, Exit
from router.admin.cli.hold_operations import operations
from router.admin.cli.hold_options import TIMEOUT, DryRun, Reason, Timeout, require_store
from router.admin.cli.user_selection import Addresses, FromFile, Wanted, select
from router.control import changes, edits, mailboxes
from router.control.audit import Act
from router.control.edits import Edit
from router.control.mailboxes import Record
from router.control.schema import DATABASE
from router.errors import NotFound
from router.model.address import AddressSyntaxError, parse_address
from router.model.mailbox import Status
from router.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be set. `add` and `remove` are address keys."""

    home: str | None
    status: Status | None
    target: str | None
    division: str | None
    add: frozenset[str]
    remove: frozenset[str]

    @property
    def empty(self) -> bool:
        one_by_one = (self.home, self.status, self.target, self.division)
        return all(value is None for value in one_by_one) and not self.add and not self.remove

    def edit_of(self, before: Record) -> Edit:
        """The edit of one mailbox: aliases are given as a whole."""
        aliases = (frozenset(before.addresses) | self.add) - self.remove if self.add or self.remove else None
        return Edit(self.home, self.status, aliases, self.target, self.division)


def change(
    ctx: typer.Context,
    reason: Reason,
    addresses: Addresses = None,
    file: FromFile = None,
    home: Annotated[str | None, typer.Option("--home", metavar="STORE", help="The new home.")] = None,
    status: Annotated[Status | None, typer.Option("--status", help="The new status.")] = None,
    target: Annotated[str | None, typer.Option("--target", metavar="STORE", help="Where it is to move.")] = None,
    division: Annotated[str | None, typer.Option("--division", help="A name for reports.")] = None,
    add: Annotated[list[str] | None, typer.Option("--add-address", metavar="ADDR", help="One more address.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove-address", metavar="ADDR", help="One less.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Take addresses from or to a mailbox on hold.")] = False,
    timeout: Timeout = TIMEOUT,
    dry_run: DryRun = False,
) -> int:
    """
    Change mailboxes by hand. The home of a mailbox on hold is changed by `release --to`.

    Exit 0: in force. 65: it contradicts what is under way, and nothing was changed. 75: not in force everywhere yet.
    """
    context = Context.of(ctx)
    settings = context.settings()
    for store in (home, target):
        if store:
            require_store(settings.stores, store)
    request = Request(home, status, target, division, _keys(settings, add), _keys(settings, remove))
    if request.empty:
        raise CommandFailed(Exit.USAGE, "nothing to set is given", "`sluice user set --help` lists what can be set")
    keys = select(context, Wanted(addresses or (), file))
    if request.add and len(keys) > 1:
        raise CommandFailed(Exit.USAGE, "an address can be added to one mailbox only")
    _require_ours(context, keys, request)
    act = context.act(reason, correcting=True)
    work = partial(_edit, request=request, act=act, force=force)
    if dry_run:
        return _preview(context, keys, request)
    done = [context.database().run_write(partial(work, key=key)) for key in keys]
    return _report(context, done, timeout)


def _require_ours(context: Context, keys: Sequence[str], request: Request) -> None:
    """Raises `CommandFailed` naming everybody whose directory says otherwise than is to be set."""
    found = context.database().run_read(partial(mailboxes.records, keys=keys))
    elsewhere = [one for one in found.values() if one.mailbox.source != DATABASE and _differs(one, request)]
    if elsewhere:
        raise CommandFailed(
            Exit.DATA,
            "what a directory says is changed there; nothing was done",
            "change the entry (`sluice user show` names it), or the home by `sluice move`, which writes it there",
            tuple(f"{one.mailbox.key} comes from the directory {one.mailbox.source}" for one in elsewhere),
        )


def _differs(before: Record, request: Request) -> bool:
    """Whether home, status or addresses would become another."""
    wanted, old = request.edit_of(before), before.mailbox
    home = wanted.home is not None and wanted.home != old.home
    status = wanted.status is not None and wanted.status is not old.status
    return home or status or (wanted.aliases is not None and wanted.aliases | {old.key} != set(before.addresses))


def _edit(connection: Connection, key: str, request: Request, act: Act, *, force: bool) -> tuple[Record, Record, int]:
    before = mailboxes.records(connection, [key]).get(key)
    if before is None:
        raise NotFound(f"there is no mailbox {key}")
    now = Act(act.actor, act.reason, time.time())
    old, new = edits.edit(connection, key, request.edit_of(before), now, force=force)
    return old, new, changes.current_epoch(connection)


def _preview(context: Context, keys: Sequence[str], request: Request) -> int:
    found = context.database().run_read(partial(mailboxes.records, keys=keys))
    planned = []
    for key in keys:
        before = found[key]
        wanted = request.edit_of(before)
        after = {
            name: value
            for name, value in (
                ("home", wanted.home),
                ("status", wanted.status and wanted.status.value),
                ("target", wanted.target),
                ("division", wanted.division),
                ("addresses", None if wanted.aliases is None else sorted(wanted.aliases | {key})),
            )
            if value is not None
        }
        old = edits.facts(before)
        planned.append({"mailbox": key, "before": {name: old[name] for name in after}, "after": after})
        for name, value in after.items():
            context.out.line(f"{key}: {name} {_text(old[name])} -> {_text(value)}")
    context.out.document({"dry_run": True, "changes": planned})
    return Exit.OK


def _report(context: Context, done: Sequence[tuple[Record, Record, int]], timeout: float) -> int:
    out = context.out
    newest = max((epoch for _, _, epoch in done), default=0)
    lagging = operations(context).wait_applied(newest, timeout)
    for old, new, _ in done:
        before, after = edits.facts(old), edits.facts(new)
        differ = [name for name in before if before[name] != after[name]]
        for name in differ:
            out.line(f"{new.mailbox.key}: {name} {_text(before[name])} -> {_text(after[name])}")
        if not differ:
            out.line(f"{new.mailbox.key}: as it was")
    for member in lagging:
        out.line(f"durable, NOT in force yet: worker {member.slot} (pid {member.pid}) has not applied it")
    status = Exit.TRY_AGAIN if lagging else Exit.OK
    out.document(
        {
            "changes": [
                {"mailbox": new.mailbox.key, "before": edits.facts(old), "after": edits.facts(new)}
                for old, new, _ in done
            ],
            "waiting_for": [{"worker": one.slot, "pid": one.pid} for one in lagging],
            "exit": int(status),
        }
    )
    return status


def _keys(settings: Settings, texts: Sequence[str] | None) -> frozenset[str]:
    keys = set()
    for text in texts or ():
        try:
            address = parse_address(text)
        except AddressSyntaxError as error:
            raise CommandFailed(Exit.DATA, f"{text}: {error}") from error
        if address.domain not in settings.domains:
            raise CommandFailed(Exit.DATA, f"{text}: not in a domain of ours")
        keys.add(address.key)
    return frozenset(keys)


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(one) for one in value) or "(none)"
    return str(value) or "(none)"
