"""
`sluice user import|list|show|set|history`: the mailboxes.

The JSON of a mailbox: `{mailbox, source, kind, home, status, target, moved_at, problem, hold}`, from `show` also
`addresses, division, size_bytes, protected_until, dn`; `hold` is null or `{number, reason, actor, batch, opened_at,
deadline, target, quiet_at, origin}`.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import typer
from sqlalchemy import Connection

from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed, Exit
from router.admin.cli.hold_report import doubt_text
from router.admin.cli.output import Column, moment, octets, span
from router.admin.cli.user_change import change
from router.admin.cli.user_import import import_file
from router.admin.cli.user_selection import Addresses, FromFile, Wanted, pages, select
from router.control import audit, entries, hold_records, mailboxes
from router.control.mailboxes import Filter, Record
from router.model.mailbox import Hold, Mailbox, Status

app = typer.Typer(help="Import, list, show and change mailboxes.")
app.command("import")(import_file)


@app.command("list")
def list_(
    ctx: typer.Context,
    domain: Annotated[str, typer.Option("--domain", help="Only mailboxes of this domain.")] = "",
    home: Annotated[str, typer.Option("--home", help="Only mailboxes with this home store.")] = "",
    status: Annotated[Status | None, typer.Option("--status", help="Only mailboxes with this status.")] = None,
    held: Annotated[bool | None, typer.Option("--held/--not-held", help="Only those on hold, or only others.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many; 0 is all.")] = 0,
) -> None:
    """List mailboxes. With --json one line for each, so that a hundred thousand need no memory."""
    context = Context.of(ctx)
    out = context.out
    rows = []
    for place, mailbox in enumerate(pages(context, Filter(home, domain.lower(), status=status, held=held)), start=1):
        out.record({"version": 1, **mailbox_json(mailbox)})
        if not out.json:
            rows.append(_row(mailbox))
        if place == limit:
            break
    out.table(["mailbox", "home", "status", "hold", "target", "moved", "source"], rows)
    out.note(f"{len(rows)} mailboxes")


@app.command()
def show(ctx: typer.Context, addresses: Addresses = None, file: FromFile = None) -> None:
    """Show everything known of mailboxes: addresses, home, status, hold."""
    context = Context.of(ctx)
    out = context.out
    protect = context.settings().safety.protect
    shown: list[dict[str, object]] = []
    for key in select(context, Wanted(addresses or (), file)):
        record = context.database().run_read(partial(mailboxes.record, key=key))
        if record is None:
            raise CommandFailed(Exit.DATA, f"{key}: the mailbox went away meanwhile")
        if shown:
            out.line()
        names = context.database().run_read(partial(_names, mailbox=record.mailbox))
        out.fields(_fields(record, protect, names))
        shown.append({**_record_json(record, protect), "dn": list(names)})
    out.document({"mailboxes": shown})


app.command("set")(change)


@app.command()
def history(
    ctx: typer.Context,
    address: Annotated[str, typer.Argument(metavar="ADDR")],
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many holds and changes.")] = 50,
) -> None:
    """Show all holds of a mailbox and every change of it, newest first."""
    context = Context.of(ctx)
    out = context.out
    key = select(context, Wanted((address,)))[0]
    past = context.database().run_read(partial(hold_records.history, key=key, limit=limit))
    changes = context.database().run_read(partial(audit.rows, key=key, limit=limit))
    out.table(
        [Column("hold", right=True), "opened", "quiet", "ended", "ended by", "home before", "released to", "reason"],
        [
            (one.hold.number, moment(one.hold.opened_at), moment(one.hold.quiet_at), moment(one.closed_at),
             one.closed_by, one.home_before, one.released_to, one.hold.reason)
            for one in past
        ],
    )  # fmt: skip
    for one in past:
        for doubt in one.in_doubt:
            out.line(f"hold {one.hold.number}, in doubt: {doubt_text(doubt)}")
    out.line()
    out.table(
        ["time", "actor", "change", "reason"], [(moment(one.at), one.actor, one.verb, one.reason) for one in changes]
    )
    out.document(
        {
            "mailbox": key,
            "holds": [_past_json(one) for one in past],
            "changes": [
                {"number": one.number, "at": moment(one.at), "actor": one.actor, "verb": one.verb,
                 "reason": one.reason, "before": one.before, "after": one.after}
                for one in changes
            ],
        }
    )  # fmt: skip


def mailbox_json(mailbox: Mailbox) -> dict[str, object]:
    """What `user list` says of a mailbox."""
    return {
        "mailbox": mailbox.key,
        "source": mailbox.source,
        "kind": mailbox.kind,
        "home": mailbox.home,
        "status": mailbox.status.value,
        "target": mailbox.target,
        "moved_at": moment(mailbox.moved_at),
        "problem": mailbox.problem,
        "hold": None if mailbox.hold is None else hold_json(mailbox.hold),
    }


def hold_json(hold: Hold) -> dict[str, object]:
    """A hold as it stands in the record of its mailbox."""
    return {
        "number": hold.number,
        "reason": hold.reason,
        "actor": hold.actor,
        "batch": hold.batch,
        "opened_at": moment(hold.opened_at),
        "deadline": moment(hold.deadline),
        "target": hold.target,
        "quiet_at": moment(hold.quiet_at),
        "origin": hold.origin,
    }


def _past_json(one: hold_records.HoldRecord) -> dict[str, object]:
    doubts = [
        {"queue_id": d.queue_id, "message_id": d.message_id, "store": d.store, "time": moment(d.time)}
        for d in one.in_doubt
    ]
    return {
        **hold_json(one.hold),
        "home_before": one.home_before,
        "status_before": one.status_before,
        "closed_at": moment(one.closed_at),
        "closed_by": one.closed_by,
        "released_to": one.released_to,
        "in_doubt": doubts,
    }


def _record_json(record: Record, protect: float) -> dict[str, object]:
    return {
        **mailbox_json(record.mailbox),
        "addresses": list(record.addresses),
        "division": record.division,
        "size_bytes": record.size_bytes,
        "protected_until": moment(_protected_until(record.mailbox, protect)),
    }


def _row(mailbox: Mailbox) -> tuple[object, ...]:
    hold = "" if mailbox.hold is None else ("quiet" if mailbox.hold.quiet_at else "not quiet")
    moved = moment(mailbox.moved_at)
    return mailbox.key, mailbox.home, mailbox.status.value, hold, mailbox.target, moved, mailbox.source


def _names(connection: Connection, mailbox: Mailbox) -> tuple[str, ...]:
    """The DNs of the entries that are the mailbox; nearly always one, and none where no directory knows it."""
    known = entries.of_keys(connection, [mailbox.key]).get(mailbox.key, [])
    return tuple(one.entry.dn for one in known if one.source == mailbox.source)


def _fields(record: Record, protect: float, names: Sequence[str]) -> list[tuple[str, object]]:
    mailbox = record.mailbox
    pairs: list[tuple[str, object]] = [("mailbox", mailbox.key), ("source", mailbox.source)]
    pairs += [("entry", name) for name in names]
    pairs += [("kind", mailbox.kind)] if mailbox.kind != "mailbox" else []
    pairs += [("problem", mailbox.problem)] if mailbox.problem else []
    pairs += [("address", one) for one in record.addresses if one != mailbox.key]
    pairs += [("home", mailbox.home), ("status", mailbox.status.value), ("target", mailbox.target)]
    pairs += [("division", record.division)]
    pairs += [("size", None if record.size_bytes is None else octets(record.size_bytes))]
    pairs += [("moved", moment(mailbox.moved_at)), ("protected until", moment(_protected_until(mailbox, protect)))]
    if mailbox.hold is None:
        return [*pairs, ("hold", "none")]
    return [*pairs, *_hold_fields(mailbox.hold)]


def _hold_fields(hold: Hold) -> list[tuple[str, object]]:
    state = f"quiet since {moment(hold.quiet_at)}" if hold.quiet_at else "NOT quiet yet"
    pairs: list[tuple[str, object]] = [("hold", f"{hold.number}, {state}")]
    pairs += [("hold opened", f"{moment(hold.opened_at)} by {hold.actor}"), ("hold reason", hold.reason)]
    if hold.deadline is not None:
        left = hold.deadline - time.time()
        when = f"in {span(left)}" if left >= 0 else f"{span(-left)} AGO"
        pairs.append(("hold deadline", f"{moment(hold.deadline)}, {when}"))
    return [*pairs, ("hold target", hold.target), ("hold batch", hold.batch)]


def _protected_until(mailbox: Mailbox, protect: float) -> float | None:
    """None on hold, when the end is not known, or where nothing is protected."""
    if mailbox.hold is not None or mailbox.moved_at is None:
        return None
    return mailbox.moved_at + protect if mailbox.protected(time.time(), protect) else None
