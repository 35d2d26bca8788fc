"""
One simulated run: a seed makes a site, mail, operators and faults, lets all of it happen, then asks what is left.

Guarantees: the same seed is the same run, in every process (`Result.digest`). A run leaves nothing behind.

On failure: `Result.failure` says what was broken, and when; `trace` tells the story if it was asked for.
"""

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from router.accept.stepper import Stepper
from router.deliver.inflight import InFlight
from router.errors import SluiceError
from router.model.address import parse_address
from router.model.envelope import Client, Envelope, HeaderFacts, NewRecipient
from router.model.reply import Reply
from support.simulation.fibers import Fiber
from support.simulation.network import Network
from support.simulation.oracle import Broken, Oracle
from support.simulation.relay import Clock, SimWorker, Slot
from support.simulation.scheduler import Process, Scheduler
from support.simulation.seams import Present
from support.simulation.site_database import STORES, SharedState
from support.simulation.spool_disk import SimSpool
from support.simulation.story import Story, tell

CALM, END = 12.0, 60.0
_RESTS = 320.0
_RETRY = 700.0
_PROTECTED = 6 * 86400.0


@dataclass
class Result:
    """What came of a seed."""

    seed: int
    failure: str = ""
    hold_and_fault: bool = False
    faults: tuple[str, ...] = ()
    messages: int = 0
    arrivals: int = 0
    steps: int = 0
    seconds: float = 0.0
    digest: int = 0
    trace: list[str] = field(default_factory=list)


