"""
In-memory counterparts of the data plane's ports, for tests that decide the order of events themselves.

`MemorySpool` is the reference implementation of `Intake` and `Queue`: the same promises, in dictionaries. `World` is
the routing state with epochs. `StagedSender` delivers to a list, and can be stopped at any stage of a transaction.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from router.model.address import Address, parse_address
from router.model.change import Blocking, Change, ChangeKind, ChangeSet, Ended
from router.model.envelope import (
    Client,
    Envelope,
    HeaderFacts,
    NewRecipient,
    QueuedMessage,
    QueuedRecipient,
    RecipientState,
    Work,
)
from router.model.mailbox import Hold, Mailbox
from router.model.outcome import Disposition, Outcome
from router.model.parcel import Parcel, Report, Settled, Verdict
from router.model.reply import HopReply, Reply
from router.model.route import Classification, Kind
from router.ports import BodyWriter, Gate


class SteppedClock:
    """Time that moves only when a test says so."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now
        self.set_by = 0.0
        """Seconds by which somebody has set the wall clock."""

    def wall(self) -> float:
        return self.now + self.set_by

    def monotonic(self) -> float:
        return self.now


@dataclass
class Row:
    """A recipient in the memory spool; `taken` counts its releases."""

    message: QueuedMessage
    recipient: QueuedRecipient
    released_at: float = -1.0
    order: int = 0


