"""
Closes alarms whose reason is gone, so that an open alarm always means that somebody should look.

Guarantees: an alarm about a message is closed when none of its recipients is parked or quarantined any more; one about
something that is noticed again and again while it lasts is closed after `SILENCE` without a repetition. All others are
closed by whoever raised them.

On failure: `SluiceError`; tried again at the next look.
"""

import asyncio
import time
from functools import partial

from router.control import alarms
from router.control.alarms import Alarm
from router.control.database import ControlDatabase
from router.report.alarms import AlarmKind
from router.spool.desk import Desk
from router.spool.finding import QueueFilter
from router.spool.numbering import parse_queue_id

SILENCE = 3600.0
"""Seconds."""

_OF_MESSAGES = frozenset({AlarmKind.LOOP, AlarmKind.PROTECTED_REFUSAL, AlarmKind.CORRUPT_BODY, AlarmKind.CORRUPT_ROW})
_REPEATED = frozenset(
    {
        AlarmKind.INTERNAL,
        AlarmKind.SPOOL_ERROR,
        AlarmKind.BAD_ROUTE_DATA,
        AlarmKind.UNMAPPED_HOME,
        AlarmKind.EMPTY_DOMAIN,
        AlarmKind.NEXT_HOP_IS_US,
        AlarmKind.TLS_FALLBACK,
        AlarmKind.HOST_NOT_FOUND,
        AlarmKind.MEMBER_SILENT,
        AlarmKind.WORKER_CRASHING,
    }
)
_SET_ASIDE = ("parked", "quarantined")


class AlarmKeeper:
    """Looks at the alarms of one spool, and at those that belong to nobody."""

    def __init__(self, database: ControlDatabase, desk: Desk, spool: int) -> None:
        self._database = database
        self._desk = desk
        self._spool = spool

    async def look(self) -> int:
        """Close what can be closed; how many. Raises `SluiceError`."""
        found = await asyncio.to_thread(self._database.run_read, alarms.open_alarms)
        over = [one for one in found if await self._is_over(one, time.time())]
        for one in over:
            work = partial(alarms.clear_alarm, kind=one.kind, key=one.key, now=time.time())
            await asyncio.to_thread(self._database.run_write, work)
        return len(over)

    async def _is_over(self, one: Alarm, now: float) -> bool:
        if one.kind in _REPEATED:
            return now - one.last > SILENCE
        if one.kind not in _OF_MESSAGES or not self._mine(one.key):
            return False
        for state in _SET_ASIDE:
            if await self._desk.find(QueueFilter(queue_id=one.key, state=state, limit=1)):
                return False
        # The alarm is raised before the recipient is parked: give the commit its time.
        return now - one.last > 5.0

    def _mine(self, key: str) -> bool:
        try:
            return parse_queue_id(key)[0] == self._spool
        except ValueError:
            return False
