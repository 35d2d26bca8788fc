"""
Journal rows as text: one JSON object a line, the same in the table and in the monthly files.

A field may be added with a default, never renamed: files of older versions stay readable. Control characters and
line ends inside values are escaped by JSON, so one row is always one line.

On failure: `parse_line` raises `ValueError` for anything that is no such row.
"""

import json
from dataclasses import MISSING, fields

from router.model.envelope import QueuedMessage
from router.model.outcome import JournalRow
from router.spool.batch import Batch
from router.spool.bulk import Insert
from router.spool.json_text import json_number, text

_FIELDS = tuple(one.name for one in fields(JournalRow))
_DEFAULTS = {one.name: one.default for one in fields(JournalRow) if one.default is not MISSING}
_REQUIRED = frozenset(_FIELDS) - frozenset(_DEFAULTS)
_TEXTS = frozenset(one.name for one in fields(JournalRow) if one.type is str)
_INSERT = Insert("INSERT INTO journal (id, at, line)", "(?, ?, ?)")


def append_journal(
    batch: Batch,
    message: QueuedMessage,
    *,
    at: float,
    recipient: str,
    disposition: str,
    lane: str,
    mailbox: str,
    attempts: int,
    reply: str = "",
    remote: str = "none",
    note: str = "",
    of_batch: str = "",
    in_doubt: bool = False,
) -> None:
    """Insert the row that tells what became of a recipient. `of_batch` names the batch of mailboxes it belongs to."""
    number = batch.next_journal()
    line = (
        f'{{"number":{number},"at":{json_number(at)},"queue_id":{text(message.queue_id)},"recipient":{text(recipient)},'
        f'"disposition":{text(disposition)},"lane":{text(lane)},"mailbox":{text(mailbox)},'
        f'"sender":{text(message.envelope.sender)},"size":{message.size},'
        f'"received_at":{json_number(message.received_at)},"attempts":{attempts},"reply":{text(reply)},'
        f'"remote":{text(remote)}{_optional(message.header.message_id, note, of_batch)}'
    )
    batch.insert(_INSERT, ((number, at, line + (',"in_doubt":true}' if in_doubt else "}")),))


def _optional(message_id: str, note: str, batch: str) -> str:
    """Fields at their default are left out."""
    found = f',"message_id":{text(message_id)}' if message_id else ""
    if note:
        found += f',"note":{text(note)}'
    return f'{found},"batch":{text(batch)}' if batch else found


def parse_line(line: str | bytes) -> JournalRow:
    """The row of a line; fields of later versions are ignored. Raises `ValueError`."""
    try:
        facts = json.loads(line)
    except RecursionError as error:
        raise ValueError("not a journal row") from error
    if not isinstance(facts, dict) or not facts.keys() >= _REQUIRED or not isinstance(facts["number"], int):
        raise ValueError("not a journal row")
    known = {name: facts[name] for name in _FIELDS if name in facts}
    if any(not isinstance(known[name], str) for name in _TEXTS & known.keys()):
        raise ValueError("not a journal row")
    return JournalRow(**known)
