"""
What can still be told of the mail in a damaged spool: which recipients are undelivered, which were closed, and which
nobody can tell.

A recipient is *undelivered* when its row is there, matches its checksum, and the journal does not say that it was
closed. Where the row is doubtful (it may be an old version of a page) the journal must have no gap besides. It was
*closed before* when the journal says so. Everything else is *untold*: for people to look at.

Guarantees: reads only; the body of what is undelivered matches its checksum. Memory grows by some hundred octets a
recipient. On failure: `OSError` when the directory cannot be read.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from router.errors import BodyDamaged
from router.model.envelope import Client, Envelope, HeaderFacts, QueuedMessage, QueuedRecipient
from router.model.outcome import Disposition, JournalRow
from router.spool.bodies import BODIES, verify_inline
from router.spool.journal import rows_in_files
from router.spool.numbering import MAX_RECIPIENTS, make_queue_id, message_of, parse_queue_id, place_of
from router.spool.place import JOURNAL
from router.spool.salvage_pages import Pages, Sighting
from router.spool.schema import DATABASE

_BROKEN = 10_000
"""Rows told by number at most; more are counted."""


@dataclass(frozen=True, slots=True)
class Salvaged:
    """
    What is known of one message. `why` says what is wrong with it as a whole, '' when its body can be given back.

    `content` is the verified body, or as much as there is of it when `why` is not empty.
    """

    message: QueuedMessage
    own: int
    content: bytes
    why: str
    undelivered: tuple[QueuedRecipient, ...]
    closed: int
    untold: tuple[QueuedRecipient, ...]
    orphan: bool = False
    """None of its recipients is left to be read, and it was not simply delivered long ago."""


@dataclass(slots=True)
class _Known:
    """Where the rows are, by number; the least doubtful sighting of each."""

    messages: dict[int, Sighting] = field(default_factory=dict)
    recipients: dict[int, Sighting] = field(default_factory=dict)
    closed: set[tuple[str, str, bool]] = field(default_factory=set)
    """Queue-id, address, and whether a forward closed it."""
    gone: set[int] = field(default_factory=set)
    """Messages of which a recipient was closed."""
    numbers: list[tuple[int, int]] = field(default_factory=list)
    """Runs of journal numbers."""


class Salvage:
    """One walk through the directory of spool `number`. Blocks; close it."""

    def __init__(self, directory: Path, number: int) -> None:
        self._directory = directory
        self._number = number
        self._pages = Pages(directory / DATABASE)
        self._known = _Known()
        self.broken: dict[int, str] = {}
        """Rows that do not match their checksum, by number; bounded."""
        self.memory: dict[str, str] = {}
        """`uuid` and `epoch` of the control database that the spool followed, where they can be read."""
        self._gather()
        self._read_journal()
        self.complete = len(_merged(self._known.numbers)) <= 1
        """The journal has no gap."""

    def close(self) -> None:
        self._pages.close()

    def messages(self) -> Iterator[Salvaged]:
        """Every message of which anything is left, in order of arrival."""
        places: dict[int, list[int]] = {}
        for number in sorted(self._known.recipients):
            places.setdefault(message_of(number), []).append(number)
        for number in sorted({*places, *self._known.messages}):
            yield self._message(number, places.get(number, []))

    def _gather(self) -> None:
        for seen in self._pages.sightings(self._number):
            match seen.kind:
                case "message":
                    _keep(self._known.messages, seen)
                case "recipient":
                    _keep(self._known.recipients, seen)
                case "journal":
                    self._note(seen.value)
                case "meta":
                    self._remember(*seen.value)
                case "broken" if len(self.broken) < _BROKEN:
                    self.broken[seen.number] = seen.value
        for number in [one for one in self.broken if one in self._known.messages or one in self._known.recipients]:
            del self.broken[number]  # an older or newer version of it is sound

    def _remember(self, name: str, value: str) -> None:
        """The highest epoch of all: an older version of the page is no older database."""
        newer = name == "epoch" and value.isdecimal() and int(value) >= int(self.memory.get(name, "0"))
        if newer or (name == "uuid" and value):
            self.memory[name] = value

    def _read_journal(self) -> None:
        wanted = {*self._known.messages, *map(message_of, self._known.recipients)}
        for row in rows_in_files(self._directory / JOURNAL):
            self._note(row, wanted)

    def _note(self, row: JournalRow, wanted: set[int] | None = None) -> None:
        runs = self._known.numbers
        if runs and runs[-1][1] + 1 == row.number:
            runs[-1] = (runs[-1][0], row.number)
        else:
            runs.append((row.number, row.number))
        if row.disposition in _CLOSING and (wanted is None or _message_number(row.queue_id) in wanted):
            forwarded = row.disposition == Disposition.FORWARDED.value
            self._known.gone.add(_message_number(row.queue_id))
            self._known.closed.add((row.queue_id, row.recipient, forwarded))

    def _message(self, number: int, places: list[int]) -> Salvaged:
        message, own, content, why = self._content(number)
        undelivered, untold, closed = [], [], 0
        for place in places:
            seen = self._known.recipients[place]
            one = self._pages.recipient(seen)
            if self._is_closed(message.queue_id, one):
                closed += 1
            elif why or (seen.version.doubtful and not self.complete):
                untold.append(one)
            else:
                undelivered.append(replace(one, possible_duplicate=one.possible_duplicate or seen.version.doubtful))
        orphan = not places and not (number in self._known.gone and self._known.messages[number].version.doubtful)
        return Salvaged(message, own, content, why, tuple(undelivered), closed, tuple(untold), orphan)

    def _is_closed(self, queue_id: str, one: QueuedRecipient) -> bool:
        # What a forward opened may have the address of what it was opened for: that one's closing is not its own.
        of_client = place_of(one.number) < MAX_RECIPIENTS
        wire, closed = one.address.wire, self._known.closed
        return (queue_id, wire, False) in closed or (of_client and (queue_id, wire, True) in closed)

    def _content(self, number: int) -> tuple[QueuedMessage, int, bytes, str]:
        seen = self._known.messages.get(number)
        if seen is None:
            empty = QueuedMessage(
                number, make_queue_id(self._number, number), 0.0, Envelope("", Client("")), 0, HeaderFacts()
            )
            return empty, 0, b"", "the row of the message cannot be read"
        message, own, body = self._pages.message(self._number, seen)
        raw = body if isinstance(body, bytes) else b""
        try:
            if message.body_file:
                raw = self._from_file(message)
            return message, own, verify_inline(message, raw), ""
        except BodyDamaged as error:
            return message, own, raw, str(error)

    def _from_file(self, message: QueuedMessage) -> bytes:
        path = self._directory / BODIES / message.body_file
        try:
            return path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        except OSError as error:
            raise BodyDamaged(f"{message.queue_id}: {error.strerror}") from error


_CLOSING = frozenset(one.value for one in Disposition if one.closing)


def _keep(found: dict[int, Sighting], seen: Sighting) -> None:
    """The first that is not doubtful stays, otherwise the last."""
    former = found.get(seen.number)
    if former is None or former.version.doubtful:
        found[seen.number] = seen


def _message_number(queue_id: str) -> int:
    try:
        return parse_queue_id(queue_id)[1]
    except ValueError:
        return 0


def _merged(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The runs as few as possible."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(runs):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found
