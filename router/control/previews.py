"""
What a command would write into a directory, as LDIF (RFC 2849), for `--dry-run`.

Guarantees: the directory and the control database are read and not changed.
"""

from dataclasses import replace

from router.control import releasing
from router.control.claims import by_command
from router.control.directory_side import DirectorySide
from router.control.directory_steps import Place
from router.control.releasing import same
from router.control.results import Preview
from router.control.written import Stage, Write
from router.errors import Conflict
from router.model.directory import Standpoint, Wanted
from router.ports import DirectoryWriter


def of(side: DirectorySide, key: str, *, hold: bool, release: bool, to: str | None) -> Preview:
    """One mailbox: its hold, its release, or both as a move has them."""
    place, writer, before = side.previewed(key)
    if writer is None or before is None:
        return Preview(key, place.mailbox.source, "", "")
    if place.mailbox.hold is not None and not by_command(place.mailbox.hold):
        raise Conflict(f"{key} is on hold because of its status in the directory: set the status back there")
    texts = []
    write = place.write
    if hold and writer.writes_status and not (write is not None and write.state is Stage.HELD):
        texts.append(_hold(writer, before))
        if release:
            write = _as_if(place, before) if write is None or write.state is Stage.NOTED else write
            before = replace(before, status=writer.hold_value)
    if release:
        plan = releasing.plan(before, write, side.terms(writer, place, to))
        texts.append(writer.ldif(before, plan.wanted))
    return Preview(key, writer.source, before.dn, "\n".join(text for text in texts if text))


def _hold(writer: DirectoryWriter, before: Standpoint) -> str:
    return "" if same(before.status, writer.hold_value) else writer.ldif(before, Wanted(status=writer.hold_value))


def _as_if(place: Place, before: Standpoint) -> Write:
    """What a move would have remembered of its hold."""
    key, source = place.mailbox.key, place.mailbox.source
    return Write(0, key, source, before.dn, Stage.HELD, before.status, before.host)
