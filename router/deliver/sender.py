"""
The `Sender` port: parcels to one lane's hosts over pooled sessions.

Guarantees: one verdict per recipient, in their order. Hosts are tried in order, those that failed lately last. A
session that was reused and turns out dead, or a host that ends the session before it decided anything, costs no
attempt: the message goes to a fresh session or the next host at once. What the hosts do is never an exception; an
exception of `parcel.blocks` (`BodyDamaged`) passes through with the connection aborted and nothing delivered.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from router.deliver.attempt import Attempt, Interrupted
from router.deliver.connection import ConnectFailed, Connection, Connector, Endpoint, Timeouts
from router.deliver.pool import Pool, PoolLimits
from router.deliver.resolve import HostSource, ResolveFailed
from router.deliver.schedule import Rest
from router.deliver.transaction import Result, Transaction, interrupted, same_for_all
from router.model.parcel import Parcel, Verdict
from router.ports import Gate

MAX_HOSTS = 10
"""Addresses tried for one parcel. Those that failed are tried last the next time, so all have their turn."""


class LaneSender:
    """
    Delivers to one lane. `max_connections` bounds its sessions in use; further sends wait. With `whole_eight_bit`
    8-bit mail is refused, in our words, where the host does not offer 8BITMIME.
    """

    def __init__(
        self,
        hosts: HostSource,
        connector: Connector,
        *,
        protocol: Literal["smtp", "lmtp"] = "smtp",
        max_connections: int = 20,
        timeouts: Timeouts = Timeouts(),  # noqa: B008  # frozen
        limits: PoolLimits = PoolLimits(),  # noqa: B008  # frozen
        whole_eight_bit: bool = False,
    ) -> None:
        self._whole_eight_bit = whole_eight_bit
        self._hosts = hosts
        self._connector = connector
        self._lmtp = protocol == "lmtp"
        self._timeouts = timeouts
        self._pool = Pool(limits, timeouts.quit)
        self._slots = asyncio.Semaphore(max_connections)
        self._rests: dict[Endpoint, Rest] = {}

    async def send(self, parcel: Parcel, gate: Gate) -> Sequence[Verdict]:
        """Deliver; see `router.ports.Sender`."""
        attempt = Attempt(gate)
        try:
            if self._slots.locked():
                await attempt.run(self._slots.acquire())
            else:
                await self._slots.acquire()
            try:
                return await self._send(parcel, attempt)
            finally:
                self._slots.release()
        except Interrupted:
            return [interrupted(recipient.number) for recipient in parcel.recipients]
        finally:
            attempt.end()

    async def close(self) -> None:
        """End idle sessions with QUIT. Sends under way go on; their sessions end after them."""
        await self._pool.close()

    async def _send(self, parcel: Parcel, attempt: Attempt) -> Sequence[Verdict]:
        while (connection := self._pool.take()) is not None:
            result = await self._transact(connection, parcel, attempt)
            if not result.early:
                return result.verdicts
        try:
            endpoints = await attempt.run(self._choose())
        except ResolveFailed as failure:
            return same_for_all(parcel, failure.reply, unreachable=not failure.reply.permanent)
        return await self._try_hosts(endpoints, parcel, attempt)

    async def _try_hosts(self, endpoints: Sequence[Endpoint], parcel: Parcel, attempt: Attempt) -> Sequence[Verdict]:
        verdicts: Sequence[Verdict] = ()
        for endpoint in endpoints:
            try:
                connection = await self._connect(endpoint, attempt)
            except ConnectFailed as failure:
                self._note_failure(endpoint)
                verdicts = verdicts or same_for_all(parcel, failure.reply, unreachable=True)
                continue
            result = await self._transact(connection, parcel, attempt)
            if not result.early:
                self._rests.pop(endpoint, None)
                return result.verdicts
            self._note_failure(endpoint)
            # A host that is too busy for anything is as good as none: let the lane rest. One that broke off at this
            # message may do so because of it, which is no reason to keep the others waiting.
            verdicts = [replace(one, unreachable=result.busy) for one in result.verdicts]
        return verdicts

    async def _connect(self, endpoint: Endpoint, attempt: Attempt) -> Connection:
        return await attempt.run(self._connector.open(endpoint, attempt.stage))

    async def _transact(self, connection: Connection, parcel: Parcel, attempt: Attempt) -> Result:
        transaction = Transaction(
            connection,
            parcel,
            attempt,
            self._timeouts,
            lmtp=self._lmtp,
            whole_eight_bit=self._whole_eight_bit,
        )
        result = await transaction.run()
        if result.keep:
            self._pool.give(connection)
        else:
            self._pool.retire(connection)
        return result

    async def _choose(self) -> Sequence[Endpoint]:
        """The addresses to try now: in the order of the source, those that rest after a failure behind the others."""
        now = time.monotonic()
        found = await self._hosts.endpoints()
        resting = {one for one in found if one in self._rests and self._rests[one].resting(now)}
        return [*(one for one in found if one not in resting), *(one for one in found if one in resting)][:MAX_HOSTS]

    def _note_failure(self, endpoint: Endpoint) -> None:
        if len(self._rests) > 1000:
            self._rests.clear()
        rest = self._rests.setdefault(endpoint, Rest())
        rest.failed(time.monotonic(), random.random())  # noqa: S311  # jitter
