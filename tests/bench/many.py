"""
Very many people in the database: imported once, and kept for the cases that only need them to be there.

Guarantees: `import_people` is the real import beside the running relay. What is kept is removed when the process ends.
On failure: an assertion when the import did not create them all.
"""

import atexit
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

from support.site import Site

from bench.relays import Plan, Sluice, running
from router.control.changes import current_epoch

_PATIENCE = 600.0
_KEPT: dict[int, Path] = {}


def people(count: int) -> list[str]:
    """Their addresses."""
    return [f"u{number}@example.edu" for number in range(count)]


def import_people(site: Site, count: int) -> float:
    """Import so many people at the old store beside the running relay; seconds until every worker follows."""
    users, began = dict.fromkeys(people(count), "old"), time.monotonic()
    assert site.import_users(users).created == count
    wait_applied(site)
    took = time.monotonic() - began
    _keep(site, count)
    return took


def wait_applied(site: Site) -> None:
    """Until every worker has all changes in force."""
    epoch = site.office.database.run_read(current_epoch)
    assert not site.office.operations.wait_applied(epoch, _PATIENCE)


def database(count: int) -> Path:
    """A control database with so many people at the old store, as an import left it."""
    if count not in _KEPT:
        with running("Sluice", Plan({"old": 1, "new": 1})) as made:
            assert isinstance(made, Sluice)
            import_people(made.site, count)
    return _KEPT[count]


def _keep(site: Site, count: int) -> None:
    if count in _KEPT:
        return
    directory = Path(tempfile.mkdtemp(prefix="sluice-bench-people-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    path = directory / "control.db"
    with closing(sqlite3.connect(site.state_dir / "control.db")) as source, closing(sqlite3.connect(path)) as copy:
        source.backup(copy)
        # The copy has no members: those of the relay that it was taken from are not of the next one.
        copy.execute("DELETE FROM members")
        copy.commit()
    _KEPT[count] = path
