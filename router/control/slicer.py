"""
Large changes in small transactions, so that readers and other writers get their turn (measured: PRC11).

Guarantees: slices are sized by the time that their transactions take, and a pause follows each, by default as long,
so that half of the time belongs to others.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection

from router.control.database import ControlDatabase

TARGET_SECONDS = 0.03
"""What one slice's transaction may take: a reader may have to wait for the last part of it, the commit."""
SMALLEST, LARGEST = 20, 500

Result = TypeVar("Result")


@dataclass(slots=True)
class Slicer:
    """Sizes slices by the time they take, and lets others in between. `sleep` is in seconds."""

    sleep: Callable[[float], None] = time.sleep
    size: int = 100
    rest: float = 1.0
    """How long the pause is, as a share of the transaction."""

    def run(self, database: ControlDatabase, work: Callable[[Connection], Result]) -> Result:
        """Do one slice in a write transaction, repeated as a whole while the database is locked."""
        begun = time.monotonic()

        def timed(connection: Connection) -> Result:
            nonlocal begun
            begun = time.monotonic()  # waiting for the lock is no reason for smaller slices
            return work(connection)

        done = database.run_write(timed)
        taken = time.monotonic() - begun
        factor = min(2.0, max(0.5, TARGET_SECONDS / max(taken, 0.001)))
        self.size = min(LARGEST, max(SMALLEST, int(self.size * factor)))
        self.sleep(min(taken * self.rest, 0.1))
        return done
