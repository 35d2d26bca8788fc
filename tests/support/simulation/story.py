"""
What happens in one run beside the mail: operators, somebody else's flips, and faults, all of it the seed's choice.

Operators use the product's own `Operations`. On failure: what an operator is told (a conflict, an outage) is part of
the story; anything else ends the run.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from router.control import edits
from router.control.audit import Act
from router.control.barrier import EVERYBODY
from router.control.edits import Edit
from router.control.members import Member, Suspect
from router.control.operations import Operations
from router.control.results import ReleaseResult
from router.errors import SluiceError
from support.simulation.fibers import Fiber
from support.simulation.network import SETTLE
from support.simulation.oracle import mailbox_of
from support.simulation.relay import Slot
from support.simulation.scheduler import Process
from support.simulation.seams import Present
from support.simulation.site_database import ALIAS, KEYS, STORES, SimDatabase

if TYPE_CHECKING:
    from support.simulation.run import Site

LENGTH = 1.5
"""Seconds in which trouble begins."""
_ADDRESSES = (*KEYS, ALIAS)
_ADDRESSES_OF = {key: tuple(one for one in _ADDRESSES if mailbox_of(one) == key) for key in KEYS}
_MOODS = ("down", "busy", "vanish", "refuse")


class Command:
    """One command of an operator, as a process of its own."""

    def __init__(self, site: "Site", name: str, body: Callable[["Command"], None]) -> None:
        self.site = site
        self.process = Process(name)
        site.commands.append(self.process)
        self.database = SimDatabase(site.shared, self.process, every=True)
        self.operations = Operations(
            self.database,
            STORES,
            lock_probe=self._ownerless,
            suspects=self._suspects,
            settle=SETTLE,
            wall=site.clock.wall,
            monotonic=site.clock.monotonic,
            sleep=self.sleep,
        )
        self.fiber = Fiber(site.scheduler, self.process, lambda: self._run(body))
        Present.fibers.append(self.fiber)

    @property
    def over(self) -> bool:
        return self.fiber.done or not self.process.alive

    def _run(self, body: Callable[["Command"], None]) -> None:
        try:
            body(self)
        except SluiceError as error:
            self.site.scheduler.note(f"{self.process.name}: {error}")

    def sleep(self, seconds: float) -> None:
        fiber = Fiber.current
        assert fiber is not None
        fiber.sleep(seconds + self.site.scheduler.between(0.0, 0.06))

    def act(self) -> Act:
        return Act("operator", "simulated", self.site.clock.wall())

    def _slot(self, member: Member) -> Slot:
        return next(slot for slot in self.site.slots if slot.disk.number == member.spool)

    def _ownerless(self, member: Member) -> bool:
        return not self._slot(member).disk.locked

    def _suspects(self, member: Member) -> list[Suspect]:
        """As `admin.cli.hold_operations`: what is queued in the dead member's spool."""
        query = (
            "SELECT recipients.mailbox, messages.id, messages.message_id, recipients.lane FROM recipients JOIN messages"
            " ON messages.id = recipients.id >> 16 WHERE state = 'queued'"
        )
        rows = self._slot(member).disk.raw.execute(query).fetchall()
        if any(not mailbox and not lane.startswith("mx:") for mailbox, _, _, lane in rows):
            return [Suspect(EVERYBODY, "")]
        return [Suspect(mailbox, str(number), told, lane) for mailbox, number, told, lane in rows if mailbox]

    # -- verbs ---------------------------------------------------------------------------------------------------

    def hold(self, key: str, timeout: float = 6.0) -> bool:
        """Whether it is quiet."""
        found = self.operations.hold([key], self.act(), timeout=timeout)[0]
        self.site.scheduler.note(f"{self.process.name}: hold {key}: quiet {found.quiet} {found.error}")
        return found.quiet

    def release(self, key: str, to: str | None) -> bool:
        """Whether it is in force everywhere."""
        before = self.site.oracle.last_release(key)
        found = self.operations.release([key], self.act(), to, timeout=6.0)[0]
        self.site.scheduler.note(f"{self.process.name}: release {key} to {to}: {found.applied} {found.error}")
        self._in_force(found, before)
        return found.applied

    def _in_force(self, found: ReleaseResult, before: int) -> None:
        if found.released and found.applied and not found.error:
            self.site.oracle.released(found.key, before)

    def move(self, key: str, to: str) -> None:
        """Hold, copy, flip, release."""

        def copy(_held: object) -> int:
            self.sleep(self.site.scheduler.between(0.0, 0.5))
            return 1 if self.site.random.random() < 0.2 else 0

        before = self.site.oracle.last_release(key)
        done = self.operations.move(key, to, self.act(), run=copy, timeout=6.0).release
        self.site.scheduler.note(f"{self.process.name}: move {key} to {to}: {done is not None and done.applied}")
        if done is not None:
            self._in_force(done, before)

    def set_home(self, key: str, to: str, *, force: bool) -> None:
        """Somebody else's flip: no hold, no barrier."""
        work = partial(edits.edit, key=key, wanted=Edit(home=to), act=self.act(), force=force)
        self.database.run_write(work)