class MemoryBody:
    """A body writer into a bytearray."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.size = 0

    async def write(self, block: bytes) -> None:
        self.content += block
        self.size += len(block)

    async def discard(self) -> None:
        self.content.clear()


class MemorySpool:
    """Dictionaries with the spool's promises; each call yields to the loop once, as a commit in a thread would."""

    def __init__(self, clock: SteppedClock) -> None:
        self._clock = clock
        self._messages = 0
        self.rows: dict[int, Row] = {}
        self.bodies: dict[int, bytes] = {}
        self.closed: list[tuple[str, Outcome]] = []
        self.reports: list[Report] = []
        self.settled: list[Outcome] = []
        self.urgent: list[bool] = []
        self.accepted_recipients = 0
        self._opened = 0
        self.before_read: Callable[[], None] = lambda: None

    # Intake

    def open_body(self) -> MemoryBody:
        return MemoryBody()

    def unhealthy(self) -> Reply | None:
        return None

    def pause(self) -> float:
        return 0.0

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
        await asyncio.sleep(0)
        content = bytes(body.content) if isinstance(body, MemoryBody) else b""
        work = self._insert(envelope, recipients, content, header, received_at)
        await asyncio.sleep(0)
        return work

    def _insert(
        self,
        envelope: Envelope,
        recipients: Sequence[NewRecipient],
        content: bytes,
        header: HeaderFacts,
        received_at: float,
    ) -> Work:
        self._messages += 1
        number = self._messages
        message = QueuedMessage(number, f"Q{number}", received_at, envelope, len(content), header, inline=content)
        self.bodies[number] = content
        queued = []
        for place, new in enumerate(recipients):
            state = RecipientState.HELD if new.held else RecipientState.QUEUED
            one = QueuedRecipient(
                number=number * 1000 + place,
                address=new.address,
                notify=new.notify,
                orcpt=new.orcpt,
                state=state,
                lane=new.hint,
                mailbox=new.mailbox,
                due=received_at,
                clock_start=received_at,
                draining=new.draining,
            )
            self.rows[one.number] = Row(message, one, order=one.number)
            queued.append(one)
        self.accepted_recipients += len(queued)
        return Work(message, tuple(queued))

    # Queue

    async def due(self, lane: str, now: float, limit: int) -> list[Work]:
        rows = [
            row
            for row in self._ordered()
            if row.recipient.state is RecipientState.QUEUED
            and not row.recipient.draining
            and row.recipient.lane == lane
            and row.recipient.due <= now
        ][:limit]
        self.before_read()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return self._works(rows)

    async def draining(self, mailbox: str, limit: int, octets: int = 0) -> list[Work]:
        rows = [r for r in self._ordered() if r.recipient.draining and r.recipient.mailbox == mailbox][:limit]
        await asyncio.sleep(0)
        return [Work(row.message, (row.recipient,)) for row in rows]

    async def draining_mailboxes(self) -> list[str]:
        await asyncio.sleep(0)
        return sorted({row.recipient.mailbox for row in self.rows.values() if row.recipient.draining})

    async def lanes(self, now: float) -> list[tuple[str, float]]:
        await asyncio.sleep(0)
        due: dict[str, float] = {}
        for row in self.rows.values():
            one = row.recipient
            if one.state is RecipientState.QUEUED and not one.draining:
                due[one.lane] = min(one.due, due.get(one.lane, one.due))
        return list(due.items())

    async def held_mailboxes(self) -> list[str]:
        await asyncio.sleep(0)
        return sorted({r.recipient.mailbox for r in self.rows.values() if r.recipient.state is RecipientState.HELD})

    async def queued_mailboxes(self) -> list[str]:
        await asyncio.sleep(0)
        return sorted({r.recipient.mailbox for r in self.rows.values() if r.recipient.mailbox})

    async def settle(
        self, message: QueuedMessage, outcomes: Sequence[Outcome], report: Report | None = None, *, urgent: bool = False
    ) -> Settled:
        await asyncio.sleep(0)
        self.urgent.append(urgent)
        opened: list[QueuedRecipient] = []
        for outcome in outcomes:
            self._settle_one(outcome, opened)
        if report is not None:
            self.reports.append(report)
        await asyncio.sleep(0)
        return Settled(len(outcomes), opened=Work(message, tuple(opened)) if opened else None)

    def _open(self, row: Row, outcome: Outcome) -> list[QueuedRecipient]:
        opened = []
        for new in outcome.opens:
            self._opened += 1
            number = row.message.number * 1000 + 500 + self._opened % 500
            one = QueuedRecipient(
                number, new.address, new.notify, new.orcpt, lane=new.hint, mailbox=new.mailbox, due=outcome.at,
                clock_start=row.recipient.clock_start, draining=new.draining, via=new.via, kept=new.kept,
                through=new.through,
            )  # fmt: skip
            self.rows[number] = Row(row.message, one, order=number)
            opened.append(one)
        return opened

    def _settle_one(self, outcome: Outcome, opened: list[QueuedRecipient]) -> None:
        row = self.rows.get(outcome.recipient)
        if row is None:
            return
        self.settled.append(outcome)
        opened += self._open(row, outcome)
        if outcome.disposition.closing:
            del self.rows[outcome.recipient]
            self.closed.append((row.recipient.address.key, outcome))
            return
        one = row.recipient
        attempts = one.attempts + (1 if outcome.counted else 0)
        if outcome.disposition is Disposition.DEFERRED:
            raced = row.released_at > outcome.since and one.draining
            row.recipient = replace(
                one,
                lane=outcome.lane,
                mailbox=outcome.mailbox,
                due=one.due if raced else outcome.due,
                attempts=attempts,
                draining=raced,
                unknown_since=outcome.unknown_since,
                possible_duplicate=one.possible_duplicate or outcome.in_doubt,
                delay_notified=one.delay_notified or outcome.delay_notified,
            )
            return
        states = {
            Disposition.HELD: RecipientState.HELD,
            Disposition.PARKED: RecipientState.PARKED,
            Disposition.QUARANTINED: RecipientState.QUARANTINED,
        }
        state = states[outcome.disposition]
        row.recipient = replace(
            one, state=state, mailbox=outcome.mailbox, due=outcome.due, draining=False, reason=outcome.note
        )

    async def release(self, mailboxes: Sequence[str], now: float) -> int:
        await asyncio.sleep(0)
        count = 0
        for row in self.rows.values():
            one = row.recipient
            if one.mailbox in mailboxes and one.state in {RecipientState.HELD, RecipientState.QUEUED}:
                row.recipient = replace(one, state=RecipientState.QUEUED, draining=True, due=now, clock_start=now)
                row.released_at = now
                count += 1
        await asyncio.sleep(0)
        return count

    async def reroute(self, mailboxes: Sequence[str], now: float) -> int:
        await asyncio.sleep(0)
        count = 0
        for row in self.rows.values():
            one = row.recipient
            if one.mailbox in mailboxes and one.state is RecipientState.QUEUED and not one.draining:
                row.recipient = replace(one, lane="", due=min(one.due, now))
                count += 1
        return count

    async def revive(self, now: float) -> int:
        await asyncio.sleep(0)
        count = 0
        for row in self.rows.values():
            one = row.recipient
            if one.state is RecipientState.PARKED and 0 < one.due <= now:
                row.recipient = replace(one, state=RecipientState.QUEUED, lane="", due=now)
                count += 1
        return count

    async def wake(self, lane: str, now: float) -> int:
        await asyncio.sleep(0)
        count = 0
        for row in self.rows.values():
            one = row.recipient
            if one.state is RecipientState.QUEUED and not one.draining and one.lane == lane and one.due > now:
                row.recipient = replace(one, due=now)
                count += 1
        return count

    async def body(self, message: QueuedMessage) -> AsyncIterator[bytes]:
        await asyncio.sleep(0)

        async def blocks() -> AsyncIterator[bytes]:
            yield self.bodies[message.number]

        return blocks()

    async def head(self, message: QueuedMessage, limit: int) -> bytes:
        await asyncio.sleep(0)
        return self.bodies[message.number][:limit]

    def _ordered(self) -> list[Row]:
        return sorted(self.rows.values(), key=lambda row: (row.recipient.due, row.order))

    def _works(self, rows: Sequence[Row]) -> list[Work]:
        by_message: dict[int, tuple[QueuedMessage, list[QueuedRecipient]]] = {}
        for row in rows:
            by_message.setdefault(row.message.number, (row.message, []))[1].append(row.recipient)
        return [Work(message, tuple(recipients)) for message, recipients in by_message.values()]


