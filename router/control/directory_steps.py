"""
The transactions of a hold and a release that also concern a directory, one for each step of barrier.md 12.

Guarantees: what is about to be written into a directory is remembered before; a mailbox is opened in one transaction
with what the directories say then and with what stands until they have been read back. A step that finds another
picture than the one it was planned by changes nothing (`Overtaken`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, update

from router.control import (
    claims,
    entries,
    following,
    hold_records,
    holds,
    mailboxes,
    placement,
    schema,
    succession,
    written,
)
from router.control.audit import Act
from router.control.entries import Known, folded
from router.control.holds import Released
from router.control.holds import Terms as HoldTerms
from router.control.releasing import Plan, Terms, same
from router.control.results import ReleaseResult
from router.control.turn import Turn
from router.control.written import Stage, Stand, Write
from router.errors import Conflict, NotFound
from router.model.directory import Standpoint
from router.model.mailbox import Hold, Mailbox


class Overtaken(Conflict):
    """Another command has written meanwhile: look again."""


@dataclass(frozen=True, slots=True)
class Place:
    """A mailbox, and where it stands in its directory."""

    mailbox: Mailbox
    known: tuple[Known, ...]
    """
    The entries of its source that name it; nearly always one. Where the one that was there when the hold began goes by
    another name now, that one, whoever has the former name.
    """
    write: Write | None
    stand: Stand | None
    heir: str = ""
    """Where nothing is known of its entry: what it seems to be in that directory now."""

    @property
    def elsewhere(self) -> bool:
        """Whether any directory has a say in it now."""
        return self.mailbox.source != schema.DATABASE and bool(self.known)

    @property
    def renamed(self) -> str:
        """What its entry goes by now, '' while that is its own name."""
        name = self.known[0].entry.key if self.known else self.heir
        return "" if name == self.mailbox.key else name


def find_place(connection: Connection, key: str) -> Place:
    """Read it all in one transaction. Raises `NotFound`."""
    mailbox = holds.require(connection, key)
    write = written.of_hold(connection, mailbox.hold.number) if mailbox.hold is not None else None
    known = [one for one in entries.of_keys(connection, [key]).get(key, []) if one.source == mailbox.source]
    noted = entries.of_dn(connection, write.source, write.dn) if write is not None else []
    if noted and noted[0].entry.key != key:
        known = noted
    name = known[0].entry.key if known else key
    stand = written.stands(connection, [name]).get(name)
    gone = mailbox.source != schema.DATABASE and not known
    heirs = succession.successors(connection, [key]).get(key, set()) if gone else set()
    return Place(mailbox, tuple(known), write, stand, " and ".join(sorted(heirs)))


def open_hold(
    connection: Connection, keys: Sequence[str], act: Act, terms: HoldTerms | None, never: Collection[str]
) -> dict[str, Hold | Conflict | NotFound]:
    """
    Open or join the holds of these mailboxes here, and remember which entries they are of.

    A mailbox that waits for the release of another, because it is that under a new name, is not held for itself.
    """
    kept = succession.kept_back(connection, entries.of_keys(connection, keys))
    known = holds.settled(connection, keys)
    found: dict[str, Hold | Conflict | NotFound] = {}
    free = []
    for key in dict.fromkeys(keys):
        try:
            free.append(_free(known, key, kept.get(key, ())))
        except (Conflict, NotFound) as error:
            found[key] = error
    for key, hold in holds.open_all(connection, free, act, terms, never=never).items():
        found[key] = hold
        if isinstance(hold, Hold) and claims.by_command(hold):
            succession.note(connection, known[key], hold.number)
    return {key: found[key] for key in keys}


def _free(known: Mapping[str, Mailbox], key: str, holders: Collection[str]) -> Mailbox:
    """Raises `NotFound`, or `Conflict` when it waits for the release of others."""
    if key not in known:
        raise holds.missing(key)
    if not claims.by_command(known[key].hold):
        succession.refuse(key, holders)
    return known[key]


def close_all(
    connection: Connection, keys: Sequence[str], act: Act, to: str | None, expected: int | None, never: Collection[str]
) -> tuple[list[ReleaseResult], int]:
    """
    The same as `close` for each of these mailboxes, none of which comes from a directory; what refuses one of them is
    in its result. With the newest epoch.

    Where no directory has anything to say, all of it is a few statements.
    """
    if following.any_directory(connection):
        return _close_each(connection, keys, act, to, expected, never)
    known = holds.settled(connection, keys)
    wanted = [known[key] for key in dict.fromkeys(keys) if key in known]
    done = holds.release_all(connection, wanted, act, to, expected=expected)
    results, newest = [], 0
    for key in keys:
        one = done.get(key, holds.missing(key))
        if isinstance(one, Released):
            results.append(_released(key, one))
            newest = max(newest, one.epoch)
        else:
            results.append(ReleaseResult(key, error=one.private))
    return results, newest


def _close_each(
    connection: Connection, keys: Sequence[str], act: Act, to: str | None, expected: int | None, never: Collection[str]
) -> tuple[list[ReleaseResult], int]:
    results, newest = [], 0
    for key in keys:
        try:
            done, epoch = close(connection, key, act, to, expected, never=never)
        except (Conflict, NotFound) as error:
            results.append(ReleaseResult(key, error=error.private))
        else:
            newest = max(newest, epoch)
            results.append(done)
    return results, newest


def _released(key: str, done: Released) -> ReleaseResult:
    """Of a mailbox that no directory has a say in."""
    return ReleaseResult(key, done.home_before, done.home, released=done.number != 0, in_doubt=done.in_doubt)


def close(
    connection: Connection,
    key: str,
    act: Act,
    to: str | None,
    expected: int | None,
    stand: Stand | None = None,
    write: Write | None = None,
    never: Collection[str] = (),
) -> tuple[ReleaseResult, int]:
    """
    End the hold here and put into force what the directories say now, in one transaction: if that is a hold, the
    mailbox is never open in between. `write` is what was written into the directory for it.

    The result with the epoch. Raises `NotFound`, `Conflict`, `Overtaken`.
    """
    if write is not None and written.of_hold(connection, write.hold) != write:
        raise Overtaken(f"another command is at work on {key}")
    if write is not None and stand is not None:
        noted = entries.of_dn(connection, write.source, write.dn)
        if noted and noted[0].entry.key != stand.mailbox:
            raise Overtaken(f"the entry of {key} got another name")
    directories = following.any_directory(connection)
    heirs = succession.successors(connection, [key]).get(key, set()) if directories else set()
    done = holds.release(connection, key, act, to, expected=expected)
    if not (done.number and directories):
        return _released(key, done), done.epoch
    written.forget(connection, done.number)
    name = key
    if stand is not None:
        written.stand(connection, stand)
        name = stand.mailbox
    elif len(heirs) == 1 and _is_gone(connection, key):
        (name,) = heirs
    turn = Turn(connection, act.at)
    placement.place_whole(turn, {key, name, *heirs}, never)
    _protect(turn, {name, *heirs} - {key})
    epoch = max(done.epoch, turn.finish())
    now = mailboxes.by_key(connection, [name]).get(name)
    said = [f"it is {name} now"] if name != key else []
    said += ["the directory keeps it on hold"] if now is not None and now.hold is not None else []
    home = now.home if now is not None else ""
    result = ReleaseResult(key, done.home_before, home, released=True, in_doubt=done.in_doubt, drift="; ".join(said))
    return result, epoch


def _protect(turn: Turn, heirs: Collection[str]) -> None:
    """What was kept goes on under these names: as protected as under the one that was on hold."""
    table = schema.mailboxes
    turn.connection.execute(update(table).where(table.c.key.in_(sorted(heirs))).values(moved_at=turn.now))
    turn.tell_mailboxes(heirs)


def _is_gone(connection: Connection, key: str) -> bool:
    """Whether a directory's mailbox has no entry any more."""
    return holds.require(connection, key).source != schema.DATABASE and not entries.of_keys(connection, [key])


