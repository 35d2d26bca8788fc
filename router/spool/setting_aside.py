"""
Setting a damaged spool aside: its directory gets another name, under which no worker opens it and nothing is lost.

`NNNN.damaged-TIME` stays as it was found, for `sluice queue recover` and for people. Its number is never given again.

Guarantees: `examine` writes nothing and calls a spool damaged only when its files contradict themselves; whatever
keeps it from reading them (an I/O error, a lack of memory or rights) is no damage and may pass. The new name is durable
when `set_aside` returns, and the lock goes with the directory.

On failure: `SpoolUnavailable` when it cannot be told, `OSError` when the name cannot be changed: nothing was.
"""

import json
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.errors import SpoolDamaged, SpoolUnavailable
from router.spool import wal
from router.spool.failures import is_ruin
from router.spool.schema import DATABASE, open_reader, sync_directory

RECOVERED = "recovered"
"""In a directory set aside: what was brought back from it, once all of it was."""
_NAME = re.compile(r"([0-9]{4})\.damaged-([0-9]{8}T[0-9]{6}Z)")
_TIME = "%Y%m%dT%H%M%SZ"
_STEPS = 10_000


@dataclass(frozen=True, slots=True)
class Aside:
    """A spool set aside at a time (wall clock, seconds). `recovered`: what could be read was brought back."""

    number: int
    directory: Path
    at: float
    recovered: bool


def examine(directory: Path, stopped: Callable[[], bool] = lambda: False) -> str:
    """
    What is wrong with the database of a spool that nobody has open (the caller has its lock); '' for a sound one.

    Reads all of it. Raises `SpoolUnavailable` when that cannot be told, also when `stopped` says so meanwhile.
    """
    path = directory / DATABASE
    try:
        found = wal.damage(path) or wal.cut_off(path)
        return found or _integrity(path, stopped)
    except SpoolDamaged as error:
        return error.private
    except OSError as error:
        raise SpoolUnavailable(f"{path}: {error}") from error


def set_aside(directory: Path, at: float) -> Path:
    """Give the directory of a damaged spool, of which the caller has the lock, its other name."""
    place = directory.with_name(name_aside(directory.name, at))
    directory.rename(place)
    sync_directory(directory.parent)
    return place


def name_aside(name: str, at: float) -> str:
    """What the directory of a spool is called when it was set aside at that time."""
    return f"{name}.damaged-{time.strftime(_TIME, time.gmtime(at))}"


def aside(root: Path) -> Sequence[Aside]:
    """All spools set aside below a directory, by name. Raises `OSError`."""
    if not root.is_dir():
        return ()
    found = (parse(path) for path in sorted(root.iterdir()))
    return [one for one in found if one is not None]


def parse(directory: Path) -> Aside | None:
    """The spool that was set aside under this name; None if that is no such name."""
    match = _NAME.fullmatch(directory.name)
    if match is None:
        return None
    try:
        at = float(time.mktime(time.strptime(match[2], _TIME))) - time.timezone
    except (ValueError, OverflowError):
        return None
    return Aside(int(match[1]), directory, at, brought_back(directory) is not None)


def brought_back(directory: Path) -> dict[str, Any] | None:
    """What the note in a directory says of its recovery; None before it was ended."""
    try:
        found = json.loads((directory / RECOVERED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("complete") is True else None


def _integrity(path: Path, stopped: Callable[[], bool]) -> str:
    connection = open_reader(path)
    try:
        connection.set_progress_handler(lambda: int(stopped()), _STEPS)
        ((text,),) = connection.execute("PRAGMA integrity_check(1)").fetchall()
    except sqlite3.Error as error:
        if is_ruin(error):
            return f"{path}: {error}"
        raise SpoolUnavailable(f"{path}: {error}") from error
    finally:
        connection.close()
    return "" if text == "ok" else f"{path}: {' '.join(str(text).split())}"
