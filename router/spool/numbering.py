"""
Queue-ids and recipient numbers: how a spool names what it keeps.

A queue-id is the spool's number in four decimal digits followed by the message number in at least eight upper-case
hexadecimal digits, so it looks like a Postfix queue-id to log readers and leads back to its spool. A recipient's
number is made of its message's number and its place in that message; since message numbers are never reused,
neither are recipient numbers, and the numeric order of recipients is their order of arrival.

Recipients that a client gave us have the lower half of a message's places, those that forwards open the upper half.

On failure: `parse_queue_id` raises `ValueError` for anything that is not exactly such an id.
"""

import re

_RECIPIENT_BITS = 16
MAX_RECIPIENTS = 1 << (_RECIPIENT_BITS - 1)
"""In one message, of those that a client gave us."""
LAST_PLACE = (1 << _RECIPIENT_BITS) - 1
MAX_SPOOL = 9999
_MAX_MESSAGE = (1 << 46) - 1
"""The recipient numbers made from it still fit SQLite's signed 64-bit integers."""
_QUEUE_ID = re.compile(r"([0-9]{4})([0-9A-F]{8,12})")


def make_queue_id(spool: int, message: int) -> str:
    """
    The public name of a message.

    >>> make_queue_id(3, 41970)
    '00030000A3F2'
    """
    return f"{spool:04d}{message:08X}"


def parse_queue_id(text: str) -> tuple[int, int]:
    """
    Spool number and message number of a queue-id; `ValueError` if it is none.

    >>> parse_queue_id("00030000A3F2")
    (3, 41970)
    """
    match = _QUEUE_ID.fullmatch(text)
    if match is None:
        raise ValueError("not a queue-id")
    message = int(match[2], 16)
    if not 0 < message <= _MAX_MESSAGE or make_queue_id(int(match[1]), message) != text:
        raise ValueError("not a queue-id")
    return int(match[1]), message


def recipient_number(message: int, place: int) -> int:
    """Number of the recipient at `place` (from 0) of a message."""
    return message << _RECIPIENT_BITS | place


def message_of(recipient: int) -> int:
    """Message number of a recipient."""
    return recipient >> _RECIPIENT_BITS


def place_of(recipient: int) -> int:
    """Place of a recipient in its message."""
    return recipient & LAST_PLACE


def recipient_range(message: int) -> tuple[int, int]:
    """Lowest and highest recipient number a message can have."""
    return message << _RECIPIENT_BITS, (message + 1 << _RECIPIENT_BITS) - 1
