"""
All directories of the site as one: asked together, with a deadline and a breaker.

Guarantees: an address counts as unknown only when every source has answered. The epoch of a merged answer is the
lowest of its parts. A source that hangs costs one deadline now and then, not one for each recipient: after some
failures in a row questions fail at once, and one is let through each `rest` seconds to see whether it is over.

On failure: `LookupFailed` for whatever a source raises (an unknown error is temporary), and `BadRouteData` as it is.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import TypeVar

from router.classify.merged import Merged, merge
from router.errors import BadRouteData, LookupFailed
from router.ports import Clock, MailboxSource

T = TypeVar("T")

DEADLINE = 5.0
"""Seconds for one question to all sources."""
FAILURES = 3
REST = 1.0


class Sources:
    """The sources in the order of the configuration: for one mailbox known to several, the first is believed."""

    def __init__(
        self,
        sources: Sequence[MailboxSource],
        clock: Clock,
        deadline: float = DEADLINE,
        failures: int = FAILURES,
        rest: float = REST,
    ) -> None:
        self._sources = tuple(sources)
        self._clock = clock
        self._deadline = deadline
        self._limit = failures
        self._rest = rest
        self._failed = 0
        self._try_at = 0.0

    async def find(self, keys: Sequence[str]) -> Merged:
        """Ask every source for these address keys. Raises `LookupFailed`, `BadRouteData`."""
        return merge(await self._guarded([source.find(keys) for source in self._admitted()]))

    async def populated(self, domains: Iterable[str]) -> str:
        """The first of these domains in which any source knows anybody, or ''. Raises `LookupFailed`."""
        for domain in domains:
            if any(await self._guarded([source.populated(domain) for source in self._admitted()])):
                return domain
        return ""

    def _admitted(self) -> tuple[MailboxSource, ...]:
        if not self._sources:
            raise LookupFailed("no directory is configured")
        now = self._clock.monotonic()
        if self._failed >= self._limit:
            if now < self._try_at:
                raise LookupFailed("the directory did not answer lately")
            self._try_at = now + self._rest
        return self._sources

    async def _guarded(self, questions: Sequence[Awaitable[T]]) -> list[T]:
        try:
            async with asyncio.timeout(self._deadline):
                answers = await asyncio.gather(*questions)
        except BadRouteData:
            self._failed = 0
            raise
        except Exception as error:  # an unknown error is a temporary one
            self._failed += 1
            self._try_at = self._clock.monotonic() + self._rest
            if isinstance(error, LookupFailed):
                raise
            raise LookupFailed(f"a directory failed: {error!r}") from error
        self._failed = 0
        return answers
