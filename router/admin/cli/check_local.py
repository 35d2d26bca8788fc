"""
What is to be checked on the machine itself: disk, SQLite, the control database, the spools.

Guarantees: nothing is changed but one scratch file in the state directory, which is removed again. Databases are
opened for reading.

On failure: nothing raises; what cannot be looked at is a finding.
"""

import os
import sqlite3
import stat
import time
from pathlib import Path
from statistics import median

from sqlalchemy import Connection

from router.admin.cli.check_finding import Finding, error, ok, warning
from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed
from router.admin.cli.output import octets
from router.control import changes, mailboxes
from router.control.database import ControlDatabase
from router.control.spools import Standing, check_spool
from router.errors import SluiceError, SpoolUnavailable
from router.settings.schema import Settings
from router.spool.offline import SpoolView
from router.spool.place import filesystem_of, judge_filesystem

_ROUNDS = 20
_SLOW = 0.05
_TOO_FAST = 0.00005
"""Seconds; below, a flush has hardly been to any disk."""
_FIXED = (3, 51, 3)
_BACKPORTS = frozenset({(3, 44, 6), (3, 50, 7)})


def check_local(context: Context) -> list[Finding]:
    """Disk and SQLite, then database and spools."""
    settings = context.settings()
    return [*_check_disk(settings), _check_sqlite(), *_check_state(context)]


def _check_disk(settings: Settings) -> list[Finding]:
    place = settings.state_dir
    try:
        found = os.statvfs(place)
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        warnings = judge_filesystem(filesystem_of(place, mounts))
    except OSError as failure:
        return [error("disk", str(place), failure.strerror or str(failure), "make the directory, mode 0700")]
    except SpoolUnavailable as failure:
        return [error("disk", str(place), failure.private, "put state_dir on a local disk")]
    free = found.f_bavail * found.f_frsize
    least = max(settings.limits.minimum_free, settings.message_size_limit * 3 // 2)
    text = f"{octets(free)} free; mail is refused below {octets(least)}"
    space = ok("disk", str(place), text) if free > 2 * least else warning("disk", str(place), text, "make room")
    if free <= least:
        space = error("disk", str(place), text, "make room")
    return [space, *(warning("disk", str(place), one) for one in warnings), _check_flush(place)]


def _check_flush(place: Path) -> Finding:
    """What each accepted message waits for: an fsync after a small write."""
    scratch = place / f".check-{os.getpid()}"
    times = []
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            for _ in range(_ROUNDS):
                os.write(descriptor, b"\0" * 4096)
                begun = time.monotonic()
                os.fsync(descriptor)
                times.append(time.monotonic() - begun)
        finally:
            os.close(descriptor)
            scratch.unlink()
    except OSError as failure:
        return error(
            "disk", str(place), f"cannot be written: {failure.strerror}", "run the check as the service's user"
        )
    text = f"fsync takes {median(times) * 1000:.2f} ms, at worst {max(times) * 1000:.2f} ms"
    if median(times) > _SLOW:
        return warning("disk", str(place), text, "each message waits for it: use a faster disk")
    if median(times) < _TOO_FAST:
        return warning(
            "disk", str(place), text, "so fast that it may not reach the disk: see that flushes are honoured"
        )
    return ok("disk", str(place), text)


def _check_sqlite() -> Finding:
    version = sqlite3.sqlite_version_info
    text = f"version {sqlite3.sqlite_version}"
    if version >= _FIXED or version in _BACKPORTS:
        return ok("database", "SQLite", text)
    note = "has the WAL-reset race; Sluice avoids it (one writer per spool, no WAL for the control database)"
    return ok("database", "SQLite", f"{text} {note}: let no other program write to these files")


def _check_state(context: Context) -> list[Finding]:
    subject = "control database"
    try:
        database = context.database()
        found = database.run_read(_damage) if database.path is not None else []
        epoch = database.run_read(changes.current_epoch)
    except CommandFailed as failure:
        return [error("database", subject, failure.message, failure.remedy), *_check_spools(context, None)]
    except SluiceError as failure:
        return [error("database", subject, failure.private), *_check_spools(context, None)]
    first = [error("database", subject, one, "restore it from a backup") for one in found]
    first = first or [ok("database", subject, f"opens and is sound, epoch {epoch}")]
    return [*first, *_check_people(context, database), *_check_spools(context, database)]


def _damage(connection: Connection) -> list[str]:
    rows = connection.exec_driver_sql("PRAGMA quick_check(5)").fetchall()
    return [str(row[0]) for row in rows if row[0] != "ok"]


def _check_people(context: Context, database: ControlDatabase) -> list[Finding]:
    """Homes without a store have no route, and a domain in which nobody is known answers 451."""
    settings = context.settings()
    found = []
    for home, count in sorted(database.run_read(mailboxes.homes).items()):
        if home not in settings.stores:
            text = f"is the home of {count} mailboxes and no store of the configuration"
            found.append(error("database", home or "(no home)", text, "their mail waits: add the store, or move them"))
    for name, domain in settings.domains.items():
        if domain.alias_of or domain.unknown != "reject":
            continue

        def known(connection: Connection, wanted: str = name) -> bool:
            return mailboxes.populated(connection, wanted)

        if not database.run_read(known):
            text = "nobody is known in it: unknown addresses get 451, not 550"
            found.append(warning("database", name, text, "`sluice user import`, or a directory that is followed"))
    return found


def _check_spools(context: Context, database: ControlDatabase | None) -> list[Finding]:
    try:
        places = context.spools()
    except OSError as failure:
        return [error("spool", str(failure.filename), failure.strerror or "", "run the check as the service's user")]
    if not places:
        return [ok("spool", "spools", "none yet: `sluice serve` makes them")]
    return [_check_spool(place, database) for place in places]


def _check_spool(place: Path, database: ControlDatabase | None) -> Finding:
    try:
        facts = place.lstat()
        if not stat.S_ISDIR(facts.st_mode) or stat.S_IMODE(facts.st_mode) & 0o077:
            text = f"has mode {stat.S_IMODE(facts.st_mode):04o}"
            return error("spool", place.name, text, f"chmod 700 {place}")
        if facts.st_uid != place.parent.stat().st_uid:
            return error("spool", place.name, f"belongs to uid {facts.st_uid}, unlike {place.parent}", "chown it")
        return _look_into(place, database)
    except OSError as failure:
        return error("spool", place.name, failure.strerror or str(failure), "run the check as the service's user")
    except SluiceError as failure:
        return error("spool", place.name, failure.private)


def _look_into(place: Path, database: ControlDatabase | None) -> Finding:
    view = SpoolView(place)
    try:
        number, (uuid, epoch) = view.number, view.remembered()
        waiting = view.stats().messages
    finally:
        view.close()
    if number != int(place.name):
        return error("spool", place.name, f"holds spool {number}", "give the directory its own name back")
    if database is not None:

        def compare(connection: Connection) -> Standing:
            return check_spool(connection, uuid, epoch)

        standing = database.run_read(compare)
        if standing is not Standing.OK:
            text = f"the control database is {standing}: this spool knows epoch {epoch}; nothing is delivered"
            return error("spool", place.name, text, "set the homes right, then `sluice check --accept-restored`")
    return ok("spool", place.name, f"opens, {waiting} messages")
