"""
Rows to values and back: what a message and a recipient look like in the tables.

What was received is kept as JSON in ASCII (escapes carry any text through unchanged, a newline or a lone surrogate
included) under a CRC-32 that also covers the row's own number; scheduling columns are not covered, because they
change with every attempt and are derived anew at each dispatch, but impossible values in them are noticed. Columns
beside the JSON (`sender`, `address`, ...) exist to search by and are never delivered from. Nothing is unpickled.

On failure: decoding raises `BodyDamaged` and nothing else, whatever the row holds.
"""

import json
import math
import zlib
from typing import Any

from router.errors import BodyDamaged
from router.model.address import Address
from router.model.envelope import Client, Envelope, HeaderFacts, NewRecipient, QueuedMessage, QueuedRecipient
from router.model.envelope import RecipientState as State
from router.spool.json_text import text
from router.spool.numbering import make_queue_id

MESSAGE_COLUMNS = "id, received_at, size, own, facts, body_file, digest, crc"
RECIPIENT_COLUMNS = (
    "id, state, lane, mailbox, due, attempts, clock_start, unknown_since, draining, possible_duplicate,"
    " delay_notified, own, reason, facts, crc"
)
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_decode = json.JSONDecoder().raw_decode


def searchable(value: str) -> str:
    """The text as SQLite can store it: what is no valid Unicode becomes `?`. For columns that are searched only."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def encode_message(envelope: Envelope, header: HeaderFacts) -> str:
    """Everything of envelope and header facts as one JSON object; defaults are left out."""
    client = envelope.client
    facts = (
        f'{{"sender":{text(envelope.sender)},"client":[{text(client.address)},{client.port},{text(client.name)},'
        f"{text(client.helo)},{text(client.protocol)},{_bool(client.trusted)},{text(client.tls)}],"
        f'"received":{header.received_count}'
    )
    optional = (
        ("body", envelope.body),
        ("smtputf8", envelope.smtputf8),
        ("ret", envelope.ret),
        ("envid", envelope.envid),
        ("message_id", header.message_id),
        ("auto_submitted", header.auto_submitted),
        ("marks", header.marks),
    )
    for name, value in optional:
        if value:
            facts += f',"{name}":{_encode(value)}'
    return facts + "}"


def message_crc(number: int, received_at: float, size: int, own: int, facts: str, file: str, digest: bytes) -> int:
    """Checksum of a message row, its body's length and checksum included."""
    return zlib.crc32(
        f"{number} {received_at!r} {size} {own} {file} {digest.hex()} {facts}".encode("ascii", "backslashreplace")
    )


def decode_message(spool: int, generation: int, row: tuple[Any, ...]) -> QueuedMessage:
    """The message of a row with `MESSAGE_COLUMNS`. Raises `BodyDamaged`."""
    try:
        number, received_at, size, own, facts, body_file, digest, crc = row
        sound = message_crc(number, received_at, size, own, facts, body_file, digest) == crc
        envelope, header = _decode_facts(json.loads(facts)) if sound else (None, None)
    except Exception as error:
        raise BodyDamaged(f"message row {row[0]!r} cannot be read: {type(error).__name__}") from error
    if envelope is None or header is None:
        raise BodyDamaged(f"message row {number} does not match its checksum")
    return QueuedMessage(
        number=number,
        queue_id=make_queue_id(spool, number),
        received_at=received_at,
        envelope=envelope,
        size=size,
        header=header,
        body_file=body_file,
        digest=digest,
        generation=generation,
    )


def encode_recipient(new: NewRecipient) -> str:
    """What was received of one RCPT; of what was forwarded also by whom."""
    one = new.address
    way = f",{_encode(new.via)},{_encode(new.kept)},{_encode(new.through)}" if new.via else ""
    return f"[{text(one.wire)},{text(one.local)},{text(one.domain)},{text(new.notify)},{text(new.orcpt)}{way}]"


def recipient_crc(number: int, own: int, facts: str) -> int:
    """Checksum of what a recipient row says about the recipient itself."""
    return zlib.crc32(f"{number} {own} {facts}".encode("ascii", "backslashreplace"))


def decode_recipient(row: tuple[Any, ...]) -> QueuedRecipient:
    """The recipient of a row with `RECIPIENT_COLUMNS`. Raises `BodyDamaged`."""
    try:
        return _decode_recipient(row)
    except BodyDamaged:
        raise
    except Exception as error:
        raise BodyDamaged(f"recipient row {row[0]!r} cannot be read: {type(error).__name__}") from error


def decode_wire(facts: str) -> str:
    """The received address out of a recipient's facts, or '' when they cannot be read (for journal and lists)."""
    try:
        # The first value alone: this is done for every recipient that leaves.
        return str(_decode(facts, 1)[0] if facts.startswith("[") else json.loads(facts)[0])
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""


def decode_via(facts: str) -> tuple[str, ...]:
    """The mailboxes for which a recipient was forwarded, or () when its facts cannot be read."""
    try:
        return tuple(map(str, json.loads(facts)[5]))
    except (ValueError, LookupError, TypeError, RecursionError):
        return ()


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _decode_facts(facts: dict[str, Any]) -> tuple[Envelope, HeaderFacts]:
    address, port, name, helo, protocol, trusted, tls = facts["client"]
    envelope = Envelope(
        sender=facts["sender"],
        client=Client(address, port, name, helo, protocol, trusted, tls),
        body=facts.get("body", ""),
        smtputf8=facts.get("smtputf8", False),
        ret=facts.get("ret", ""),
        envid=facts.get("envid", ""),
    )
    header = HeaderFacts(
        message_id=facts.get("message_id", ""),
        received_count=facts["received"],
        auto_submitted=facts.get("auto_submitted", False),
        marks=tuple(facts.get("marks", ())),
    )
    return envelope, header


def _decode_recipient(row: tuple[Any, ...]) -> QueuedRecipient:
    number, state, lane, mailbox, due, attempts, clock, unknown, draining, duplicate, notified, own, why, facts, crc = (
        row
    )
    if recipient_crc(number, own, facts) != crc:
        raise BodyDamaged(f"recipient row {number} does not match its checksum")
    if not (math.isfinite(due) and math.isfinite(clock) and attempts >= 0):
        raise BodyDamaged(f"recipient row {number} has impossible values")
    wire, local, domain, notify, orcpt, *more = json.loads(facts)
    via, kept, through = more or ((), (), ())
    return QueuedRecipient(
        number=number,
        address=Address(wire, local, domain),
        notify=notify,
        orcpt=orcpt,
        state=State(state),
        lane=lane,
        mailbox=mailbox,
        due=due,
        attempts=attempts,
        clock_start=clock,
        unknown_since=unknown,
        draining=bool(draining),
        possible_duplicate=bool(duplicate),
        delay_notified=bool(notified),
        reason=why,
        via=tuple(via),
        kept=tuple(kept),
        through=tuple(through),
    )
