"""
The composition root of a worker's data plane: which part is handed to which.

Guarantees: everything is built from one configuration; a reload builds the parts that depend on it anew and swaps
them in one synchronous step.

On failure: `ValueError` or `OSError` for list, CA or certificate files that cannot be read; nothing is half-swapped.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from router.classify.classifier import CachingClassifier
from router.classify.probe import Prober
from router.classify.rules import AddressRules
from router.daemon.directories import Directories
from router.daemon.reporter import DsnReporter
from router.daemon.signer import MarkSigner
from router.deliver.claims import Claims
from router.deliver.drain import Drain
from router.deliver.feeder import FARTHEST, Feeder
from router.deliver.inflight import InFlight
from router.deliver.judge import Judge
from router.deliver.lanes import ROUTE_LANE, Handle, Lanes
from router.deliver.schedule import Rest, Schedule
from router.deliver.site import Senders
from router.model.address import Address
from router.model.reply import HopReply
from router.pipeline.conclude import Concluder
from router.pipeline.dispatch import Dispatcher
from router.pipeline.follow import Following
from router.pipeline.ports import Reporter, Rules, Signer, Trace
from router.pipeline.receive import Receiver
from router.pipeline.releases import Releases
from router.pipeline.trust import TrustedClassifier
from router.ports import Clock, MailboxSource, Sender
from router.report.notice import Origin
from router.route.routing import Routing, is_postmaster
from router.settings.schema import Settings
from router.spool.spool import Spool

_ROUTING_TASKS = 100
_OUTBOUND_RECIPIENTS = 100
_SENDERS = 500
"""Senders kept, each with its idle sessions."""


LetGo = Callable[[], Awaitable[None]]


class LaneSenders:
    """The sender of every lane in use, made when first asked for."""

    def __init__(self, settings: Settings, factory: Callable[[Settings], Senders]) -> None:
        self._settings = settings
        self._build = factory
        self._factory = factory(settings)
        self._made: dict[str, Sender] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __call__(self, lane: str) -> Sender:
        sender = self._made.pop(lane, None)
        if sender is None:
            store = self._settings.stores.get(lane)
            sender = self._factory.store(store) if store is not None else self._factory.outbound(lane)
        self._made[lane] = sender  # the last in use comes last
        if len(self._made) > _SENDERS:
            self._let_go(next(iter(self._made)))
        return sender

    def _let_go(self, lane: str) -> None:
        """Domains outside come without end. A sender that is still at work ends its deliveries first."""
        task = asyncio.get_running_loop().create_task(self._made.pop(lane).close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def use(self, settings: Settings) -> LetGo:
        """Build anew from another configuration; what lets go of the former senders, their deliveries once ended."""
        fresh = self._build(settings)
        former, factory, self._made = tuple(self._made.values()), self._factory, {}
        self._settings, self._factory = settings, fresh

        async def let_go() -> None:
            for sender in former:
                await sender.close()
            factory.close()

        return let_go

    async def ask(self, store: str, address: Address) -> HopReply:
        """A callout to a store (`classify.probe.Ask`)."""
        return await self._factory.callout(self._settings.stores[store]).ask(address)

    async def close(self) -> None:
        """End idle sessions and let go of the resolver."""
        await asyncio.gather(*self._closing, return_exceptions=True)
        for sender in self._made.values():
            await sender.close()
        self._factory.close()


@dataclass(frozen=True, slots=True)
class DataPlane:
    """A worker's data plane, wired up and not yet started."""

    classifier: CachingClassifier
    receiver: Receiver
    concluder: Concluder
    dispatcher: Dispatcher
    inflight: InFlight
    claims: Claims
    lanes: Lanes
    feeder: Feeder
    drain: Drain
    releases: Releases
    following: Following

    async def stop(self, grace: float) -> None:
        """Begin no further delivery; give those under way `grace` seconds."""
        await self.feeder.stop()
        await self.drain.stop()
        await self.releases.stop()
        await self.lanes.stop(grace)
        await self.classifier.close()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a data plane is built into. `share` is the number of workers that divide a node's limits."""

    spool: Spool
    source: MailboxSource
    senders: LaneSenders
    trace: Trace
    clock: Clock
    inflight: InFlight
    prober: Prober | None
    directories: Directories
    doubtful: Callable[[], bool]
    configured: Callable[[], None]
    guard: Callable[[Handle], Handle]
    """Wraps the dispatch function (single-step mode)."""
    mark_keys: tuple[bytes, ...]
    share: int
    single_step: bool = False


