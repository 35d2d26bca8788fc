"""
What went wrong in a transaction: the values' fault, the database's, or a full disk.

Anything that is not clearly the fault of one operation's values counts as the database's.
"""

import errno
import sqlite3
from typing import Any

from router.errors import SpoolDamaged, SpoolFull, SpoolUnavailable

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a file says when there is no more room for it."""
_CONSTRAINT_DATATYPE = sqlite3.SQLITE_CONSTRAINT | 12 << 8
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
    """Whether a page, row or type was found to contradict another: the fault of what was touched, not of the disk."""
    if isinstance(error, CommitError):
        return False
    # A column whose type changed on disk fails every statement that writes its row.
    of_type = getattr(error, "sqlite_errorcode", None) == _CONSTRAINT_DATATYPE
    return of_type or primary_code(error) == sqlite3.SQLITE_CORRUPT


def is_ruin(error: BaseException) -> bool:
    """Whether the database as a whole was found to be damaged; never for an error of the disk or a full one."""
    return primary_code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def is_full(error: Exception) -> bool:
    """Whether the disk (or the database's own limit, or a quota) is full; SQLite and our own files say it each."""
    if isinstance(error, OSError):
        return error.errno in NO_SPACE
    return primary_code(error) == sqlite3.SQLITE_FULL


def failure_of(error: Exception) -> SpoolUnavailable:
    """The error of ours that the waiting operations fail with."""
    if isinstance(error, CommitError):
        return CommitUnknown(f"COMMIT failed: {error}", reply=SpoolFull.reply if is_full(error) else None)
    if is_full(error):
        return SpoolFull(f"the disk is full: {error}")
    if is_ruin(error):
        return SpoolDamaged(f"the database is damaged: {error}")
    return SpoolUnavailable(f"{type(error).__name__}: {error}")
