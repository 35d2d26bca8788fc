"""
`sluice queue export`: copies of undelivered mail in a directory, readable without Sluice.

For each message `QUEUEID.eml`, the bytes as they were received, and `QUEUEID.json`, the envelope with the recipients
that matched. Works with the daemon up or down; the queue itself is not changed.

Guarantees: a pair is complete once its .json is there (it is written last, both synced); repeating the command
replaces what is there by the present state. One message at a time is in memory.

On failure: a message that cannot be read is named, the others are exported, and the status is 65.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed, Exit
from router.admin.cli.queue_act import All, require_conditions
from router.admin.cli.queue_format import Listed, messages
from router.admin.cli.queue_options import Conditions, control, filtered, places, select
from router.admin.cli.queue_select import Selection, SpoolPlace, entries
from router.errors import BodyDamaged
from router.model.envelope import Work
from router.spool.offline import SpoolView, view
from router.spool.reader import Reader
from router.spool.schema import DATABASE, sync_directory
from router.spool.whole_file import write_durably

FORMAT = 1
"""Of the envelope files."""


@dataclass(slots=True)
class Exported:
    """What was written, and what could not be read."""

    messages: int = 0
    recipients: int = 0
    damaged: list[str] = field(default_factory=list)


@filtered
def export(
    ctx: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where to write; made if it is not there.")],
    everything: All = False,
    *,
    conditions: Conditions,
) -> int:
    """
    Copy undelivered mail into a directory: QUEUEID.eml (bytes as received) and QUEUEID.json (envelope) per message.

    Nothing is removed from the queue: mail that is delivered by other means must be deleted here, or it arrives twice.
    """
    context = Context.of(ctx)
    selection = select(conditions, control(context))
    require_conditions(selection, everything)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise CommandFailed(Exit.CANNOT_CREATE, f"{directory} is no directory") from error
    exported = Exported()
    with context.out.progress("exporting") as advance:
        for place in selection.spools(places(context)):
            for count in export_spool(place, selection, directory, exported):
                advance(count)
    sync_directory(directory)
    _tell(context, directory, exported)
    return Exit.DATA if exported.damaged else Exit.OK


def export_spool(place: SpoolPlace, selection: Selection, directory: Path, exported: Exported) -> Iterator[int]:
    """Write one spool's matches; yields after each message."""
    reader = Reader(place.directory / DATABASE, place.number, threads=1)
    try:
        with view(place.directory) as opened:
            for listed in messages(entries(opened, selection)):
                _one(opened, reader, listed, directory, exported)
                yield 1
    finally:
        reader.close()


def _one(opened: SpoolView, reader: Reader, listed: Listed, directory: Path, exported: Exported) -> None:
    queue_id = listed.first.queue_id
    found = reader.call(reader.works, [entry.number for entry in listed.entries], 0)
    exported.damaged += [damage.why for damage in islice(found.damaged, 100)]
    for work in found.works:  # one, or none when it was delivered meanwhile
        try:
            body = opened.body(work.message)
        except BodyDamaged as error:
            exported.damaged.append(str(error))
            continue
        write_durably(directory / f"{queue_id}.eml", body)
        envelope = json.dumps(envelope_of(work), indent=1).encode("ascii") + b"\n"
        write_durably(directory / f"{queue_id}.json", envelope)
        exported.messages += 1
        exported.recipients += len(work.recipients)


def envelope_of(work: Work) -> dict[str, Any]:
    """The envelope file: what an MTA needs to send the message on. Times are seconds since 1970."""
    message = work.message
    given = message.envelope
    return {
        "format": FORMAT,
        "queue_id": message.queue_id,
        "message_id": message.header.message_id,
        "received_at": message.received_at,
        "size": message.size,
        "sha256": message.digest.hex(),
        "sender": given.sender,
        "body": given.body,
        "smtputf8": given.smtputf8,
        "ret": given.ret,
        "envid": given.envid,
        "client": asdict(given.client),
        "recipients": [
            {
                "address": one.address.wire,
                "notify": one.notify,
                "orcpt": one.orcpt,
                "state": one.state.value,
                "route": one.lane,
                "mailbox": one.mailbox,
                "attempts": one.attempts,
                "possible_duplicate": one.possible_duplicate,
                "reason": one.reason,
            }
            for one in work.recipients
        ],
    }


def _tell(context: Context, directory: Path, exported: Exported) -> None:
    context.out.document(
        {
            "verb": "queue export",
            "directory": str(directory),
            "messages": exported.messages,
            "recipients": exported.recipients,
            "damaged": exported.damaged,
        }
    )
    context.out.line(f"{exported.messages} messages with {exported.recipients} recipients are in {directory}")
    for text in exported.damaged:
        context.out.note(f"could not be read: {text}")
