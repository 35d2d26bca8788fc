"""
Exit statuses (sysexits.h), and how an error becomes one clear message with a remedy.

Guarantees: every exception has exactly one status and one text; what nobody foresaw is 70 and names the exception. A
traceback is never shown, unless SLUICE_DEBUG is set.

A verb raises `CommandFailed` for what it found out itself, and lets errors of the stations pass.
"""

from enum import IntEnum

from router.errors import (
    BodyDamaged,
    Conflict,
    ControlBusy,
    ControlUnavailable,
    LookupFailed,
    NotFound,
    SluiceError,
    SpoolFull,
    SpoolUnavailable,
)


class Exit(IntEnum):
    """`FAILED` and `REFUSED` are the verbs' own; the others are those of sysexits.h."""

    OK = 0
    FAILED = 1
    """The command ran, and what it was asked for is not so (see the verb)."""
    REFUSED = 2
    """`route`: some would be refused."""
    USAGE = 64
    DATA = 65
    NO_INPUT = 66
    UNAVAILABLE = 69
    INTERNAL = 70
    CANNOT_CREATE = 73
    IO_ERROR = 74
    TRY_AGAIN = 75
    NO_PERMISSION = 77
    CONFIG = 78
    INTERRUPTED = 130


class CommandFailed(Exception):
    """
    A command cannot be carried out. `message` names the place, `remedy` says what to do and may be empty.

    `details` are further lines, each a problem of its own, in their order.
    """

    def __init__(self, status: Exit, message: str, remedy: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.remedy = remedy
        self.details = details


# The first class that fits counts: subclasses stand before their bases.
_STATIONS: tuple[tuple[type[SluiceError], Exit, str], ...] = (
    (NotFound, Exit.DATA, ""),
    (Conflict, Exit.DATA, ""),
    (LookupFailed, Exit.TRY_AGAIN, "try again later"),
    (ControlBusy, Exit.UNAVAILABLE, "somebody keeps it locked, such as a worker that was stopped: run it again"),
    (ControlUnavailable, Exit.UNAVAILABLE, "see that `sluice serve` has run once and that this account may read it"),
    (SpoolFull, Exit.IO_ERROR, "make room on the disk"),
    (SpoolUnavailable, Exit.IO_ERROR, ""),
    (BodyDamaged, Exit.DATA, ""),
    (SluiceError, Exit.INTERNAL, ""),
)


def explain(error: BaseException) -> CommandFailed:
    """The message and status of any exception."""
    if isinstance(error, CommandFailed):
        return error
    if isinstance(error, KeyboardInterrupt):
        return CommandFailed(Exit.INTERRUPTED, "interrupted; what was changed before stays changed")
    if isinstance(error, OSError):
        return _of_system(error)
    for kind, status, remedy in _STATIONS:
        if isinstance(error, kind):
            return _of_station(error, status, remedy)
    remedy = "this is a fault of Sluice: set SLUICE_DEBUG=1, run it again, and report what it shows"
    return CommandFailed(Exit.INTERNAL, f"internal error: {error!r}", remedy)


def _of_station(error: SluiceError, status: Exit, remedy: str) -> CommandFailed:
    """The private text is for operators, and they are who reads this. Several lines are several problems."""
    first, *more = (error.private or str(error)).splitlines() or [type(error).__name__]
    return CommandFailed(status, first, remedy, tuple(more))


def _of_system(error: OSError) -> CommandFailed:
    place = f"{error.filename}: " if error.filename else ""
    text = f"{place}{error.strerror or error}"
    if isinstance(error, PermissionError):
        return CommandFailed(Exit.NO_PERMISSION, text, "run the command as root or as the user of the service")
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return CommandFailed(Exit.NO_INPUT, text)
    return CommandFailed(Exit.IO_ERROR, text)
