"""
Turns trouble of the spool into alarms: too little space, I/O errors, rows that cannot be read.

Guarantees: looks at what the spool knows already, without I/O. On failure: nothing here fails.
"""

import asyncio
from typing import Protocol

from router.model.reply import Reply
from router.report.alarms import AlarmKind

PERIOD = 5.0


class Patient(Protocol):
    """What is watched: a spool."""

    number: int

    @property
    def findings(self) -> tuple[str, ...]: ...

    @property
    def trouble(self) -> str: ...

    def unhealthy(self) -> Reply | None: ...
    def pause(self) -> float: ...


class Bell(Protocol):
    """Where alarms go."""

    def alarm(self, kind: str, key: str, text: str) -> None: ...
    def clear(self, kind: str, key: str) -> None: ...


class SpoolWatch:
    """One spool's watch."""

    def __init__(self, spool: Patient, bell: Bell) -> None:
        self._spool = spool
        self._bell = bell
        self._key = f"spool {spool.number:04d}"
        self._short = False

    async def keep(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(PERIOD)

    def look(self) -> None:
        """One look."""
        reply = self._spool.unhealthy()
        refused = reply is not None and reply.enhanced == "4.3.1"
        short = refused or (reply is None and self._spool.pause() > 0)
        if short:
            self._bell.alarm(AlarmKind.SPOOL_SPACE, self._key, self._spool.trouble or "too little space or inodes")
        elif self._short:
            self._bell.clear(AlarmKind.SPOOL_SPACE, self._key)
        self._short = short
        if reply is not None and not refused:
            self._bell.alarm(AlarmKind.SPOOL_ERROR, self._key, self._spool.trouble or reply.text)
        findings = self._spool.findings
        if findings:
            more = f" and {len(findings) - 1} more" if len(findings) > 1 else ""
            self._bell.alarm(AlarmKind.CORRUPT_ROW, self._key, f"{findings[0]}{more}")
