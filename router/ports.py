"""
The protocols between stations. A station is handed these in its constructor and imports no other station.

Each says what it promises and how it fails; there is an in-memory or real implementation of every one in the tests.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Protocol

from router.model.address import Address
from router.model.directory import Cookie, DirectoryItem, Fetched, Polled, Standpoint, Unplaced, Wanted
from router.model.envelope import Envelope, HeaderFacts, NewRecipient, QueuedMessage, Work
from router.model.mailbox import Found
from router.model.outcome import JournalRow, Outcome
from router.model.parcel import Parcel, Report, Settled, Verdict
from router.model.reply import Reply
from router.model.route import Classification, DispatchFacts, Route


class Clock(Protocol):
    """Wall time for what is written down, monotonic time for intervals; both in seconds."""

    def wall(self) -> float: ...
    def monotonic(self) -> float: ...


class BodyWriter(Protocol):
    """Takes a message while it arrives: in memory up to the spool's threshold, then in a file. Bounded memory."""

    size: int

    async def write(self, block: bytes) -> None:
        """Append one block (canonical CRLF, dots unstuffed). Raises `SpoolUnavailable`, `SpoolFull`."""

    async def discard(self) -> None:
        """Give it up; idempotent, never raises, also fine after a failed write."""


class Intake(Protocol):
    """The accepting end of a spool."""

    def open_body(self) -> BodyWriter: ...

    async def accept(
        self,
        envelope: Envelope,
        recipients: Sequence[NewRecipient],
        body: BodyWriter,
        header: HeaderFacts,
        received_at: float,
        *,
        company: int = 0,
    ) -> Work:
        """
        Make the message durable; on return it survives kill -9 and power cut (promise 1).

        A failed commit is unknown, not undone: `SpoolUnavailable`, the client gets 4xx, a duplicate is allowed.
        Shielded from cancellation by the caller. `company`: how many clients are at work at this moment; where these
        are many, it may wait some milliseconds for their mail.
        """

    def unhealthy(self) -> Reply | None:
        """Why MAIL should be refused now (disk, I/O errors), or None. No I/O: called for every MAIL."""

    def pause(self) -> float:
        """Seconds that MAIL should wait because the disk runs short; 0 where it does not. No I/O."""


class Queue(Protocol):
    """The delivering end of a spool. Reads run off the event loop; writes commit before they return."""

    async def due(self, lane: str, now: float, limit: int) -> list[Work]:
        """Queued, not draining recipients of `lane` due by `now`, oldest due first, at most `limit` recipients."""

    async def draining(self, mailbox: str, limit: int, octets: int = 0) -> list[Work]:
        """
        Released recipients of one mailbox not yet tried, in order of arrival; one recipient per Work. Small bodies are
        at hand in `inline`, the first ones, at most so many octets of them all.
        """

    async def draining_mailboxes(self) -> list[str]:
        """Mailboxes with draining recipients (at start)."""

    async def lanes(self, now: float) -> list[tuple[str, float]]:
        """Each lane with queued recipients and its earliest due time. Cheap however long the queue is."""

    async def held_mailboxes(self) -> list[str]:
        """Mailboxes with held recipients (at start, to compare with the open holds)."""

    async def settle(
        self, message: QueuedMessage, outcomes: Sequence[Outcome], report: Report | None = None, *, urgent: bool = False
    ) -> Settled:
        """
        Commit outcomes and their journal rows in one transaction, batched at most 5 ms (not at all if `urgent`); a
        report (DSN) of the same message is queued in that transaction. Idempotent per closed recipient: one that is
        gone already is skipped.
        """

    async def release(self, mailboxes: Sequence[str], now: float) -> int:
        """Held and queued recipients of these mailboxes become queued, draining, due now, clock restarted; count."""

    async def reroute(self, mailboxes: Sequence[str], now: float) -> int:
        """Queued recipients of these mailboxes forget their lane and are due now (a home or status changed); count."""

    async def revive(self, now: float) -> int:
        """Parked recipients whose `Outcome.due` has come are queued again, routed anew (promise 6); count."""

    async def queued_mailboxes(self) -> list[str]:
        """
        Mailboxes with queued recipients (after an unclean end: all of them count as in doubt); '' among them stands
        for somebody, nobody knows whom.
        """

    async def wake(self, lane: str, now: float) -> int:
        """No queued recipient of a lane is due later than `now` (a store resumed, a clock set back); how many were."""

    async def body(self, message: QueuedMessage) -> AsyncIterator[bytes]:
        """
        The body in blocks of at most 64 KiB, its checksum verified before the first, or before the last ones of a large
        one. Raises `BodyDamaged`.
        """

    async def head(self, message: QueuedMessage, limit: int) -> bytes:
        """The first `limit` octets (for a DSN). Raises `BodyDamaged`."""


class Classifier(Protocol):
    """Address to classification; the cache in front of the sources."""

    def known(self, address: Address) -> Classification | None:
        """The cached, still valid answer, synchronously; None means: ask. Never stale beyond the applied epoch."""

    async def classify(self, address: Address) -> Classification:
        """Ask the sources if needed. Raises `LookupFailed` (temporary) or `BadRouteData`; never guesses."""


