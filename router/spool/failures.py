"""
What went wrong in a transaction: the values' fault, the database's, or a full disk.

Anything that is not clearly the fault of one operation's values counts as the database's.
"""

import sqlite3
from typing import Any

from router.errors import SpoolFull, SpoolUnavailable

_DATA_FAULTS = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH})


class CommitUnknown(SpoolUnavailable):
    """COMMIT failed: the transaction may or may not be there after a restart (PRC4)."""


class CommitError(sqlite3.OperationalError):
    """COMMIT itself failed; `error` is what it said."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args[:-1])
        self.error: sqlite3.Error = args[-1]


def primary_code(error: BaseException) -> int:
    """SQLite's primary result code, or -1."""
    if isinstance(error, CommitError):
        error = error.error
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else -1


def is_data_fault(error: sqlite3.Error) -> bool:
    """Whether the values were wrong, not the database. Misuse found by the module itself has no code."""
    if isinstance(error, CommitError):
        return False
    return primary_code(error) in _DATA_FAULTS or isinstance(
        error, sqlite3.InterfaceError | sqlite3.ProgrammingError | sqlite3.DataError
    )


def is_damage(error: BaseException) -> bool:
    """Whether a page or row was found to contradict another: the fault of what was touched, not of the disk."""
    return primary_code(error) == sqlite3.SQLITE_CORRUPT and not isinstance(error, CommitError)


def is_full(error: Exception) -> bool:
    """Whether the disk (or the database's own limit) is full."""
    return primary_code(error) == sqlite3.SQLITE_FULL


def failure_of(error: Exception) -> SpoolUnavailable:
    """The error of ours that the waiting operations fail with."""
    if isinstance(error, CommitError):
        return CommitUnknown(f"COMMIT failed: {error}", reply=SpoolFull.reply if is_full(error) else None)
    if is_full(error):
        return SpoolFull(f"the disk is full: {error}")
    return SpoolUnavailable(f"{type(error).__name__}: {error}")