@dataclass
class World:
    """Mailboxes with homes and holds, an epoch, and the changes of each: what the control database would say."""

    domain: str = "example.edu"
    epoch: int = 1
    mailboxes: dict[str, Mailbox] = field(default_factory=dict)
    lists: dict[str, str] = field(default_factory=dict)
    holds: int = 0

    def add(self, local: str, home: str, *forwards: str, keeps: bool = True, **more: Any) -> str:
        key = f"{local}@{self.domain}"
        self.mailboxes[key] = Mailbox(key, home, forwards=forwards, keeps=keeps, **more)
        return key

    def hold(self, key: str, now: float = 0.0) -> Hold:
        self.epoch += 1
        self.holds += 1
        hold = Hold(self.holds, now, self.epoch)
        self.mailboxes[key] = replace(self.mailboxes[key], hold=hold)
        return hold

    def release(self, key: str, home: str = "", now: float = 0.0) -> None:
        self.epoch += 1
        box = self.mailboxes[key]
        self.mailboxes[key] = replace(box, hold=None, home=home or box.home, moved_at=now)

    def change(self, *keys: str) -> ChangeSet:
        changes = tuple(Change(self.epoch, ChangeKind.MAILBOX, key) for key in keys)
        return ChangeSet(self.epoch, changes, {key: self.mailboxes[key].hold for key in keys})

    def classify(self, address: Address) -> Classification:
        box = self.mailboxes.get(address.key)
        if box is not None:
            return Classification(address, Kind.MAILBOX, self.epoch, mailbox=box, chain=(box.key,))
        if address.key in self.lists:
            return Classification(address, Kind.LIST, self.epoch, store=self.lists[address.key])
        if address.domain == self.domain:
            return Classification(address, Kind.UNKNOWN, self.epoch)
        return Classification(address, Kind.FOREIGN, self.epoch)