class Wiring:
    """Builds the data plane, and puts another configuration into it."""

    def __init__(self, settings: Settings, rules: AddressRules, around: Surroundings) -> None:
        self._settings = settings
        self._around = around
        self.plane = self._build(rules)

    def use(self, settings: Settings, rules: AddressRules) -> LetGo:
        """Swap the configuration in one synchronous step; the caller awaits what lets go of the former senders."""
        let_go = self._around.senders.use(settings)
        leave = self._around.directories.use(settings)
        self._settings = settings
        plane, dispatch = self.plane, self._rules()
        routing = Routing.from_settings(settings, self._around.mark_keys)
        plane.classifier.use(rules)
        plane.receiver.use(routing)
        plane.dispatcher.use(routing, dispatch, self._signer())
        plane.concluder.use(self._judge(), dispatch, self._reporter())
        plane.lanes.relimit()

        async def let_go_of_both() -> None:
            await leave()
            await let_go()

        return let_go_of_both

    def _build(self, rules: AddressRules) -> DataPlane:
        a, claims = self._around, Claims()
        classifier = CachingClassifier(rules, [a.source], a.clock, a.prober, beyond=a.directories.beyond)
        routing, dispatch = Routing.from_settings(self._settings, a.mark_keys), self._rules()
        concluder = Concluder(a.spool, self._judge(), dispatch, self._reporter(), a.trace, a.clock, claims)
        ages = a.directories.ages
        dispatcher = Dispatcher(
            TrustedClassifier(classifier, ages.delivers), routing, a.spool, a.senders, concluder, dispatch,
            self._signer(), a.trace, a.clock, claims, a.inflight,
        )  # fmt: skip
        lanes = Lanes(a.guard(dispatcher.dispatch), dispatcher.failed, self._limit, claims, a.clock.monotonic)
        feeder = Feeder(a.spool, lanes, claims, a.clock, farthest=self._farthest)
        lanes.attach(feeder.low)
        drain = Drain(a.spool, lanes, claims, dispatcher.by_route)
        releases = Releases(a.spool, drain, feeder, a.clock)
        concluder.attach(releases)
        dispatcher.attach(lanes, releases, feeder.behind)
        receiver = Receiver(
            TrustedClassifier(classifier, ages.answers, is_postmaster), routing, a.spool, claims, releases,
            dispatcher.offer, a.trace, a.clock, lambda found: a.doubtful() or not ages.refuses(found.mailbox),
        )  # fmt: skip
        following = Following(classifier, a.inflight, lanes, releases, a.configured)
        return DataPlane(
            classifier, receiver, concluder, dispatcher, a.inflight, claims, lanes, feeder, drain, releases, following
        )

    def _signer(self) -> Signer:
        return MarkSigner(self._settings.hostname, self._around.mark_keys[0], self._settings.stores.__contains__)

    def _reporter(self) -> Reporter:
        origin = Origin(self._settings.hostname)
        return DsnReporter(self._around.spool, origin, self._around.clock, self._settings.retry.lifetime)

    def _judge(self) -> Judge:
        schedule, retry = Schedule(self._settings.retry), self._settings.retry
        return Judge(
            retry,
            self._settings.safety.protect,
            lambda attempts, now: schedule.next_due(attempts, now, random.random()),  # noqa: S311 - jitter
            self._settle,
            self._settings.stores.__contains__,
        )

    def _rules(self) -> Rules:
        retry, safety = self._settings.retry, self._settings.safety
        return Rules(self._max_recipients, self._settle, _rest, retry.delay_notice, safety.protect)

    def _settle(self, lane: str) -> float:
        store = self._settings.stores.get(lane)
        return store.settle if store is not None else longest_settle(self._settings)

    def _farthest(self) -> float:
        """Seconds: no deferral lies farther ahead."""
        return max(FARTHEST, Schedule(self._settings.retry).sane_due(math.inf, 0.0) + longest_settle(self._settings))

    def _max_recipients(self, lane: str) -> int:
        store = self._settings.stores.get(lane)
        return store.max_recipients if store is not None else _OUTBOUND_RECIPIENTS

    def _limit(self, lane: str) -> int:
        if self._around.single_step:
            return 1
        if lane == ROUTE_LANE:
            return _ROUTING_TASKS
        store = self._settings.stores.get(lane)
        most = store.max_connections if store is not None else self._settings.outbound.max_connections
        return max(1, most // self._around.share)


def longest_settle(settings: Settings) -> float:
    """Seconds: what a dead process had under way, and with which store, is not known."""
    return max(store.settle for store in settings.stores.values())


def _rest(failures: int) -> float:
    """Seconds of rest after the n-th failure in a row to reach any host of a lane."""
    return Rest(failures - 1).failed(0.0, random.random())  # noqa: S311 - jitter
