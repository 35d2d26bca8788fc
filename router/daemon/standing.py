"""
Whether the control database is the one that a spool knows (design 4): its uuid, and no epoch lower than one seen.

Guarantees: the highest epoch is remembered by the spool soon after it was applied, never before. While the database
is another or an older one, nothing is remembered of it until an operator has accepted it.

On failure: what cannot be read or written now is tried again.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial

from router.control import audit
from router.control.database import ControlDatabase
from router.control.spools import Standing, check_spool
from router.errors import SluiceError
from router.model.change import ChangeKind, ChangeSet, Snapshot
from router.pipeline.ports import Trace
from router.report.alarms import AlarmKind
from router.spool.spool import Spool

log = logging.getLogger("sluice.worker")

_TRY_AGAIN = 2.0
Spawn = Callable[[Coroutine[None, None, None]], None]


class SpoolStanding:
    """One spool's. `spawn` runs work in the background; `accepted` is called when the database was accepted."""

    def __init__(
        self,
        spool: Spool,
        database: ControlDatabase,
        trace: Trace,
        started_at: float,
        spawn: Spawn,
        accepted: Callable[[], None],
    ) -> None:
        self._spool = spool
        self._database = database
        self._trace = trace
        self._started_at = started_at
        self._spawn = spawn
        self._accepted = accepted
        self._key = f"spool {spool.number:04d}"
        self._found = Standing.OK
        self._uuid = ""
        self._epoch = 0
        self._remembering = False

    @property
    def ok(self) -> bool:
        """Whether what the database says may be acted on."""
        return self._found is Standing.OK

    async def learn(self, snapshot: Snapshot) -> None:
        """Compare at the start. Raises `ControlUnavailable`, `SpoolUnavailable`."""
        self._uuid, self._epoch = snapshot.uuid, snapshot.epoch
        uuid, epoch = await self._spool.remembered()
        check = partial(check_spool, uuid=uuid, highest_epoch=epoch)
        self._found = await asyncio.to_thread(self._database.run_read, check)
        if self.ok:
            await self._spool.remember(self._uuid, self._epoch)
        else:
            text = f"the control database is {self._found}; this spool knows epoch {epoch}"
            self._trace.alarm(AlarmKind.RESTORED, self._key, text)

    def applied(self, changes: ChangeSet) -> None:
        """Changes are in force here."""
        self._epoch = max(self._epoch, changes.epoch)
        if self.ok:
            self._remember_soon()
        elif any(change.kind is ChangeKind.RESYNC for change in changes.changes):
            self._spawn(self._look_for_acceptance())

    def _remember_soon(self) -> None:
        if not self._remembering:
            self._remembering = True
            self._spawn(self._remember())

    async def _remember(self) -> None:
        try:
            remembered = 0
            while remembered < self._epoch:
                remembered = self._epoch
                await self._spool.remember(self._uuid, remembered)
        finally:
            self._remembering = False

    async def _look_for_acceptance(self) -> None:
        """An operator may have accepted the restored database: its audit says so, with a time after our start."""
        accepted = partial(audit.rows, verb="accept restored", limit=1)
        while not self.ok:
            try:
                rows = await asyncio.to_thread(self._database.run_read, accepted)
                if not rows or rows[0].at < self._started_at:
                    return
                await self._spool.remember(self._uuid, self._epoch, force=True)
            except SluiceError as error:
                log.warning("whether the restored database was accepted cannot be read yet: %s", error)
                await asyncio.sleep(_TRY_AGAIN)
                continue
            self._found = Standing.OK
            self._trace.clear(AlarmKind.RESTORED, self._key)
            self._accepted()
