"""A spool against a simple model of it: any sequence of operations, reopening included (promises 3, 6 and 9)."""

import asyncio
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.scratch import SCRATCH

from router.model.address import parse_address
from router.model.envelope import Client, Envelope, HeaderFacts, NewRecipient, QueuedMessage
from router.model.outcome import Disposition, Outcome
from router.model.parcel import Report
from router.model.reply import HopReply
from router.spool.finding import QueueFilter
from router.spool.options import SpoolOptions
from router.spool.spool import Spool
from router.spool.upkeep import Pace

OPTIONS = SpoolOptions(minimum_free=0, minimum_inodes=0, reserve=0, inline_limit=100, pace=Pace(period=3600))
BOXES = ["a@example.edu", "b@example.edu", "c@example.edu"]
BOX = st.sampled_from(BOXES)
OPEN = {Disposition.DEFERRED: "queued", Disposition.HELD: "held", Disposition.PARKED: "parked"}
OPEN[Disposition.QUARANTINED] = "quarantined"


@dataclass
class Expected:
    """What the model knows of one recipient. `stale` works were read before its mailbox was last released."""

    box: str
    message: QueuedMessage
    body: bytes
    own: bool
    state: str = "queued"
    draining: bool = False
    timed: bool = False
    """Parked by a verdict, with a time at which it is tried again."""


@dataclass
class Model:
    recipients: dict[int, Expected] = field(default_factory=dict)
    closed: Counter[tuple[str, bool]] = field(default_factory=Counter)
    accepted: Counter[bool] = field(default_factory=Counter)
    opened: Counter[bool] = field(default_factory=Counter)
    numbers: set[int] = field(default_factory=set)
    """All recipient numbers there ever were."""
    released: dict[str, int] = field(default_factory=dict)


class SpoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.base = Path(tempfile.mkdtemp(prefix="sluice-model-", dir=SCRATCH))
        self.model = Model()
        self.journal: list[str] = []
        self.now = 1000.0

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    @initialize()
    def create(self) -> None:
        self.spool = self.run(self.opened(create=True))

    async def opened(self, *, create: bool) -> Spool:
        return await Spool.open(self.base / "0001", 1, create=create, options=OPTIONS, wall=lambda: self.now)

    @rule(boxes=st.lists(st.tuples(BOX, st.booleans()), min_size=1, max_size=3), size=st.sampled_from([0, 10, 500]))
    def accept(self, boxes: list[tuple[str, bool]], size: int) -> None:
        self.now += 1
        body = bytes([len(self.model.recipients) % 256]) * size
        new = [NewRecipient(parse_address(box), hint="lane", mailbox=box, held=held) for box, held in boxes]

        async def accepted() -> Any:
            writer = self.spool.open_body()
            await writer.write(body)
            return await self.spool.accept(Envelope("s@x", Client("::1")), new, writer, HeaderFacts(), self.now)

        work = self.run(accepted())
        assert work.message.number > max((one.message.number for one in self.model.recipients.values()), default=0)
        for one, (box, held) in zip(work.recipients, boxes, strict=True):
            expected = Expected(box, work.message, body, own=False, state="held" if held else "queued")
            self.model.recipients[one.number] = expected
            self.model.numbers.add(one.number)
            self.model.accepted[False] += 1
            self.journal += ["held"] * held

    @precondition(lambda self: self.model.recipients)
    @rule(data=st.data(), disposition=st.sampled_from(list(Disposition)), fresh=st.booleans(), report=st.booleans())
    def settle(self, data: Any, disposition: Disposition, fresh: bool, report: bool) -> None:
        self.now += 1
        number = data.draw(st.sampled_from(sorted(self.model.recipients)))
        expected = self.model.recipients[number]
        message = expected.message
        if fresh:
            works = self.run(self.spool.desk.works([number]))
            message = works[0].message
            message = self.restamp(message)
        outcome = Outcome(number, disposition, self.now, HopReply(250, "", ""), mailbox=expected.box, due=self.now + 50)
        content = Report(Envelope("", Client("::1")), NewRecipient(parse_address("s@x.org")), b"dsn")
        before = set(self.numbers()) if report else set()
        self.run(self.spool.settle(message, [outcome], content if report else None))
        self.apply(number, expected, disposition, message)
        if report:
            (dsn,) = set(self.numbers()) - before
            (work,) = self.run(self.spool.desk.works([dsn]))
            self.model.recipients[dsn] = Expected("", work.message, b"dsn", own=True)
            self.model.accepted[True] += 1

    @precondition(lambda self: self.model.recipients)
    @rule(data=st.data(), boxes=st.lists(BOX, min_size=1, max_size=3), again=st.booleans(), reopen=st.booleans())
    def forward(self, data: Any, boxes: list[str], again: bool, reopen: bool) -> None:
        """A recipient is exchanged for others; `again`: as if the commit had been unknown."""
        self.now += 1
        number = data.draw(st.sampled_from(sorted(self.model.recipients)))
        expected = self.model.recipients.pop(number)
        opens = tuple(NewRecipient(parse_address(box), mailbox=box, via=(expected.box or "x@y",)) for box in boxes)
        outcome = Outcome(number, Disposition.FORWARDED, self.now, HopReply(250, "", ""), opens=opens)
        settled = self.run(self.spool.settle(expected.message, [outcome]))
        for one, box in zip(settled.opened.recipients, boxes, strict=True):
            assert one.number not in self.model.numbers
            self.model.numbers.add(one.number)
            self.model.recipients[one.number] = Expected(box, settled.opened.message, expected.body, expected.own)
        self.model.opened[expected.own] += len(boxes)
        self.model.closed["forwarded", expected.own] += 1
        self.journal.append("forwarded")
        if reopen:
            self.reopen()
        if again:
            assert self.run(self.spool.settle(expected.message, [outcome])).opened is None

    def restamp(self, message: QueuedMessage) -> QueuedMessage:
        return replace(message, generation=self.spool._releases.generation)

    def numbers(self) -> list[int]:
        return [entry.number for entry in self.run(self.spool.desk.find(QueueFilter()))]

    def apply(self, number: int, expected: Expected, disposition: Disposition, message: QueuedMessage) -> None:
        if disposition.closing:
            del self.model.recipients[number]
            self.model.closed[disposition.value, expected.own] += 1
            self.journal.append(disposition.value)
            return
        stale = self.model.released.get(expected.box, 0) > message.generation
        sticky = expected.state in {"parked", "quarantined"} and disposition is not Disposition.QUARANTINED
        target = OPEN[disposition]
        if disposition in {Disposition.DEFERRED, Disposition.HELD} and stale and not sticky:
            expected.state, expected.draining = "queued", True
            return
        expected.draining = False
        if disposition is Disposition.DEFERRED or sticky:
            return
        if target != expected.state:
            self.journal.append(target)
        expected.state = target
        expected.timed = disposition is Disposition.PARKED or expected.timed

    @rule(boxes=st.lists(BOX, min_size=1, max_size=2))
    def release(self, boxes: list[str]) -> None:
        self.now += 1
        matching = [
            one for one in self.model.recipients.values() if one.box in boxes and one.state in {"held", "queued"}
        ]
        assert self.run(self.spool.release(boxes, self.now)) == len(matching)
        for one in matching:
            one.state, one.draining = "queued", True
        for box in boxes:
            self.model.released[box] = self.spool._releases.generation

    @precondition(lambda self: self.model.recipients)
    @rule(data=st.data(), verb=st.sampled_from(["park", "requeue", "remove"]))
    def operate(self, data: Any, verb: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.model.recipients)))
        one = self.model.recipients[number]
        if verb == "requeue":
            self.run(self.spool.desk.requeue([number]))
            one.state, one.draining = "queued", False
        elif verb == "park":
            self.run(self.spool.desk.park([number], actor="t", reason="t"))
            self.journal += ["parked"] * (one.state != "parked" or one.timed)
            one.state, one.draining, one.timed = "parked", False, False
        else:
            self.run(self.spool.desk.remove([number], actor="t", reason="t"))
            del self.model.recipients[number]
            self.model.closed["removed", one.own] += 1
            self.journal.append("removed")

    @rule()
    def move_journal(self) -> None:
        self.run(self.spool.move_journal())

    @rule()
    def reopen(self) -> None:
        self.run(self.spool.close())
        self.spool = self.run(self.opened(create=False))
        self.model.released.clear()

    @invariant()
    def accounts_balance(self) -> None:
        counts = self.run(self.spool.desk.counts())
        for own, totals in ((False, counts.mail), (True, counts.own)):
            assert totals.balanced
            assert totals.accepted == self.model.accepted[own]
            assert totals.opened == self.model.opened[own]
            states = Counter(one.state for one in self.model.recipients.values() if one.own is own)
            for name in ("queued", "held", "parked", "quarantined"):
                assert getattr(totals, name) == states[name]
            for name in ("delivered", "returned", "removed", "merged", "forwarded"):
                assert getattr(totals, name) == self.model.closed[name, own]

    @invariant()
    def queues_hold_what_they_should(self) -> None:
        everything = self.model.recipients
        for box in BOXES:
            works = self.run(self.spool.draining(box, 1000))
            found = [one.number for work in works for one in work.recipients]
            assert found == sorted(number for number, one in everything.items() if one.box == box and one.draining)
        due = set()
        for lane, _ in self.run(self.spool.lanes(self.now)):
            for work in self.run(self.spool.due(lane, self.now + 1000, 1000)):
                due |= {one.number for one in work.recipients}
        assert due == {number for number, one in everything.items() if one.state == "queued" and not one.draining}
        held = {one.box for one in everything.values() if one.state == "held" and one.box}
        assert set(self.run(self.spool.held_mailboxes())) == held

    @invariant()
    def bodies_and_journal_are_whole(self) -> None:
        async def body(message: QueuedMessage) -> bytes:
            return b"".join([block async for block in await self.spool.body(replace(message, inline=None))])

        for number in sorted(self.model.recipients)[-3:]:
            one = self.model.recipients[number]
            assert self.run(body(one.message)) == one.body
        rows = self.spool.journal.rows(lambda _row: True, 10_000)
        assert [row.disposition for row in rows] == self.journal
        files = {one.message.body_file for one in self.model.recipients.values() if one.message.body_file}
        on_disk = {path.name for path in (self.base / "0001" / "bodies").iterdir()}
        assert files <= on_disk

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.run(self.spool.close())
            files = {one.message.body_file for one in self.model.recipients.values() if one.message.body_file}
            assert files == {path.name for path in (self.base / "0001" / "bodies").iterdir()}
        self.runner.close()
        shutil.rmtree(self.base)


TestSpoolAgainstItsModel = SpoolMachine.TestCase
TestSpoolAgainstItsModel.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
