"""
Whether the control database is the one that the spools have followed, asked before every change.

A restored, older database whose epoch is raised by commands would no longer be recognised as older (promise 8). So
mailboxes may be corrected in it, which an operator has to do before accepting it, but then it is marked as what it
is; and nothing else is changed in it before it is accepted.

On failure: `CommandFailed` when it is another or an older one. A spool that cannot be read says nothing either way.
"""

from functools import partial
from pathlib import Path

from router.admin.cli.exits import CommandFailed, Exit
from router.control.database import ControlDatabase
from router.control.spools import Standing, check_spool, doubt
from router.errors import SluiceError
from router.spool.offline import view


def require_followed(database: ControlDatabase, places: list[Path], *, correcting: bool = False) -> None:
    """
    Raises `CommandFailed` when a spool remembers another control database or a higher epoch.

    Not when `correcting`: then the database is marked, so that the correction does not make it look followed.
    """
    for place in places:
        try:
            with view(place) as spool:
                uuid, epoch = spool.remembered()
        except SluiceError:
            continue
        standing = database.run_read(partial(check_spool, uuid=uuid, highest_epoch=epoch))
        if standing is not Standing.OK and correcting:
            database.run_write(doubt)
        elif standing is not Standing.OK:
            what = "another one" if standing is Standing.FOREIGN else f"older than epoch {epoch}, which it has followed"
            raise CommandFailed(
                Exit.DATA,
                f"the control database is not the one that spool {place.name} knows: it is {what}",
                "check holds and homes in it, then run `sluice check --accept-restored --reason TEXT`; "
                "nothing was changed",
            )
