"""
Asking stores whether they know an address, for domains whose people are not all in a directory.

A callout is MAIL with the null sender and one RCPT; no DATA is ever sent. It is made by the injected `ask`.

Guarantees:
- An address is denied only when every store of the domain said so itself, at RCPT, in words that mean the mailbox and
  not us: a refusal of our host, a full mailbox or a syntax error is no denial.
- Any store that accepts gets the mail, the first one in the order of the configuration where several do.
- Callouts are limited in rate, in number at a time and in time altogether. Answers are remembered for a bounded time
  in bounded memory, and forgotten with any change of routing state. They are remembered for one spelling of the local
  part only, as a store may take `Joe` and `joe` for two people.

On failure: `LookupFailed` with 450 4.1.1 whenever a store is unsure, silent or not asked in time.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from router.classify.subaddress import wire_local
from router.errors import LookupFailed
from router.model.address import Address
from router.model.reply import HopReply, Reply
from router.ports import Clock

UNVERIFIED = Reply(450, "4.1.1", "Mailbox could not be verified, please try again later")
_DENYING_CODES = frozenset({550, 551, 553, 554})
_DENYING_WORDS = ("5.1.", "5.0.", "5.4.1")
"""Enhanced codes: bad address, no detail given, and 5.4.1, with which Exchange refuses an unknown recipient."""


class Ask(Protocol):
    """
    One callout to a store.

    The reply is the one to RCPT. A no at any earlier step (greeting, EHLO, TLS, MAIL) is not about the address and
    must come back as a 4xx or with `said_by_hop=False`.
    """

    async def __call__(self, store: str, address: Address) -> HopReply: ...


@dataclass(frozen=True, slots=True)
class ProbeLimits:
    """`rate` is callouts a second with bursts of `burst`; times are seconds."""

    rate: float = 20.0
    burst: int = 40
    concurrency: int = 8
    deadline: float = 8.0
    positive: float = 3600.0
    negative: float = 300.0
    entries: int = 10_000


@dataclass(frozen=True, slots=True)
class Probed:
    """`store` takes the address; '' when all denied it. `detail` names who said what."""

    store: str
    detail: str


@dataclass(frozen=True, slots=True)
class _Remembered:
    probed: Probed
    expires: float


class Prober:
    """Callouts of one worker. Event-loop thread only."""

    def __init__(
        self,
        ask: Ask,
        clock: Clock,
        limits: ProbeLimits | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._limits = limits or ProbeLimits()
        self._sleep = sleep
        self._slots = asyncio.Semaphore(self._limits.concurrency)
        self._answers: OrderedDict[tuple[str, tuple[str, ...]], _Remembered] = OrderedDict()
        self._generation = 0
        self._free_at = float("-inf")
        """When the callout after the ones granted so far is due by the rate."""

    async def probe(self, address: Address, stores: Sequence[str]) -> Probed:
        """Ask all `stores` about the address as it was received. Raises `LookupFailed` (450 4.1.1)."""
        key = (f"{wire_local(address)}@{address.domain}", tuple(stores))
        now = self._clock.monotonic()
        remembered = self._answers.get(key)
        if remembered is not None and now < remembered.expires:
            self._answers.move_to_end(key)
            return remembered.probed
        if not stores:
            raise LookupFailed(f"no store to ask about {address.domain}", reply=UNVERIFIED)
        generation = self._generation
        probed = judge(tuple(stores), await self._ask_all(address, stores))
        if generation == self._generation:
            self._remember(key, probed)
        return probed

    def forget(self) -> None:
        """Routing state has changed: what was learnt before is not used again, nor what is being asked now."""
        self._answers.clear()
        self._generation += 1

    async def _ask_all(self, address: Address, stores: Sequence[str]) -> list[HopReply | None]:
        tasks = [asyncio.ensure_future(self._ask_one(store, address)) for store in stores]
        try:
            await asyncio.wait(tasks, timeout=self._limits.deadline)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return [None if task.cancelled() else task.result() for task in tasks]

    async def _ask_one(self, store: str, address: Address) -> HopReply | None:
        """The store's reply, or None where it could not be asked."""
        delay = self._reserve()
        if delay > self._limits.deadline:
            return None
        if delay > 0:
            await self._sleep(delay)
        try:
            async with self._slots:
                return await self._ask(store, address)
        except Exception:  # noqa: BLE001 - whatever went wrong, the store has not said anything
            return None

    def _reserve(self) -> float:
        """Seconds to wait for the next callout the rate allows; none is reserved beyond the deadline."""
        now = self._clock.monotonic()
        interval = 1.0 / self._limits.rate
        free_at = max(self._free_at, now - (self._limits.burst - 1) * interval)
        if free_at - now <= self._limits.deadline:
            self._free_at = free_at + interval
        return max(0.0, free_at - now)

    def _remember(self, key: tuple[str, tuple[str, ...]], probed: Probed) -> None:
        lifetime = self._limits.positive if probed.store else self._limits.negative
        self._answers[key] = _Remembered(probed, self._clock.monotonic() + lifetime)
        self._answers.move_to_end(key)
        while len(self._answers) > self._limits.entries:
            self._answers.popitem(last=False)


def judge(stores: Sequence[str], replies: Sequence[HopReply | None]) -> Probed:
    """The both-sides rule. Raises `LookupFailed` when nobody accepts and not everybody denies. Pure."""
    accepting = [store for store, reply in zip(stores, replies, strict=True) if reply is not None and reply.positive]
    if accepting:
        others = f" (so does {', '.join(accepting[1:])})" if accepting[1:] else ""
        return Probed(accepting[0], f"{accepting[0]} accepts it{others}")
    unsure = [store for store, reply in zip(stores, replies, strict=True) if reply is None or not denies(reply)]
    if unsure or not stores:
        raise LookupFailed(f"unsure: {', '.join(unsure)}", reply=UNVERIFIED)
    return Probed("", "; ".join(f"{store}: {reply}" for store, reply in zip(stores, replies, strict=True)))


def denies(reply: HopReply) -> bool:
    """Whether a reply to RCPT means that there is no such mailbox (RFC 3463 X.1.x, or no enhanced code at all)."""
    if not reply.said_by_hop or reply.code not in _DENYING_CODES:
        return False
    return not reply.enhanced or reply.enhanced.startswith(_DENYING_WORDS)