class Site:
    """Everything of one run."""

    def __init__(self, seed: int, *, trace: bool = False) -> None:
        self.scheduler = Scheduler(seed)
        self.scheduler.trace = [] if trace else None
        self.random = self.scheduler.random
        self.shared = SharedState(self.scheduler)
        self.clock = Clock(self.scheduler)
        self.oracle = Oracle(self.scheduler, self.shared, self.clock)
        self.network = Network(self.scheduler, STORES, self.oracle)
        self.outside = Process("clients")
        self.slow_reads = 0.004
        self.slow_disk = 0.004
        workers = 1 if self.random.random() < 0.4 else 2
        self.slots = [
            Slot(n, self.shared, self.network, self.clock, lambda: self.slow_reads, self._watch, self._opened)
            for n in range(workers)
        ]
        self.commands: list[Process] = []
        self.messages = 0
        self.wrong: list[BaseException] = []
        """What sessions have failed by that no client of a real one should ever cause."""
        self.calm = False
        self.story = Story(self)

    def _watch(self, slot: Slot, inflight: InFlight, worker: SimWorker) -> None:
        register = inflight.register

        def registered(*args: Any) -> Any:
            entry = register(*args)
            self.oracle.registered(worker._process.name, worker.incarnation, entry)
            return entry

        inflight.register = registered  # type: ignore[method-assign, assignment]

    def _opened(self, slot: Slot, spool: SimSpool) -> None:
        self.oracle.balance(slot.disk)
        writer: Any = spool._writer
        writer.slow = lambda: self.slow_disk
        name = slot.process.name if slot.process is not None else ""
        writer.committed = lambda group: self.oracle.committed(name, [one.operation for one in group])

    # -- mail ----------------------------------------------------------------------------------------------------

    def mail(self, *recipients: str) -> None:
        """A client sends a message to whichever worker takes it."""
        doors = [slot for slot in self.slots if slot.door is not None]
        if not doors:
            self.scheduler.after(self.random.random() * 0.3, self.outside, lambda: self.mail(*recipients))
            return
        slot = self.random.choice(doors)
        self.messages += 1
        sender = f"s{self.messages}@outside.example"
        loop: Any = slot.loop
        assert slot.door is not None
        loop.call_soon(
            lambda: Stepper(loop, self._watched(slot.door.receiver if slot.door else None, sender, recipients))
        )

    async def _watched(self, receiver: Any, sender: str, recipients: tuple[str, ...]) -> None:
        """An error that comes out of a session would end in the log alone."""
        try:
            await self._session(receiver, sender, recipients)
        except Exception as error:
            self.wrong.append(error)
            raise

    async def _session(self, receiver: Any, sender: str, recipients: tuple[str, ...]) -> None:
        if receiver is None:
            return
        envelope = Envelope(sender, Client("192.0.2.1"))
        accepted: list[NewRecipient] = []
        for text in recipients:
            try:
                answer = await receiver.recipient(envelope, parse_address(text))
            except SluiceError as error:
                answer = error.reply
            if isinstance(answer, Reply):
                if answer.code >= 500:
                    self.oracle.broken(5, f"RCPT {text} is answered {answer}")
                continue
            accepted.append(answer)
        if not accepted:
            return
        body = receiver.open_body()
        await body.write(b"Subject: x\r\n\r\nhello\r\n")
        facts = HeaderFacts(message_id=f"<{sender}>")
        try:
            queue_id = await receiver.message(envelope, accepted, body, facts, self.clock.wall())
        except SluiceError:
            self.oracle.unsure = True
            return
        self.scheduler.note(f"250 {queue_id} from {sender} to {' '.join(one.address.key for one in accepted)}")
        for one in accepted:
            self.oracle.accepted[(sender, one.address.key)] = queue_id

    # -- the whole of it -----------------------------------------------------------------------------------------

    def run(self) -> Story:
        """Trouble, then calm, then the end. Raises `Broken`."""
        for slot in self.slots:
            slot.start()
        story = self.story
        tell(story)
        self._until(story.over, CALM, "the commands do not end")
        self._settle_down(story)
        self._drain()
        if self.wrong:
            raise Broken(f"a session failed: {self.wrong[0]!r}")
        self.oracle.check_end([slot.disk for slot in self.slots])
        return story

    def _until(self, condition: Any, seconds: float, otherwise: str) -> None:
        if not self.scheduler.run(condition, self.scheduler.now + seconds):
            raise Broken(otherwise)

    def _settle_down(self, story: Story) -> None:
        """Nothing fails any more, all holds end: what was released must be on its way at once (promise 4)."""
        self.calm = True
        story.end_faults()
        self._wait(0.3)
        self.clock.skipped += _RESTS
        self._wait(1.2)
        released = story.release_all()
        self._until(story.over, CALM, "the last releases do not end")
        self.scheduler.note("calm")

        def untried() -> list[tuple[str, str]]:
            mine = [one for one in self.oracle.missing() if story.owner(one[1]) in released]
            return [one for one in mine if not self._parked(*one)]

        if not self.scheduler.run(self._changed(lambda: not untried()), self.scheduler.now + 8.0):
            self.oracle.broken(4, f"released and not tried: {untried()}")

    def _changed(self, condition: Callable[[], bool]) -> Callable[[], bool]:
        """The condition, which only something at a store or in a spool can change."""
        seen, value = -1, False

        def look() -> bool:
            nonlocal seen, value
            now = self.oracle.moves + len(self.oracle.accepted)
            if now != seen:
                seen, value = now, condition()
            return value

        return look

    def _wait(self, seconds: float) -> None:
        self.scheduler.run(lambda: False, self.scheduler.now + seconds)

    def _parked(self, sender: str, address: str) -> bool:
        query = (
            "SELECT 1 FROM recipients JOIN messages ON messages.id = recipients.id >> 16"
            " WHERE state = 'parked' AND recipients.address = ? AND sender = ?"
        )
        return any(slot.disk.raw.execute(query, (address, sender)).fetchone() for slot in self.slots)

    def _left(self) -> int:
        return sum(slot.disk.raw.execute("SELECT count(*) FROM recipients").fetchone()[0] for slot in self.slots)

    def _drain(self) -> None:
        for round_ in range(12):
            if not self._left():
                return
            self.clock.skipped += _RETRY if round_ < 6 else _PROTECTED
            self.scheduler.run(self._changed(lambda: not self._left()), self.scheduler.now + 3.0)
        if self._left():
            rows = [
                row
                for slot in self.slots
                for row in slot.disk.raw.execute(
                    "SELECT id, state, lane, mailbox, due, draining, reason FROM recipients"
                )
            ]
            self.oracle.broken(9, f"stuck: {rows}")

    def close(self) -> None:
        """Give everything back."""
        for slot in self.slots:
            if slot.process is not None:
                slot.process.alive = False
            slot.disk.give_back()
        for command in self.commands:
            command.alive = False
        Present.end()
        Fiber.current = None


def simulate(seed: int, *, trace: bool = False) -> Result:
    """Run one seed. The seams must be installed."""
    result = Result(seed)
    site = Site(seed, trace=trace)
    Present.begin(site.scheduler, site.shared)
    try:
        site.run()
    except Broken as broken:
        result.failure = f"at {site.scheduler.now:.3f} s: {broken}"
    except Exception as other:  # noqa: BLE001 - an error that nobody handles is a finding, too
        where = traceback.extract_tb(other.__traceback__)[-1]
        result.failure = f"at {site.scheduler.now:.3f} s: {other!r} ({where.filename}:{where.lineno})"
    finally:
        _finish(site, result)
    return result


def _finish(site: Site, result: Result) -> None:
    site.close()
    story = site.story
    result.hold_and_fault, result.faults = story.hold_and_fault, tuple(story.faults)
    result.messages, result.arrivals = site.messages, sum(site.oracle.arrivals.values())
    result.steps, result.seconds = site.scheduler.steps, site.scheduler.now
    result.digest = site.scheduler.digest & 0xFFFFFFFFFFFF
    result.trace = [f"{at:9.4f}  {text}" for at, text in site.scheduler.trace or ()]
    for slot in site.slots:
        slot.kept.clear()
