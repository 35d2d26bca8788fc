"""
Closes alarms whose reason is gone, so that an open alarm always means that somebody should look.

Guarantees: an alarm about a message or a mailbox is closed when no spool of this node has a recipient of it parked or
quarantined any more; one about a spool set aside when what can be read of it was brought back, or its directory was
removed; one about something that is noticed again and again while it lasts is closed after `SILENCE`
without a repetition. All others are closed by whoever raised them.

On failure: `SluiceError`; tried again at the next look.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from router.control import alarms
from router.control.alarms import Alarm
from router.control.database import ControlDatabase
from router.errors import SluiceError
from router.report.alarms import AlarmKind
from router.spool.finding import QueueFilter
from router.spool.offline import view
from router.spool.setting_aside import parse

SILENCE = 3600.0
"""Seconds."""

PERIOD = 20.0

log = logging.getLogger("sluice.worker")

_OF_MESSAGES = frozenset({AlarmKind.LOOP, AlarmKind.CORRUPT_BODY})
_OF_MAILBOXES = frozenset({AlarmKind.PROTECTED_REFUSAL, AlarmKind.UNFIT})
_REPEATED = frozenset(
    {
        AlarmKind.INTERNAL,
        AlarmKind.IN_DOUBT,
        AlarmKind.SPOOL_ERROR,
        AlarmKind.CORRUPT_ROW,
        AlarmKind.BAD_ROUTE_DATA,
        AlarmKind.UNMAPPED_HOME,
        AlarmKind.EMPTY_DOMAIN,
        AlarmKind.FORWARD_LOOP,
        AlarmKind.NEXT_HOP_IS_US,
        AlarmKind.TLS_FALLBACK,
        AlarmKind.HOST_NOT_FOUND,
        AlarmKind.MEMBER_SILENT,
        AlarmKind.WORKER_CRASHING,
    }
)


class AlarmKeeper:
    """Looks at the open alarms; `spools` is the directory of this node's spools. Blocking work runs in threads."""

    def __init__(self, database: ControlDatabase, spools: Path, wall: Callable[[], float] = time.time) -> None:
        self._database = database
        self._spools = spools
        self._wall = wall

    async def keep(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            try:
                await asyncio.to_thread(self.look)
            except (SluiceError, OSError) as error:
                log.warning("alarms cannot be looked at: %s", error)

    def look(self) -> int:
        """Close what can be closed; how many. Blocks. Raises `SluiceError`."""
        found = self._database.run_read(alarms.open_alarms)
        over = [one for one in found if self._is_over(one)]
        for one in over:
            self._database.run_write(partial(alarms.clear_alarm, kind=one.kind, key=one.key, now=self._wall()))
        return len(over)

    def _is_over(self, one: Alarm) -> bool:
        silent = self._wall() - one.last
        if one.kind in _REPEATED:
            return silent > SILENCE
        # The alarm is raised before the recipient is parked: give the commit its time.
        if silent < PERIOD:
            return False
        if one.kind == AlarmKind.SPOOL_DAMAGED:
            found = parse(self._spools / one.key)
            return found is None or found.recovered or not found.directory.exists()
        if one.kind in _OF_MESSAGES:
            return not self._set_aside(QueueFilter(queue_id=one.key, limit=1))
        if one.kind in _OF_MAILBOXES:
            return not self._set_aside(QueueFilter(mailbox=one.key, limit=1))
        return False

    def _set_aside(self, wanted: QueueFilter) -> bool:
        """Whether any spool has such a recipient parked or quarantined."""
        for directory in sorted(path for path in self._spools.iterdir() if path.name.isdigit()):
            with view(directory) as spool:
                if any(spool.find(replace(wanted, state=state)) for state in ("parked", "quarantined")):
                    return True
        return False
