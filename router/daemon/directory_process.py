"""
The process that follows the directories: forked by the nursery, or `python -m router.daemon.directory_process`.

Guarantees: one for each node, by the lock `directory.lock` in the state directory; one thread for each directory, so
that a silent one keeps no other from being followed. It ends with the supervisor, and holds nothing that its
successor could not take up: how far a directory was read is in the control database. It also ends when that is another
one, or an older copy, of a sudden: what was read since would never be read again, so a successor sweeps.

On failure at start: one line on standard error and a sysexits.h code; the supervisor tries again, and mail goes on by
what is known (barrier.md 13). Later failures are the loop's (`directory_loop`).
"""

import argparse
import fcntl
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from router.control import alarms
from router.control.database import ControlDatabase
from router.control.directory_alarms import DOWN, FOLLOWER
from router.control.mirrors import mirror_of
from router.daemon.contested import Confirming
from router.daemon.directory_loop import DirectoryLoop
from router.daemon.lifeline import ends_with
from router.daemon.logs import log_to_stderr
from router.daemon.same_database import SameDatabase
from router.directory.feed import LdapFeed
from router.directory.inquiry import Inquiry
from router.directory.schema_meaning import SchemaMeaning
from router.directory.servers import Servers
from router.errors import SluiceError
from router.settings.published import recall_file
from router.settings.schema import Settings

log = logging.getLogger("sluice.directory")

LOCK = "directory.lock"
EX_OSERR = 71
EX_TEMPFAIL = 75
EX_CONFIG = 78
_GRACE = 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Follow until told to stop; the exit code."""
    os.umask(0o077)
    parser = argparse.ArgumentParser(prog="sluice-directory")
    parser.add_argument("config", type=Path)
    parser.add_argument("--supervisor", type=int, default=0)
    given = parser.parse_args(arguments)
    if not ends_with(given.supervisor):
        return EX_TEMPFAIL
    try:
        settings = recall_file(given.config)
    except SluiceError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no log yet
        return EX_CONFIG
    log_to_stderr(settings.log.level, os.environ)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        return _run(settings, stop)
    except (SluiceError, OSError) as error:
        log.error("the directories cannot be followed: %s", error)  # noqa: TRY400 - the text says it all
        return EX_OSERR


def _run(settings: Settings, stop: threading.Event) -> int:
    with (settings.state_dir / LOCK).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.error("the directories are followed by another process already")  # noqa: TRY400 - as above
            return EX_TEMPFAIL
        database = ControlDatabase.open(settings.database_url)
        try:
            _follow_all(database, settings, stop)
        finally:
            database.close()
    return 0


def _follow_all(database: ControlDatabase, settings: Settings, stop: threading.Event) -> None:
    threads = [
        threading.Thread(target=_loop(database, settings, name).run, args=(stop,), name=name, daemon=True)
        for name in settings.ldaps
    ]
    for thread in threads:
        thread.start()
    database.run_write(partial(alarms.clear_alarm, kind=DOWN, key=FOLLOWER, now=time.time()))
    log.info("following the directories %s", ", ".join(settings.ldaps))
    same = SameDatabase(database)
    while not stop.wait(1.0):
        same.look()
        dead = [thread.name for thread in threads if not thread.is_alive()]
        if dead:
            raise OSError(f"the thread of {', '.join(dead)} has ended")
    end = time.monotonic() + _GRACE
    for thread in threads:  # one that waits for a silent server ends with the process
        thread.join(max(0.0, end - time.monotonic()))


def _loop(database: ControlDatabase, settings: Settings, name: str) -> DirectoryLoop:
    ldap = settings.ldaps[name]
    meaning = SchemaMeaning(ldap, settings.stores, settings.hostname)
    inquiry = Inquiry(ldap, meaning, Servers(ldap))
    shadow = Confirming(mirror_of(database, settings, name), inquiry, ldap.deadline)
    return DirectoryLoop(name, LdapFeed(ldap, meaning), shadow, follow=ldap.follow, sweep=ldap.sweep)


if __name__ == "__main__":
    sys.exit(main())