class Story:
    """The plan of a run as it unfolds."""

    def __init__(self, site: "Site") -> None:
        self.site = site
        self.running: list[Command] = []
        self._unfinished: list[Command] = []
        self.faults: list[str] = []
        self.fault_until = 0.0
        self.hold_and_fault = False
        self.planned = 0
        self.favourite = KEYS[0]
        self.moments: list[float] = [0.0]

    def moment(self) -> float:
        """When something happens."""
        random = self.site.random
        if random.random() < 0.2:
            return LENGTH * random.random()
        return random.choice(self.moments) + random.choice((0.02, 0.1, 0.5)) * random.random()

    def owner(self, address: str) -> str:
        return mailbox_of(address)

    def over(self) -> bool:
        running = self._unfinished
        while self.planned == 0 and running and running[-1].over:
            running.pop()
        return self.planned == 0 and not running

    def at(self, when: float, action: Callable[[], object]) -> None:
        """An event of the plan."""
        self.planned += 1

        def happen() -> None:
            self.planned -= 1
            action()

        self.site.scheduler.at(when, self.site.outside, happen)

    def command(self, name: str, body: Callable[[Command], object]) -> Command:
        command = Command(self.site, f"{name} {len(self.running) + 1}", lambda one: (body(one), None)[1])
        self.running.append(command)
        self._unfinished.append(command)
        self._meet()
        return command

    def fault(self, name: str, seconds: float) -> None:
        """A fault begins; it lasts so long."""
        self.faults.append(name)
        self.site.scheduler.note(f"fault: {name} for {seconds:.3f} s")
        self.fault_until = max(self.fault_until, self.site.scheduler.now + seconds)
        self._meet()

    def _meet(self) -> None:
        """Are a hold and a fault here at once?"""
        if not self.hold_and_fault and self.fault_until >= self.site.scheduler.now and self.faults:
            self.hold_and_fault = bool(self.site.shared.raw("SELECT 1 FROM holds WHERE closed_at IS NULL LIMIT 1"))

    def end_faults(self) -> None:
        """Everything works again."""
        site = self.site
        self._meet()
        for hop in site.network.hops.values():
            hop.mood, hop.slow, hop.late = "fine", 0.01, 0.01
        site.shared.down, site.shared.busy_until = False, 0.0
        site.slow_reads = site.slow_disk = 0.004
        for slot in site.slots:
            slot.disk.fault = ""
            if slot.process is not None:
                slot.process.frozen = 0.0
            slot.start()

    def release_all(self) -> set[str]:
        """The operators end every hold that is left; whose."""
        keys = [key for (key,) in self.site.shared.raw("SELECT mailbox FROM holds WHERE closed_at IS NULL")]
        for key in keys:
            to = self.site.random.choice([None, *STORES])
            self.command("last release", partial(Command.release, key=key, to=to))
        return set(keys)


def tell(story: Story) -> None:
    """Plan a run: most of what happens falls on a few moments, and on one mailbox."""
    site = story.site
    random = site.random
    site.shared.pauses = random.choice((0.2, 0.6, 1.0))
    site.shared.pause = random.choice((0.004, 0.004, 0.03))
    story.favourite = random.choice(KEYS)
    story.moments = [LENGTH * random.random() ** 2 for _ in range(random.choice((1, 1, 2)))]
    for _ in range(random.randint(2, 6)):
        addresses = _ADDRESSES_OF[story.favourite] if random.random() < 0.6 else _ADDRESSES
        to = random.sample(addresses, min(len(addresses), random.choice((1, 1, 2, 3))))
        story.at(story.moment(), partial(site.mail, *to))
    if random.random() < 0.5:
        _plan_slow(story)
    for _ in range(random.choice((1, 1, 2, 3))):
        _plan_operator(story, story.moment())
    for _ in range(random.choice((0, 1, 1, 2))):
        _plan_fault(story, story.moment())


def _plan_slow(story: Story) -> None:
    """Some of the site is slow from the beginning."""
    site, random = story.site, story.site.random
    for hop in site.network.hops.values():
        if random.random() < 0.4:
            hop.slow = random.choice((0.05, 0.3))
            hop.late = random.choice((0.01, 0.5, 2.0))
    if random.random() < 0.4:
        site.slow_reads = random.choice((0.05, 0.5))
    if random.random() < 0.3:
        site.slow_disk = random.choice((0.03, 0.2))


