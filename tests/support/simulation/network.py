"""
Next hops of a simulated site, and the way to them: slow, refusing, dropping the connection after the dot, silent.

A store takes a message by an event of its own: it has it before its reply is read, and also when nobody is left to
read it. What was sent before a connection broke is taken within the store's `settle` time, or never.

Guarantees: every message taken is told to the oracle at that moment; an aborted transaction is never taken.

On failure: a `Verdict`, as the product's sender gives it.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from router.deliver.inflight import Entry
from router.model.parcel import Parcel, Verdict
from router.model.reply import HopReply
from support.simulation.scheduler import Process, Scheduler

SETTLE = 1.0
_BEFORE_THE_DOT = ("connect", "mail", "rcpt", "data")
_OK = HopReply(250, "2.0.0", "ok", "store")
_BUSY = HopReply(451, "4.3.0", "busy", "store")
_GONE = HopReply(550, "5.1.1", "no such user here", "store")
_REFUSED = HopReply(451, "4.4.1", "connection refused", said_by_hop=False)
_LOST = HopReply(451, "4.4.2", "lost connection after the final dot", said_by_hop=False)
_INTERRUPTED = HopReply(451, "4.3.2", "interrupted", said_by_hop=False)


class Witness(Protocol):
    """Who is told what happens at the stores."""

    def began(self, worker: str, lane: str, parcel: Parcel, entry: Entry) -> None: ...
    def took(self, worker: str, lane: str, parcel: Parcel, wires: Sequence[str], entry: Entry) -> None: ...


@dataclass
class Hop:
    """One store's behaviour at this moment. `mood`: fine, down, busy, vanish, refuse. Times in seconds."""

    name: str
    mood: str = "fine"
    slow: float = 0.01
    late: float = 0.01
    """How long the store takes over the final dot."""


@dataclass
class _Sent:
    """What is on its way to a store: the dot was written."""

    process: Process
    take: Callable[[], None]
    at: float
    over: bool = False


class Network:
    """All next hops of a run."""

    def __init__(self, scheduler: Scheduler, names: Sequence[str], witness: Witness) -> None:
        self.scheduler = scheduler
        self.world = Process("stores")
        self.witness = witness
        self.hops = {name: Hop(name) for name in names}
        self._sent: list[_Sent] = []

    def hop(self, lane: str) -> Hop:
        """A store's, or that of a lane outside."""
        return self.hops.get(lane) or self.hops.setdefault(lane, Hop(lane))

    def send(self, process: Process, delay: float, take: Callable[[], None]) -> _Sent:
        """The dot is written; the store takes the message after `delay` unless it is forgotten."""
        sent = _Sent(process, take, self.scheduler.now + delay)
        self._sent.append(sent)
        self.scheduler.at(sent.at, self.world, lambda: self._arrive(sent))
        return sent

    def _arrive(self, sent: _Sent) -> None:
        if not sent.over and self.scheduler.now >= sent.at:
            sent.over = True
            self._sent.remove(sent)
            sent.take()

    def broken(self, sent: _Sent) -> None:
        """The connection broke after the dot: the store has it within its settle time, or never."""
        if sent.over:
            return
        if self.scheduler.random.random() < 0.4:
            sent.over = True
            self._sent.remove(sent)
            return
        latest = self.scheduler.now + SETTLE * 0.9
        if sent.at > latest:
            sent.at = latest
            self.scheduler.at(latest, self.world, lambda: self._arrive(sent))

    def died(self, process: Process) -> None:
        """A worker was killed: all its connections break."""
        for sent in [one for one in self._sent if one.process is process]:
            self.broken(sent)


def _done(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class SimSender:
    """The product's `Sender` for one lane of one worker."""

    def __init__(self, network: Network, process: Process, lane: str) -> None:
        self._network = network
        self._process = process
        self._lane = lane
        self._hop = network.hop(lane)

    async def send(self, parcel: Parcel, gate: Any) -> Sequence[Verdict]:
        network, hop = self._network, self._hop
        aborted = asyncio.get_running_loop().create_future()
        gate.attach(partial(_done, aborted))
        network.witness.began(self._process.name, self._lane, parcel, gate)
        if hop.mood == "down":
            await self._wait(0.01, aborted)
            return [Verdict(r.number, _REFUSED, unreachable=True) for r in parcel.recipients]
        for stage in _BEFORE_THE_DOT:
            gate.stage(stage)
            if await self._wait(hop.slow, aborted):
                return self._nothing(parcel)
        replies = [self._reply(hop) for _ in parcel.recipients]
        wires = [one.wire for one, reply in zip(parcel.recipients, replies, strict=True) if reply.positive]
        if wires and not gate.pass_dot():
            return self._nothing(parcel)
        in_doubt = bool(wires) and await self._transmit(parcel, wires, gate)
        return [
            Verdict(one.number, _LOST, in_doubt=True) if in_doubt and reply.positive else Verdict(one.number, reply)
            for one, reply in zip(parcel.recipients, replies, strict=True)
        ]

    async def _transmit(self, parcel: Parcel, wires: Sequence[str], gate: Any) -> bool:
        """From the dot to the reply: whether the reply never came."""
        network, hop, random = self._network, self._hop, self._network.scheduler
        took = random.between(0.0, hop.late)
        sent = network.send(
            self._process, took, lambda: network.witness.took(self._process.name, self._lane, parcel, wires, gate)
        )
        vanish = hop.mood == "vanish"
        try:
            await asyncio.sleep(random.between(0.0, hop.late) if vanish else took + random.between(0.001, hop.slow))
        except asyncio.CancelledError:
            network.broken(sent)
            raise
        if vanish:
            network.broken(sent)
        return vanish

    def _reply(self, hop: Hop) -> HopReply:
        if hop.mood == "busy":
            return _BUSY
        if hop.mood == "refuse" and self._network.scheduler.random.random() < 0.5:
            return _GONE
        return _OK

    async def _wait(self, longest: float, aborted: "asyncio.Future[None]") -> bool:
        """Whether the delivery was called back meanwhile."""
        scheduler, loop = self._network.scheduler, asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(scheduler.between(0.0, longest), partial(_done, done))
        aborted.add_done_callback(lambda _one: _done(done))
        await done
        timer.cancel()
        return aborted.done()

    def _nothing(self, parcel: Parcel) -> Sequence[Verdict]:
        return [Verdict(r.number, _INTERRUPTED, no_attempt=True) for r in parcel.recipients]

    async def close(self) -> None:
        return None


class SimSenders:
    """What the product's `Senders` is to a worker."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self._process = process

    def store(self, store: Any) -> SimSender:
        return SimSender(self._network, self._process, store.hosts[0].host.partition(".")[0])

    def outbound(self, lane: str) -> SimSender:
        return SimSender(self._network, self._process, lane)

    def callout(self, store: Any) -> Any:
        raise AssertionError("no domain of the simulation is probed")

    def close(self) -> None:
        return None
