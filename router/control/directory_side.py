"""
The half of hold and release that happens in a directory, in the order of barrier.md 12.

Hold: the hold stands in the control database before this begins; the raw status found is remembered durably; then the
directory's is compared and set. Release: what is going to be written is remembered, written in one modify, read back,
and only then the control database opens the mailbox, in one transaction with what stands until the mirror has read
that version.

Guarantees: killed between any two steps, the mail stays held and the same command, repeated, finishes. Nothing that
somebody else wrote is overwritten, except the home when the operator names one.

On failure: `LookupFailed` while the directory cannot be reached or has not been read far enough, `Conflict`,
`NotFound`; the hold is then as it was before.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from router.control import directory_holds, releasing, schema
from router.control.audit import Act
from router.control.claims import by_command
from router.control.database import ControlDatabase
from router.control.directory_steps import (
    Overtaken,
    Place,
    close,
    confirm_hold,
    find_place,
    intend_hold,
    intend_release,
    stand_after,
    standing_home,
)
from router.control.releasing import Terms, same
from router.control.results import HoldResult, ReleaseResult
from router.control.written import Stage, Stand, Write
from router.errors import Conflict, LookupFailed, NotFound
from router.model.directory import Standpoint, Wanted
from router.ports import DirectoryWriter

ATTEMPTS = 5
"""How often a modify that somebody else's change overtook is tried again with what is there now."""
_PATIENCE = 3
"""Failures in a row after which a directory is not asked again in one command."""

Fetch = Callable[[Sequence[str]], None]
"""Looks address keys up in all directories, now, and takes what is found into the mirror. Raises `LookupFailed`."""


