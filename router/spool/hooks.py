"""
What the writer's thread needs from the rest of the spool: connections, numbers, and where troubles go.

Guarantees: a message number is never handed out twice, even when the database lost its tail (PRC9) or a COMMIT
failed without saying what became of it (PRC4); such a loss is reported in `findings`, not repaired silently.
"""

import logging
import sqlite3
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Many
from pathlib import Path

from router.errors import SpoolUnavailable
from router.spool.batch import Numbers
from router.spool.bodies import Bodies
from router.spool.health import Health
from router.spool.journal import last_number
from router.spool.place import JOURNAL
from router.spool.schema import DATABASE, open_writer
from router.spool.sequence import Sequence

log = logging.getLogger("sluice.spool")


class WriterHooks:
    """See `router.spool.writer.Hooks`. Everything here runs in the writer's thread."""

    def __init__(self, directory: Path, number: int, sequence: Sequence, bodies: Bodies, health: Health) -> None:
        self._directory = directory
        self._number = number
        self._sequence = sequence
        self._bodies = bodies
        self._health = health
        self._first = True
        self.clean_start = True
        """The spool's last owner closed it in order."""
        self.ruin = ""
        """Why the database as a whole is taken to be damaged; '' while it is not."""
        self.findings: list[str] = []
        """What is wrong with the spool as a whole, for operators."""
        self.numbers = Numbers()
        self.pass_over: Callable[[int, str], None] = lambda _number, _why: None
        """Told of recipients whose rows can be neither used nor changed."""

    def connect(self) -> sqlite3.Connection:
        connection = open_writer(self._directory / DATABASE, self._number)
        if self._first:
            self._first = False
            row = connection.execute("SELECT value FROM meta WHERE name = 'clean'").fetchone()
            self.clean_start = row is not None and row[0] == "1"
        return connection

    def load_numbers(self, connection: sqlite3.Connection, handed_out: Numbers) -> Numbers:
        stored = dict(connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
        message, journal = stored.get("messages", 0), stored.get("journal", 0)
        if message < self._sequence.committed:
            finding = (
                f"spool {self._number:04d}: the database ends at message {message}, but {self._sequence.committed}"
                " was committed: its log was damaged or lost, and acknowledged mail with it"
            )
            if finding not in self.findings:
                self.findings.append(finding)
                log.critical("%s", finding)
        # Numbers reserved by a former owner that was killed may have been used by a transaction that is lost.
        floor = self._sequence.reserved if handed_out.message == 0 and message < self._sequence.reserved else 0
        files = last_number(self._directory / JOURNAL)
        self.numbers = Numbers(max(message, handed_out.message, floor), max(journal, handed_out.journal, files))
        return self.numbers

    def reserve_numbers(self, numbers: Numbers) -> None:
        self._sequence.reserve(numbers.message)

    def committed(self, numbers: Numbers, unlink: Many[str]) -> None:
        # Numbers begin above a gap after an unclean end: only a message that was inserted moves the database's own.
        if numbers.message > self.numbers.message:
            self._sequence.commit(numbers.message)
        self.numbers = numbers
        self._bodies.unlink_later(unlink)

    def damaged(self, rows: Mapping[int, str]) -> None:
        for number, why in rows.items():
            log.error("spool %04d: recipient %d cannot be changed and is passed over: %s", self._number, number, why)
            self.pass_over(number, why)

    def make_room(self) -> bool:
        return self._health.make_room()

    def ruined(self, why: str) -> None:
        """From any thread."""
        if not self.ruin:
            log.critical("spool %04d: the database is damaged: %s", self._number, why)
            self.ruin = why

    def trouble(self, error: SpoolUnavailable | None) -> None:
        self._health.trouble(error)