class MailboxSource(Protocol):
    """One directory, in the order of the configuration. Runs off the event loop, concurrent callers are gathered."""

    async def find(self, keys: Sequence[str]) -> Found:
        """
        Mailboxes of the address keys, read in one transaction with its epoch. Raises `LookupFailed`.

        A key that is absent from the answer is authoritatively unknown to this source.
        """

    async def populated(self, domain: str) -> bool:
        """Whether this source knows anybody in the domain (promise 5: an empty domain answers 451)."""


class Beyond(Protocol):
    """The directories behind the mirror. Off the event loop; concurrent callers are gathered."""

    async def fetch(self, keys: Sequence[str]) -> Fetched:
        """
        Ask all directories, now, for address keys that the mirror does not have, and take in what they say.

        Never raises: what could not be asked is doubtful. Nobody waits longer than the directories' deadline.
        """


class Router(Protocol):
    """Pure: classification and time to route."""

    def at_reception(self, found: Classification, now: float) -> Route: ...

    def at_dispatch(self, found: Classification, facts: DispatchFacts, now: float) -> Route: ...


class Gate(Protocol):
    """
    A delivery's permit, held while one message is on its way to one next hop (barrier.md 1, 6).

    Cancelling is done by aborting the connection; it can only happen before `pass_dot` has returned True.
    """

    def stage(self, name: str) -> None:
        """Tell what the delivery is at: connect, tls, mail, rcpt, data, dot."""

    def attach(self, abort: Callable[[], None]) -> None:
        """
        Called once at the start of a `send`: `abort` calls the delivery back at once, wherever it is before the
        final dot; afterwards it does nothing. It is synchronous, idempotent and never raises.
        """

    def pass_dot(self) -> bool:
        """Called synchronously right before the final dot is written. False: cancelled, write nothing more."""


class Sender(Protocol):
    """Delivers parcels to one lane's hosts over pooled connections."""

    async def send(self, parcel: Parcel, gate: Gate) -> Sequence[Verdict]:
        """One verdict per recipient, in order. Never raises for what a next hop does; raises CancelledError only."""

    async def close(self) -> None: ...


class Filter(Protocol):
    """The filter port of the accepting side: None passes, a 4xx or 5xx reply refuses. Must not block."""

    async def connect(self, client: str) -> Reply | None: ...
    async def rcpt(self, envelope: Envelope, address: Address) -> Reply | None: ...
    async def data(self, envelope: Envelope, header: HeaderFacts) -> Reply | None: ...


class Journal(Protocol):
    """Reads back what became of messages, from the spool and its monthly files."""

    def rows(self, match: Callable[[JournalRow], bool], limit: int) -> list[JournalRow]: ...


class DirectoryReader(Protocol):
    """Looks addresses up in one directory, now. Off the event loop; concurrent callers are gathered into one search."""

    async def find(self, keys: Sequence[str]) -> Sequence[DirectoryItem]:
        """
        The entries that have any of these address keys, and their domains' entries; none: nobody has them.

        Raises `LookupFailed` for everything that is not a complete answer, within the configured deadline.
        """

    async def close(self) -> None: ...


class DirectoryFeed(Protocol):
    """What has changed in one directory. Blocking; every method may be repeated, and raises `LookupFailed`."""

    def poll(self, since: Cookie) -> Polled:
        """Everything that was added or changed since; cheap when nothing was. Repeats of what was told may come."""

    def sweep(self) -> Iterator[Sequence[DirectoryItem | Unplaced]]:
        """Every entry there is, page by page; ends normally only when the directory was read to its end."""

    def cookie(self) -> Cookie:
        """Where a poll has to begin for what changes from now on; taken before a sweep."""

    def close(self) -> None: ...


class Room(Protocol):
    """Whether a file descriptor with this number may be kept. `favoured`: for a known client, or for a message."""

    def __call__(self, number: int, *, favoured: bool) -> bool: ...


class DirectoryWriter(Protocol):
    """
    Writes status and home into one directory's master. Blocking. Each write is one modify that names the old value
    and the new one, so that the server itself compares and sets.

    Raises `LookupFailed` when the directory cannot be reached or refuses, `Conflict` when the entry is not as told.
    """

    source: str
    """The directory's name, as in `Mailbox.source`."""
    writes_status: bool
    writes_home: bool
    hold_value: str
    """The value of the status attribute that means a hold."""

    def read(self, dn: str) -> Standpoint:
        """The entry as the master has it now. Raises `NotFound` when it is gone."""

    def write(self, before: Standpoint, wanted: Wanted) -> Standpoint:
        """Make it so, compared with `before`; read back. What is as wanted already is not written."""

    def ldif(self, before: Standpoint, wanted: Wanted) -> str:
        """What `write` would send (RFC 2849)."""

    def host_of(self, store: str) -> str:
        """The value of the home attribute that means this store. Raises `NotFound` when the configuration has none."""

    def close(self) -> None: ...