def _plan_operator(story: Story, when: float) -> None:
    random = story.site.random
    key = story.favourite if random.random() < 0.7 else random.choice(KEYS)
    to = random.choice(STORES)
    between = story.site.scheduler.between

    def hold_and_release(one: Command) -> None:
        quiet = one.hold(key)
        one.sleep(between(0.0, random.choice((0.02, 0.5))))
        if quiet or random.random() < 0.5:
            one.release(key, random.choice((to, to, None)))

    verb = random.choice(("hold", "keep", "keep", "move", "flip", "flip", "cancelled", "forced"))
    if verb == "hold":
        story.at(when, lambda: story.command("hold and release", hold_and_release))
    elif verb == "keep":
        story.at(when, lambda: story.command("hold", lambda one: one.hold(key)))
    elif verb == "move":
        story.at(when, lambda: story.command("move", lambda one: one.move(key, to)))
    elif verb in {"flip", "forced"}:
        story.at(when, lambda: story.command("flip", lambda one: one.set_home(key, to, force=verb == "forced")))
    else:
        _plan_cancelled(story, when, hold_and_release)


def _plan_cancelled(story: Story, when: float, body: Callable[[Command], None]) -> None:
    """A command that is killed while it waits."""

    def begin() -> None:
        command = story.command("cancelled", body)

        def kill() -> None:
            command.process.alive = False

        story.at(story.site.scheduler.now + story.site.scheduler.between(0.0, 0.3), kill)

    story.at(when, begin)


def _plan_fault(story: Story, when: float) -> None:
    site, random = story.site, story.site.random
    seconds = random.choice((0.05, 0.4, 1.5))
    slot, hop = random.choice(site.slots), site.network.hops[random.choice(STORES)]
    kind = random.choice(
        ("store", "store", "store", "kill", "kill", "stop", "freeze", "outage", "busy", "disk", "clock", "directory")
    )

    def begin() -> None:
        story.fault(kind, seconds)
        _FAULTS[kind](story, slot, hop, seconds)

    story.at(when, begin)


def _store(story: Story, _slot: Slot, hop: object, seconds: float) -> None:
    hop.mood = story.site.random.choice(_MOODS)  # type: ignore[attr-defined]
    story.site.oracle.unsure |= hop.mood == "vanish"  # type: ignore[attr-defined]
    story.at(story.site.scheduler.now + seconds, lambda: setattr(hop, "mood", "fine"))


def _kill(story: Story, slot: Slot, _hop: object, seconds: float) -> None:
    slot.kill()
    story.site.oracle.unsure = True
    story.at(story.site.scheduler.now + seconds / 2, slot.start)


def _stop(story: Story, slot: Slot, _hop: object, seconds: float) -> None:
    slot.stop()
    story.site.oracle.unsure = True
    story.at(story.site.scheduler.now + seconds, slot.start)


def _freeze(story: Story, slot: Slot, _hop: object, seconds: float) -> None:
    """SIGSTOP, and SIGCONT later; sometimes SIGKILL instead."""
    if slot.process is None:
        return
    slot.process.frozen = story.site.scheduler.now + seconds
    if story.site.random.random() < 0.3:
        _kill(story, slot, _hop, seconds)


def _outage(story: Story, _slot: Slot, _hop: object, seconds: float) -> None:
    story.site.shared.down = True
    story.at(story.site.scheduler.now + seconds, lambda: setattr(story.site.shared, "down", False))


def _busy(story: Story, _slot: Slot, _hop: object, seconds: float) -> None:
    story.site.shared.busy_until = story.site.scheduler.now + seconds


def _disk(story: Story, slot: Slot, _hop: object, _seconds: float) -> None:
    slot.disk.fault = story.site.random.choice(("lost", "kept"))
    story.site.oracle.unsure = True


def _clock(story: Story, _slot: Slot, _hop: object, _seconds: float) -> None:
    story.site.clock.set_by += story.site.random.choice((-86400.0, -30.0, 30.0, 90000.0, 6 * 86400.0))


def _directory(story: Story, _slot: Slot, _hop: object, seconds: float) -> None:
    story.site.slow_reads = 0.8
    story.at(story.site.scheduler.now + seconds, lambda: setattr(story.site, "slow_reads", 0.004))


_FAULTS = {
    "store": _store,
    "kill": _kill,
    "stop": _stop,
    "freeze": _freeze,
    "outage": _outage,
    "busy": _busy,
    "disk": _disk,
    "clock": _clock,
    "directory": _directory,
}
