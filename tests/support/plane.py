"""One worker's data plane over the in-memory ports: the product's own receiver, dispatcher, lanes, feeder, releases."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Self, TypeVar

from router.accept.stepper import Stepper
from router.deliver.claims import Claims
from router.deliver.drain import Drain
from router.deliver.feeder import Feeder
from router.deliver.inflight import InFlight
from router.deliver.judge import Judge
from router.deliver.lanes import Lanes
from router.model.address import parse_address
from router.model.envelope import Client, Envelope, HeaderFacts, NewRecipient
from router.model.mailbox import Hold
from router.model.reply import Reply
from router.pipeline.conclude import Concluder
from router.pipeline.dispatch import Dispatcher
from router.pipeline.follow import Following
from router.pipeline.ports import Rules
from router.pipeline.receive import Receiver
from router.pipeline.releases import Releases
from router.route.routing import Routing
from router.settings.schema import Retry
from support.memory import (
    Arrival,
    Barrier,
    MemorySpool,
    Notes,
    PlainReporter,
    PlainSigner,
    StagedSender,
    SteppedClock,
    World,
    WorldClassifier,
)

T = TypeVar("T")

PROTECT = 7 * 86400.0
GRACE = 86400.0
SETTLE = 60.0
TURNS = 60
"""
Of the event loop, before rest is believed: more than anything needs from its order (a change, a nudge) to its first
claim. A pause of the machine makes any time on the clock too short for that.
"""


async def in_a_session(asked: Coroutine[Any, Any, T]) -> T:
    """What a session would be answered: it is run by callbacks, without a current task."""
    answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    async def ask() -> None:
        try:
            answer.set_result(await asked)
        except asyncio.CancelledError:
            answer.cancel()
        except Exception as error:  # noqa: BLE001 - for the test to see
            answer.set_exception(error)

    Stepper(asyncio.get_running_loop(), ask())
    return await answer


class Plane:
    """Everything of one worker, with the state of the world beside it."""

    def __init__(
        self,
        world: World,
        stores: tuple[str, ...] = ("old", "new", "lists"),
        *,
        limit: int = 4,
        settle: float = SETTLE,
        clock: SteppedClock | None = None,
        spool: Any = None,
        senders: dict[str, StagedSender] | None = None,
    ) -> None:
        self.world = world
        self.clock = clock or SteppedClock()
        self.spool = spool or MemorySpool(self.clock)
        self.settle_time = settle
        self.barrier = Barrier()
        self.notes = Notes()
        self.arrivals: list[Arrival] = []
        self.classifier = WorldClassifier(world)
        self.senders = senders or {name: StagedSender(name, world, self.arrivals) for name in stores}
        self.claims = Claims()
        self.inflight = InFlight(self.barrier.ended)
        self.routing = Routing(frozenset(stores), frozenset(), smarthost=False, protect=PROTECT, unknown_grace=GRACE)
        self._build(limit)

    def _build(self, limit: int) -> None:
        clock, retry = self.clock, Retry()
        judge = Judge(
            retry, PROTECT, lambda attempts, now: now + 240.0 * attempts, self._settle, self.senders.__contains__
        )
        rules = Rules(lambda _lane: 100, self._settle, lambda _n: 10.0, retry.delay_notice, PROTECT)
        self.concluder = Concluder(self.spool, judge, rules, PlainReporter(), self.notes, clock, self.claims)
        self.dispatcher = Dispatcher(
            self.classifier, self.routing, self.spool, self._sender, self.concluder, rules,
            PlainSigner(), self.notes, clock, self.claims, self.inflight,
        )  # fmt: skip
        self.lanes = Lanes(
            self.dispatcher.dispatch,
            self.dispatcher.failed,
            lambda _lane: limit,
            self.claims,
            clock.monotonic,
        )
        self.feeder = Feeder(self.spool, self.lanes, self.claims, clock, tick=0.01)
        self.lanes.attach(self.feeder.low)
        self.drain = Drain(self.spool, self.lanes, self.claims, self.dispatcher.by_route, patience=0.01)
        self.releases = Releases(self.spool, self.drain, self.feeder, clock)
        self.concluder.attach(self.releases)
        self.dispatcher.attach(self.lanes, self.releases, self.feeder.behind)
        self.receiver = Receiver(
            self.classifier, self.routing, self.spool, self.claims, self.releases,
            self.dispatcher.offer, self.notes, clock, lambda _found: False,
        )  # fmt: skip
        self.following = Following(self.classifier, self.inflight, self.lanes, self.releases, lambda: None)

    def _settle(self, _lane: str) -> float:
        return self.settle_time

    def _sender(self, lane: str) -> StagedSender:
        return self.senders[lane]

    async def __aenter__(self) -> Self:
        self.releases.know(key for key, box in self.world.mailboxes.items() if box.hold is not None)
        await self.releases.begin()
        self.lanes.start()
        self.feeder.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.feeder.stop()
        await self.drain.stop()
        await self.releases.stop()
        await self.lanes.stop(0.0)

    async def send(
        self, *recipients: str, sender: str = "someone@outside.example", trusted: bool = False
    ) -> list[Reply]:
        """One message through RCPT and DATA: the replies that refused; the rest was accepted."""
        envelope = Envelope(sender, Client("127.0.0.1", trusted=trusted))
        accepted: list[NewRecipient] = []
        refused: list[Reply] = []
        for text in recipients:
            answer = await in_a_session(self.receiver.recipient(envelope, parse_address(text)))
            (refused if isinstance(answer, Reply) else accepted).append(answer)  # type: ignore[arg-type]
        if accepted:
            await in_a_session(self._keep(envelope, accepted))
        return refused

    async def _keep(self, envelope: Envelope, accepted: list[NewRecipient]) -> None:
        body = self.receiver.open_body()
        await body.write(b"Subject: x\r\n\r\nhello\r\n")
        await self.receiver.message(envelope, accepted, body, HeaderFacts(), self.clock.wall())

    def hold(self, mailbox: str) -> Hold:
        """A hold opened and applied here, in one go, with the acknowledgement's blocking rows."""
        hold = self.world.hold(mailbox, self.clock.wall())
        self.barrier.acknowledge(self.following.apply(self.world.change(mailbox)))
        return hold

    def release(self, mailbox: str, home: str = "") -> None:
        self.world.release(mailbox, home, self.clock.wall())
        self.barrier.acknowledge(self.following.apply(self.world.change(mailbox)))

    async def settle(self, until: Callable[[], bool] | None = None, rounds: int = 500) -> None:
        """Let everything run until `until` holds, or until nothing is claimed or draining any more."""
        turns, end = 0, time.monotonic() + 30
        while turns < rounds or time.monotonic() < end:
            turns += 1
            await asyncio.sleep(0.002)
            if until() if until is not None else await self._rests():
                return
        raise AssertionError("nothing came to rest")

    async def _rests(self) -> bool:
        for _ in range(TURNS):
            if len(self.claims) or len(self.drain):
                return False
            await asyncio.sleep(0)
        return True

    def at(self, lane: str) -> list[str]:
        return [arrival.wire for arrival in self.arrivals if arrival.lane == lane]

    def advance(self, seconds: float) -> None:
        self.clock.now += seconds
        self.feeder.nudge()


def new_recipient(text: str, hint: str = "") -> NewRecipient:
    return replace(NewRecipient(parse_address(text)), hint=hint)
