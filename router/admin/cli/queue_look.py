"""
`sluice queue list|show|cat|shape`: looking at the queue.

Reads only, beside running workers or without any; without the control database, too (holds are then not named).
Lists are written as they are read, so their length costs no memory. `queue list` exits 0 for an empty queue; a spool
that cannot be read is named on standard error, the others are listed, and the status is 74.

On failure: 65 for a queue-id that is not in the queue, or a message that does not match its checksum.
"""

import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed, Exit
from router.admin.cli.output import moment, octets, safe, span
from router.admin.cli.queue_format import (
    HEADING,
    Listed,
    Sums,
    Windows,
    as_json,
    as_mailq,
    messages,
    queue_name,
    why,
)
from router.admin.cli.queue_options import Conditions, control, filtered, open_holds, places, select
from router.admin.cli.queue_select import BadSelection, Selection, SpoolPlace, entries, queue_ids
from router.admin.cli.queue_shape import KEYS, Shape, as_text
from router.admin.cli.queue_shape import as_json as shape_json
from router.errors import BodyDamaged, NotFound, SpoolUnavailable
from router.model.envelope import QueuedMessage
from router.spool.finding import QueueEntry
from router.spool.numbering import parse_queue_id
from router.spool.offline import SpoolView, view

QueueId = Annotated[str, typer.Argument(metavar="ID", help="A queue-id.")]


@filtered
def list_queue(ctx: typer.Context, *, conditions: Conditions) -> int:
    """List undelivered mail as mailq does; --json gives one line for each message (names as in postqueue -j)."""
    context = Context.of(ctx)
    out, database = context.out, control(context)
    selection = select(conditions, database)
    windows, sums = Windows(open_holds(database), time.time()), Sums()
    walk = Walk(context, selection)
    for message in messages(walk):
        if not sums.messages:
            out.line(HEADING)
        sums.add(message)
        out.record(as_json(message, windows))
        for line in () if out.json else as_mailq(message, windows):
            out.line(line)
    out.line(sums.closing_line())
    return walk.status


@filtered
def shape(
    ctx: typer.Context,
    by: Annotated[str, typer.Option(help=f"Rows: one of {', '.join(KEYS)}.")] = "store",
    limit: Annotated[int, typer.Option(min=1, help="Rows shown at most.")] = 30,
    *,
    conditions: Conditions,
) -> int:
    """Count undelivered recipients by store (or another key) and age in minutes, as qshape does."""
    context = Context.of(ctx)
    if by not in KEYS:
        raise CommandFailed(Exit.USAGE, f"there are no rows by {by!r}", f"there are: {', '.join(KEYS)}")
    walk = Walk(context, select(conditions, control(context) if _asks_control(conditions) else None))
    counted = Shape(by, time.time())
    counted.add(walk)
    context.out.document(shape_json(counted))
    for line in as_text(counted, limit):
        context.out.line(line)
    return walk.status


def show(ctx: typer.Context, queue_id: QueueId) -> int:
    """Show one message: envelope, recipients, state, last replies."""
    context = Context.of(ctx)
    database = control(context)
    windows = Windows(open_holds(database), time.time())
    place, number = find_place(context, queue_id)
    with view(place.directory) as opened:
        listed = _listed(opened, queue_id)
        try:
            message, damage = opened.message(number), ""
        except BodyDamaged as error:
            message, damage = None, str(error)
    envelope = {} if message is None else _envelope(message)
    context.out.document({"message": as_json(listed, windows) | {"envelope": envelope, "damage": damage}})
    _show(context, listed, windows, envelope, damage)
    return Exit.DATA if damage else Exit.OK


def cat(ctx: typer.Context, queue_id: QueueId) -> int:
    """Write the message as it was received, byte for byte; on a terminal control characters are made visible."""
    context = Context.of(ctx)
    place, number = find_place(context, queue_id)
    with view(place.directory) as opened:
        message = opened.message(number)
        if message is None:
            raise NotFound(f"{queue_id} is not in the queue")
        body = opened.body(message)
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(body)
        return Exit.OK
    for line in body.decode("utf-8", "backslashreplace").split("\n"):
        context.out.line(line.removesuffix("\r").replace("\t", "    "))
    return Exit.OK


class Walk:
    """Iterates the entries of all spools; one that cannot be read is told and passed over. `status` is the result."""

    def __init__(self, context: Context, selection: Selection) -> None:
        self._context = context
        self._selection = selection
        self.status = Exit.OK

    def __iter__(self) -> Iterator[QueueEntry]:
        for place in self._selection.spools(places(self._context)):
            try:
                with view(place.directory) as opened:
                    yield from entries(opened, self._selection)
            except SpoolUnavailable as error:
                self.status = Exit.IO_ERROR
                sys.stderr.write(f"sluice: {safe(str(error))}\n")


def find_place(context: Context, queue_id: str) -> tuple[SpoolPlace, int]:
    """The spool that a queue-id names, and the message's number there. Raises `NotFound`, `CommandFailed`."""
    try:
        (text,) = queue_ids([queue_id])
    except (BadSelection, ValueError) as error:
        raise CommandFailed(Exit.USAGE, str(error)) from error
    spool, number = parse_queue_id(text)
    for place in places(context):
        if place.number == spool:
            return place, number
    raise NotFound(f"{queue_id}: there is no spool {spool:04d} on this host")


def _listed(opened: SpoolView, queue_id: str) -> Listed:
    found = next(messages(entries(opened, Selection(ids=queue_ids([queue_id])))), None)
    if found is None:
        raise NotFound(f"{queue_id} is not in the queue; `sluice log {queue_id}` shows what became of it")
    return found


def _envelope(message: QueuedMessage) -> dict[str, Any]:
    client, header = message.envelope.client, message.header
    return {
        "client": client.name,
        "client_address": client.address,
        "helo": client.helo,
        "protocol": client.protocol,
        "tls": client.tls,
        "body": message.envelope.body,
        "smtputf8": message.envelope.smtputf8,
        "ret": message.envelope.ret,
        "envid": message.envelope.envid,
        "received_fields": header.received_count,
        "sha256": message.digest.hex(),
    }


def _show(context: Context, listed: Listed, windows: Windows, envelope: dict[str, Any], damage: str) -> None:
    out, first = context.out, listed.first
    out.fields(
        [
            ("queue-id", first.queue_id),
            ("queue", queue_name(listed, windows.now)),
            ("received", f"{moment(first.received_at)} ({span(windows.now - first.received_at)} ago)"),
            ("size", octets(first.size)),
            ("sender", first.sender or "<>"),
            ("message-id", first.message_id),
            *((name.replace("_", " "), value) for name, value in envelope.items() if value != ""),
            *([("damaged", damage)] if damage else []),
        ]
    )
    out.line()
    out.table(
        ["recipient", "state", "route", "mailbox", "attempts", "due", "why"],
        [
            (
                entry.recipient,
                entry.state,
                entry.lane,
                entry.mailbox,
                entry.attempts,
                moment(entry.due) if entry.state == "queued" else None,
                why(entry, windows),
            )
            for entry in listed.entries
        ],
    )


def _asks_control(conditions: Conditions) -> bool:
    return conditions.mailbox is not None or conditions.batch is not None
