"""
Mail that an operator removes or parks is called back from whoever is about to deliver it.

Guarantees: while the block runs nobody else begins a delivery of these recipients. What had begun is broken off before
its final dot, at once; behind it the store's reply is waited for, for `PATIENCE` seconds, and so is the commit of an
end without a delivery (a refusal, a forward). A recipient that is still under way then is told in `under_way`: whoever
changes it would say "removed" of what the store, or the journal, may well have. What lanes have read already is not
sent after the block.

On failure: nothing here fails. One block at a time.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from router.deliver.claims import Claims
from router.deliver.inflight import InFlight

PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class Recalled:
    """Recipients that may be changed, and those that are coming to their end at this moment."""

    ours: list[int]
    under_way: list[int]


class Recall:
    """The deliveries of one worker."""

    def __init__(self, claims: Claims, inflight: InFlight, patience: float = PATIENCE) -> None:
        self._claims = claims
        self._inflight = inflight
        self._patience = patience

    @asynccontextmanager
    async def __call__(self, numbers: Sequence[int]) -> AsyncIterator[Recalled]:
        """Around a change of these recipients."""
        wanted = frozenset(numbers)
        handed = self._claims.call_in(wanted)
        changed: list[int] = []
        try:
            await self._break_off(wanted, handed)
            busy = self._busy(wanted)
            changed = [number for number in numbers if number not in busy]
            yield Recalled(changed, [number for number in numbers if number in busy])
        finally:
            self._claims.let_out(frozenset(changed))

    async def _break_off(self, wanted: frozenset[int], handed: dict[int, "asyncio.Future[None]"]) -> None:
        for entry in self._inflight.sending(wanted):
            entry.cancel()
        ends = [handed[number] for number in self._busy(wanted)]
        if ends:
            await asyncio.wait(ends, timeout=self._patience)

    def _busy(self, wanted: frozenset[int]) -> frozenset[int]:
        sending = [number for one in self._inflight.sending(wanted) for number in one.numbers]
        return wanted.intersection(sending) | self._claims.ending_of(wanted)
