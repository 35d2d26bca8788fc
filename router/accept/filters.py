"""
The filter port: a hook at connect, RCPT and the final dot that may pass, defer or refuse.

Guarantees: a filter that fails, takes longer than its deadline or answers nonsense gives 451 4.3.0; it can make
mail late, never lose it. Without a filter the port costs nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable

from router.accept import replies
from router.model.address import Address
from router.model.envelope import Envelope, HeaderFacts
from router.model.reply import Reply
from router.ports import Filter

_log = logging.getLogger(__name__)

DEADLINE = 10.0
"""Seconds for one answer of a filter."""


class PassFilter:
    """The default: everything passes."""

    async def connect(self, client: str) -> Reply | None:  # noqa: ARG002 - the port's signature
        return None

    async def rcpt(self, envelope: Envelope, address: Address) -> Reply | None:  # noqa: ARG002 - the port's signature
        return None

    async def data(self, envelope: Envelope, header: HeaderFacts) -> Reply | None:  # noqa: ARG002 - as above
        return None


class GuardedFilter:
    """A filter behind a deadline: same questions, and never an exception."""

    def __init__(self, inner: Filter, deadline: float = DEADLINE) -> None:
        self._inner = inner
        self._deadline = deadline
        self.active = not isinstance(inner, PassFilter)
        """False when asking is pointless."""

    async def connect(self, client: str) -> Reply | None:
        return await self._ask(self._inner.connect(client))

    async def rcpt(self, envelope: Envelope, address: Address) -> Reply | None:
        return await self._ask(self._inner.rcpt(envelope, address))

    async def data(self, envelope: Envelope, header: HeaderFacts) -> Reply | None:
        return await self._ask(self._inner.data(envelope, header))

    async def _ask(self, question: Awaitable[Reply | None]) -> Reply | None:
        try:
            # A session is no task, and `timeout` needs one.
            answer = await asyncio.get_running_loop().create_task(self._in_time(question))
        except Exception:  # noqa: BLE001 - another program's code; the mail waits
            _log.exception("a filter failed; the client is asked to try again later")
            return replies.FILTER_FAILED
        if answer is not None and answer.positive:
            _log.error("a filter answered with the positive reply %s; only 4xx and 5xx refuse", answer)
            return replies.FILTER_FAILED
        return answer

    async def _in_time(self, question: Awaitable[Reply | None]) -> Reply | None:
        async with asyncio.timeout(self._deadline):
            return await question