class WorldClassifier:
    """A classifier with a cache that forgets by change; `slow` can hold back a lookup that has been sent."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._cache: dict[str, Classification] = {}
        self._applied = 0
        self._changed: dict[str, int] = {}
        self.slow: asyncio.Event | None = None
        self.lookups = 0

    def known(self, address: Address) -> Classification | None:
        return self._cache.get(address.key)

    async def classify(self, address: Address) -> Classification:
        while True:
            found = self._world.classify(address)
            self.lookups += 1
            if self.slow is not None:
                await self.slow.wait()
            await asyncio.sleep(0)
            if self._changed.get(address.key, 0) <= found.epoch:
                self._cache[address.key] = found
                return found

    def apply(self, changes: ChangeSet) -> None:
        for change in changes.changes:
            self._cache.pop(change.key, None)
            self._changed[change.key] = change.epoch


@dataclass(frozen=True)
class Arrival:
    """What a store has taken, when, and under which epoch of the world."""

    lane: str
    wire: str
    queue_id: str
    epoch: int


class StagedSender:
    """
    A next hop in memory. `pause` names the stage at which a transaction stops until `resume` is set; `answer` gives
    the reply per RCPT; with `vanish` the connection ends after the dot without a reply.
    """

    STAGES = ("connect", "mail", "rcpt", "data", "dot", "reply")

    def __init__(self, lane: str, world: World, arrivals: list[Arrival]) -> None:
        self._lane = lane
        self._world = world
        self._arrivals = arrivals
        self.pause = ""
        self.reached = asyncio.Event()
        self.resume = asyncio.Event()
        self.answer: Callable[[str], HopReply] = lambda _wire: HopReply(250, "2.0.0", "ok", "store")
        self.vanish = False
        self.refuse_connection = False
        self.running = 0
        self.most = 0

    async def send(self, parcel: Parcel, gate: Gate) -> Sequence[Verdict]:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._send(parcel, gate)
        finally:
            self.running -= 1

    async def _send(self, parcel: Parcel, gate: Gate) -> Sequence[Verdict]:
        aborted = asyncio.Event()
        gate.attach(aborted.set)
        if self.refuse_connection:
            reply = HopReply(451, "4.4.1", "connection refused", said_by_hop=False)
            return [Verdict(r.number, reply, unreachable=True) for r in parcel.recipients]
        said: dict[str, HopReply] = {}
        for stage in self.STAGES:
            if stage == "reply":
                if not gate.pass_dot():
                    return self._nothing(parcel)
                # What the store does and what it says are one: a test may change its mind before the reply is read.
                said = {r.wire: self.answer(r.wire) for r in parcel.recipients}
                self._arrivals.extend(
                    Arrival(self._lane, wire, parcel.queue_id, self._world.epoch)
                    for wire, reply in said.items()
                    if reply.positive
                )
            else:
                gate.stage(stage)
            await self._maybe_pause(stage, aborted)
            if aborted.is_set():
                return self._nothing(parcel)
        if self.vanish:
            reply = HopReply(451, "4.4.2", "lost connection after the final dot", said_by_hop=False)
            return [Verdict(r.number, reply, in_doubt=True) for r in parcel.recipients]
        return [Verdict(r.number, said[r.wire]) for r in parcel.recipients]

    async def _maybe_pause(self, stage: str, aborted: asyncio.Event) -> None:
        await asyncio.sleep(0)
        if self.pause != stage:
            return
        self.reached.set()
        waits = [asyncio.ensure_future(self.resume.wait()), asyncio.ensure_future(aborted.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _nothing(self, parcel: Parcel) -> Sequence[Verdict]:
        reply = HopReply(451, "4.3.2", "interrupted", said_by_hop=False)
        return [Verdict(r.number, reply, no_attempt=True) for r in parcel.recipients]

    async def close(self) -> None:
        return None


class Notes:
    """A trace that remembers."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[str, Outcome]] = []
        self.alarms: list[tuple[str, str, str]] = []

    def received(self, message: QueuedMessage, recipients: Sequence[QueuedRecipient]) -> None:
        return None

    def outcome(self, message: QueuedMessage, recipient: QueuedRecipient, outcome: Outcome) -> None:
        self.outcomes.append((recipient.address.key, outcome))

    def removed(self, message: QueuedMessage) -> None:
        return None

    def alarm(self, kind: str, key: str, text: str) -> None:
        self.alarms.append((kind, key, text))

    def clear(self, kind: str, key: str) -> None:
        return None


class PlainSigner:
    """A Received field without secrets."""

    def received_field(
        self,
        message: QueuedMessage,
        lane: str,
        recipients: Sequence[tuple[str, str]],
        forwarded: Sequence[str] = (),
    ) -> bytes:
        return b"Received: by test (Sluice) id " + message.queue_id.encode() + b"\r\n"


class PlainReporter:
    """Reports every failure to the sender, without asking what was wanted."""

    async def report(
        self, message: QueuedMessage, outcomes: Sequence[tuple[QueuedRecipient, Outcome, str]]
    ) -> Report | None:
        failed = [r.address.wire for r, _, action in outcomes if action == "failed"]
        if not failed or not message.envelope.sender:
            return None
        envelope = Envelope("", Client("127.0.0.1"))
        return Report(envelope, NewRecipient(parse_address(message.envelope.sender)), ",".join(failed).encode())


@dataclass
class Barrier:
    """The barrier of one worker: blocking rows by entry, as the control database would hold them."""

    blocking: dict[tuple[int, str], Blocking] = field(default_factory=dict)
    in_doubt: list[Ended] = field(default_factory=list)

    def acknowledge(self, rows: Sequence[Blocking]) -> None:
        for row in rows:
            self.blocking[(row.entry, row.mailbox)] = row

    def ended(self, ended: Ended) -> None:
        for key in [key for key in self.blocking if key[0] == ended.entry]:
            del self.blocking[key]
        if ended.in_doubt:
            self.in_doubt.append(ended)

    def quiet(self, mailbox: str) -> bool:
        return not any(key[1] == mailbox for key in self.blocking)
