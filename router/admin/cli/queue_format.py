"""
The queue as text and as JSON: the layout of `mailq`, the field names of Postfix's `postqueue -j`, age buckets.

Pure. Guarantees: one message is one record however many recipients it has; the null sender is shown as
`MAILER-DAEMON`, as Postfix does. Text from outside (addresses, replies) is handed on as it is: `Output` escapes it.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from router.model.mailbox import Hold
from router.spool.finding import QueueEntry

NULL_SENDER = "MAILER-DAEMON"
HEADING = f"{'-Queue ID-':<17} {'--Size--':>8} {'---Arrival Time----':<19} -Sender/Recipient-------"
_INDENT = " " * 47
_WAITING = "queued"
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Listed:
    """One message with those of its recipients that were asked for, in their order."""

    entries: tuple[QueueEntry, ...]

    @property
    def first(self) -> QueueEntry:
        return self.entries[0]


@dataclass(slots=True)
class Sums:
    """What a list has gone through so far."""

    messages: int = 0
    recipients: int = 0
    octets: int = 0

    def add(self, message: Listed) -> None:
        self.messages += 1
        self.recipients += len(message.entries)
        self.octets += message.first.size

    def closing_line(self) -> str:
        """The last line of `mailq`."""
        if not self.messages:
            return "Mail queue is empty"
        plural = "" if self.messages == 1 else "s"
        return f"-- {-(-self.octets // _KIB)} Kbytes in {self.messages} Request{plural}."


@dataclass(frozen=True, slots=True)
class Windows:
    """The open holds by mailbox key: what a queue entry of a held mailbox waits for. `now` is wall-clock seconds."""

    holds: Mapping[str, Hold] = field(default_factory=dict)
    now: float = 0.0

    def of(self, entry: QueueEntry) -> Hold | None:
        return self.holds.get(entry.mailbox) if entry.mailbox else None


def messages(entries: Iterable[QueueEntry]) -> Iterator[Listed]:
    """Entries in order of arrival, gathered by message."""
    for _, group in groupby(entries, key=lambda entry: entry.queue_id):
        yield Listed(tuple(group))


def queue_name(message: Listed, now: float) -> str:
    """Postfix's name for where it is: `hold`: nothing is to be tried; `active`: something is due; else `deferred`."""
    waiting = [entry for entry in message.entries if entry.state == _WAITING]
    if not waiting:
        return "hold"
    return "active" if any(entry.draining or entry.due <= now for entry in waiting) else "deferred"


def as_json(message: Listed, windows: Windows) -> dict[str, Any]:
    """One line of `queue list --json`."""
    first = message.first
    return {
        "queue_name": queue_name(message, windows.now),
        "queue_id": first.queue_id,
        "arrival_time": int(first.received_at),
        "message_size": first.size,
        "forced_expire": False,
        "sender": first.sender or NULL_SENDER,
        "recipients": [_recipient(entry, windows) for entry in message.entries],
        "message_id": first.message_id,
        "own": first.own,
    }


def _recipient(entry: QueueEntry, windows: Windows) -> dict[str, Any]:
    hold = windows.of(entry)
    found: dict[str, Any] = {"address": entry.recipient}
    if entry.reason:
        found["delay_reason"] = entry.reason
    return found | {
        "route": entry.lane,
        "state": entry.state,
        "mailbox": entry.mailbox,
        "batch": hold.batch if hold else "",
        "hold": hold.number if hold else None,
        "hold_until": hold.deadline if hold else None,
        "due": entry.due if entry.state == _WAITING else None,
        "attempts": entry.attempts,
        "possible_duplicate": entry.possible_duplicate,
    }


def as_mailq(message: Listed, windows: Windows) -> Iterator[str]:
    """The lines of one message as `mailq` shows it; `!` marks one of which nothing is to be tried."""
    first = message.first
    mark = "!" if queue_name(message, windows.now) == "hold" else ""
    head = f"{first.queue_id + mark:<17} {first.size:>8} {clock(first.received_at):<19} "
    yield head + (first.sender or NULL_SENDER)
    told = ""
    for entry in message.entries:
        reason = why(entry, windows)
        if reason and reason != told:
            yield f"{'':>10}({reason})"
        told = reason
        yield _INDENT + entry.recipient
    yield ""


def why(entry: QueueEntry, windows: Windows) -> str:
    """Why it is still here, for a person; '' for mail not tried yet."""
    hold = windows.of(entry)
    if entry.state == "held":
        return _held(entry, hold)
    if entry.state != _WAITING:
        return f"{entry.state}: {entry.reason}" if entry.reason else entry.state
    return entry.reason


def _held(entry: QueueEntry, hold: Hold | None) -> str:
    words = [f"held for {entry.mailbox}"]
    if hold is not None:
        words.append(f"hold {hold.number}")
        words += [f"batch {hold.batch}"] if hold.batch else []
        words += [f"until {clock(hold.deadline)}"] if hold.deadline is not None else []
    return ", ".join(words)


def clock(at: float) -> str:
    """A time as `mailq` prints it, in local time."""
    try:
        return time.strftime("%a %b %e %H:%M:%S", time.localtime(at))
    except (OverflowError, ValueError, OSError):
        return "unknown"