class DirectorySide:
    """`writers` by the name of their directory. Everything runs in the caller's thread."""

    def __init__(
        self,
        database: ControlDatabase,
        writers: Mapping[str, DirectoryWriter],
        fetch: Fetch | None = None,
        never_held: Collection[str] = (),
    ) -> None:
        self._database = database
        self._writers = writers
        self._fetch = fetch
        self._never = never_held
        self._failures: dict[str, int] = {}

    def begin(self) -> None:
        """A new command: directories that failed before are asked again."""
        self._failures.clear()

    def fetch(self, keys: Sequence[str]) -> bool:
        """Take people into the mirror that it does not have yet; False where nobody can be asked."""
        if self._fetch is None or not keys:
            return False
        self._fetch(keys)
        return True

    # --- hold -------------------------------------------------------------------------------------------------

    def hold(self, one: HoldResult) -> HoldResult:
        """Write a hold that stands in the control database into the mailbox's directory, too. Never raises for it."""
        try:
            return replace(one, drift=self._hold(one.key, one.hold))
        except (LookupFailed, Conflict, NotFound) as error:
            return replace(one, unwritten=error.private)

    def _hold(self, key: str, number: int) -> str:
        place = self._place(key)
        hold = place.mailbox.hold
        if not place.elsewhere or hold is None or hold.number != number or not by_command(hold):
            return ""
        writer = self._writer(place)
        if not writer.writes_status:
            return ""
        for _ in range(ATTEMPTS):
            before, place = self._read(writer, place)
            intent = partial(intend_hold, number=number, place=place, before=before, value=writer.hold_value)
            write = self._database.run_write(intent)
            if write is None:
                return ""
            if write.state is Stage.HELD:
                return "" if same(before.status, writer.hold_value) else _over(before)
            try:
                after = self._asked(writer, partial(writer.write, before, Wanted(status=writer.hold_value)))
            except Conflict:
                continue
            if not self._database.run_write(partial(confirm_hold, number=number, version=after.version)):
                # Released by somebody else in between: what we wrote would hold it for ever.
                self._asked(writer, partial(writer.write, after, Wanted(status=write.status_before)))
            return ""
        raise Conflict(f"the entry of {key} in {writer.source} changes all the time")

    def require_ours(self, key: str) -> None:
        """Raises `Conflict` when the mailbox is on hold by its directory, so that no command can release it."""
        self._refuse(self._place(key))

    def _refuse(self, place: Place) -> None:
        hold = place.mailbox.hold
        if hold is not None and hold.origin == schema.DIRECTORY and place.elsewhere:
            raise directory_holds.refuse(place.mailbox.key, hold)

    # --- release ----------------------------------------------------------------------------------------------

    def release(self, key: str, act: Act, to: str | None, expected: int | None) -> tuple[ReleaseResult, int]:
        """Release one mailbox in its directory and then here; with the epoch. Raises what the module says."""
        place = self._place(key)
        hold = place.mailbox.hold
        self._refuse(place)
        if expected is not None and (hold is None or hold.number != expected):
            raise Conflict(f"hold {expected} of {key} was ended meanwhile by somebody else")
        if hold is not None and place.heir and to is not None:
            raise _elsewhere(place)
        if hold is None or not place.elsewhere:
            return self._close(key, act, to, expected)
        writer = self._writer(place)
        terms = self._terms(writer, place, to)
        if not (terms.writes_status or terms.host is not None or (place.write is not None and place.write.home)):
            stand = replace(standing_home(place, to, by_value=True), at=act.at)
            return self._close(key, act, to, hold.number, stand)
        for _ in range(ATTEMPTS):
            before, place = self._read(writer, place)
            if to is None:
                place = self._caught_up(writer, place, before)
            try:
                return self._release(writer, place, before, act, terms)
            except Overtaken:
                place = self._place(key)
        raise LookupFailed(f"the entry of {key} in {writer.source} changes all the time")

    def _release(
        self, writer: DirectoryWriter, place: Place, before: Standpoint, act: Act, terms: Terms
    ) -> tuple[ReleaseResult, int]:
        plan, key, hold = releasing.plan(before, place.write, terms), place.mailbox.key, place.mailbox.hold
        if hold is None:
            raise Conflict(f"{key} is not on hold any more")
        write = self._database.run_write(partial(intend_release, hold=hold, place=place, before=before, terms=terms))
        try:
            after = self._asked(writer, partial(writer.write, before, plan.wanted))
        except Conflict as changed:
            raise Overtaken(changed.private) from changed
        stand = stand_after(place, plan, before, after, terms, act.at)
        done, epoch = self._close(key, act, terms.to, hold.number, stand, write)
        return replace(done, drift="; ".join(text for text in (plan.drift, done.drift) if text)), epoch

    def _close(
        self,
        key: str,
        act: Act,
        to: str | None,
        expected: int | None,
        stand: Stand | None = None,
        write: Write | None = None,
    ) -> tuple[ReleaseResult, int]:
        return self._database.run_write(
            partial(close, key=key, act=act, to=to, expected=expected, stand=stand, write=write, never=self._never)
        )

    def _terms(self, writer: DirectoryWriter, place: Place, to: str | None) -> Terms:
        if to is not None and place.renamed and not (writer.writes_home or writer.writes_status):
            raise _elsewhere(place)
        host = None
        if to is not None and writer.writes_home:
            host = writer.host_of(to)
            entry = place.known[0].entry
            if entry.home == to and entry.host:
                host = entry.host  # several values may mean one store: the one that is there stays
        return Terms(writer.hold_value, writer.writes_status, to, host)

    # --- what both need ---------------------------------------------------------------------------------------

    def previewed(self, key: str) -> tuple[Place, DirectoryWriter | None, Standpoint | None]:
        """Where a mailbox stands, now; without a writer where no directory is concerned."""
        place = self._place(key)
        if not place.elsewhere:
            return place, None, None
        writer = self._writer(place)
        before, place = self._read(writer, place)
        return place, writer, before

    def terms(self, writer: DirectoryWriter, place: Place, to: str | None) -> Terms:
        """What a release would ask of the directory."""
        return self._terms(writer, place, to)

    def _place(self, key: str) -> Place:
        return self._database.run_write(partial(find_place, key=key))

    def _writer(self, place: Place) -> DirectoryWriter:
        source = place.mailbox.source
        if len(place.known) > 1:
            names = ", ".join(one.entry.dn for one in place.known)
            raise Conflict(f"several entries of {source} are {place.mailbox.key}: {names}")
        if source not in self._writers:
            raise NotFound(f"the directory {source} of {place.mailbox.key} is not in the configuration")
        if self._failures.get(source, 0) >= _PATIENCE:
            raise LookupFailed(f"the directory {source} does not answer")
        return self._writers[source]

    def _read(self, writer: DirectoryWriter, place: Place) -> tuple[Standpoint, Place]:
        """What the master says; an entry that is not where the mirror has it is looked up anew, once."""
        try:
            return self._asked(writer, partial(writer.read, place.known[0].entry.dn)), place
        except NotFound as gone:
            if not self.fetch([place.mailbox.key]):
                raise LookupFailed(f"{gone.private}; the next sweep tells whether it is gone") from gone
        place = self._place(place.mailbox.key)
        if len(place.known) != 1:
            raise LookupFailed(f"the entry of {place.mailbox.key} was renamed; the next sweep tells where it is")
        try:
            return self._asked(writer, partial(writer.read, place.known[0].entry.dn)), place
        except NotFound as gone:
            raise LookupFailed(f"{gone.private}; the next sweep tells whether it is gone") from gone

    def _caught_up(self, writer: DirectoryWriter, place: Place, before: Standpoint) -> Place:
        """A home that the directory names and the mirror has not read yet is not known here: read it first."""
        if self._home_is_known(writer, place, before):
            return place
        if self.fetch([place.mailbox.key]):
            place = self._place(place.mailbox.key)
        if not place.known or not self._home_is_known(writer, place, before):
            raise LookupFailed(
                f"{place.mailbox.key} has another home in {writer.source}, {before.host or 'none'}, "
                "which was not read yet: try again, or say --to STORE"
            )
        return place

    def _home_is_known(self, writer: DirectoryWriter, place: Place, before: Standpoint) -> bool:
        entry, write = place.known[0].entry, place.write
        if same(before.host, entry.host or None) or before.version == entry.version:
            return True
        if write is not None and write.host is not None and same(before.host, write.host):
            return True  # ours, of a release that was broken off: it is taken back
        try:
            return same(before.host, writer.host_of(place.mailbox.home))
        except NotFound:
            return False

    def _asked(self, writer: DirectoryWriter, work: Callable[[], Standpoint]) -> Standpoint:
        try:
            found = work()
        except LookupFailed:
            self._failures[writer.source] = self._failures.get(writer.source, 0) + 1
            raise
        self._failures.pop(writer.source, None)
        return found


def _elsewhere(place: Place) -> Conflict:
    name = place.mailbox.key
    return Conflict(f"{name} is {place.renamed} in {place.mailbox.source} now: release it without --to, and move that")


def _over(before: Standpoint) -> str:
    return f"the directory's status was set to {before.status or 'nothing'} over our hold; the mail stays"