def intend_hold(connection: Connection, number: int, place: Place, before: Standpoint, value: str) -> Write | None:
    """Remember what our hold is about to replace; None when the hold has ended meanwhile."""
    if hold_records.get(connection, number).closed_at is not None:
        return None
    known = written.of_hold(connection, number)
    held = same(before.status, value)
    if known is not None and known.state is Stage.HELD:
        return known
    if known is None or known.state in {Stage.NOTED, Stage.UNHELD} or not held:
        # If it was written once: what is there now somebody else wrote since, or a broken-off release restored it.
        write = known or Write(number, place.mailbox.key, place.mailbox.source, "", Stage.NOTED, None, None)
        write = replace(write, state=Stage.HOLDING, status_before=before.status, dn=folded(before.dn))
    elif known.state is Stage.RELEASING:
        write = replace(known, state=Stage.HELD, version=before.version)
    else:
        write = known
    written.put(connection, write)
    return write


def confirm_hold(connection: Connection, number: int, version: str) -> bool:
    """The directory has our hold, in this version; False when the hold has ended meanwhile."""
    write = written.of_hold(connection, number)
    if write is None or hold_records.get(connection, number).closed_at is not None:
        return False
    written.put(connection, replace(write, state=Stage.HELD, version=version))
    return True


def intend_release(connection: Connection, hold: Hold, place: Place, before: Standpoint, terms: Terms) -> Write:
    """Remember what is about to be written. Raises `Conflict` when the hold has ended meanwhile, `Overtaken`."""
    if hold_records.get(connection, hold.number).closed_at is not None:
        raise Conflict(f"hold {hold.number} of {place.mailbox.key} was ended meanwhile by somebody else")
    write = written.of_hold(connection, hold.number)
    if write != place.write:
        raise Overtaken(f"another command is at work on {place.mailbox.key}")
    if write is None or write.state is Stage.NOTED:
        key, source = place.mailbox.key, place.mailbox.source
        write = Write(hold.number, key, source, folded(before.dn), Stage.UNHELD, before.status, before.host)
    state = Stage.UNHELD if write.state is Stage.UNHELD else Stage.RELEASING
    write = replace(write, state=state)
    if terms.to is not None:
        ours = write.host is not None and same(before.host, write.host)
        former = write.host_before if ours else before.host
        write = replace(write, home=terms.to, host=terms.host, host_before=former)
    written.put(connection, write)
    return write


def stand_after(place: Place, plan: Plan, before: Standpoint, after: Standpoint, terms: Terms, at: float) -> Stand:
    """What counts until the mirror has read the version that was just written and read back as `after`."""
    standing = "" if after.standing is None else after.standing.value
    # Where nothing was written the mirror may have read it already, and then what it shows is no stale likeness.
    base = place.known[0].digest if after.version != before.version else ""
    stand = standing_home(place, terms.to, by_value=terms.host is None)
    if plan.takes_home_back:
        stand = replace(stand, home=place.mailbox.home, by_value=False)
    return replace(stand, standing=standing, version=after.version, base=base, at=at)


def standing_home(place: Place, to: str | None, *, by_value: bool) -> Stand:
    """
    The home that stands: the new one, or one that was asked for earlier and was not read back yet. It stands for the
    mailbox that the entry is now.
    """
    source = place.mailbox.source
    if to is None and place.stand is not None and place.stand.source == source:
        return place.stand
    return Stand(place.known[0].entry.key, source, to or "", by_value=to is not None and by_value)
