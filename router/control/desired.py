"""
What a mailbox should be like by what the directories say, and how that differs from what it is. Pure.

Guarantees: the domain's standing beats the entry's own (semantics 1). What we wrote counts until it was read back.
Where a directory makes no sense (two entries for one mailbox, no home) the mailbox is known and has a problem; it is
never unknown and never placed by a guess. A group is never held: a hold of it, or of its domain, is temporary failure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from router.control.entries import Known
from router.control.following import LAST
from router.control.written import Stand, own_standing
from router.model.directory import DomainEntry, Role, Standing, complaint, effective
from router.model.mailbox import LIST, Mailbox, Status


@dataclass(frozen=True, slots=True)
class Desired:
    """A mailbox as the believed entry has it. `held` says that its mail is to be kept, `doubt` is for an alarm."""

    source: str
    dn: str
    home: str
    standing: Standing
    """As stated, a hold included; `behind` is the status that shows while there is one."""
    behind: Status | None
    own: Standing = Standing.ACTIVE
    """The entry's, without its domain's."""
    kind: str = "mailbox"
    forwards: tuple[str, ...] = ()
    keeps: bool = True
    route: str = ""
    problem: str = ""
    doubt: str = ""

    @property
    def held(self) -> bool:
        return self.standing is Standing.HOLD

    def status(self, kept: Status) -> Status:
        """The status that the mailbox has; `kept` is what was found before."""
        return kept if self.behind is None else self.behind


def believed(entries: Sequence[Known], ranks: Mapping[str, int]) -> list[Known]:
    """Those of a mailbox's entries that count: all of its first source in the order of the configuration."""
    best = min(ranks.get(one.source, LAST) for one in entries)
    return [one for one in entries if ranks.get(one.source, LAST) == best]


def desire(
    entries: Sequence[Known],
    domains: Mapping[tuple[str, str], DomainEntry],
    stand: Stand | None,
    *,
    holdable: bool = True,
) -> Desired:
    """What the believed entries of one mailbox ask for. `holdable` is False for the postmaster's."""
    first = entries[0]
    if stand is not None and stand.source != first.source:
        stand = None
    domain = domains.get((first.source, first.entry.key.rpartition("@")[2]))
    home, problem = _home(entries, domain, stand)
    own = [own_standing(one.entry, stand) for one in entries]
    standing = _standing(own, domain)
    doubts = [one.entry.doubt for one in entries if one.entry.doubt]
    behind = None if own[0] is Standing.HOLD else Status(own[0].value)
    is_list = first.entry.role is Role.GROUP
    if standing is Standing.HOLD and (is_list or not holdable):
        # The postmaster's mail always flows, and lists have no hold: temporary failure is all that is left for them.
        standing = Standing.INACTIVE if is_list else Standing.ACTIVE
        doubts.append("a list cannot be held" if is_list else "the postmaster's mailbox is never held")
    if standing is not Standing.HOLD:
        behind = Status(standing.value)
    return Desired(
        first.source,
        first.entry.dn,
        home,
        standing,
        behind,
        own[0],
        LIST if is_list else "mailbox",
        first.entry.forwards,
        first.entry.keeps,
        first.entry.route,
        problem,
        "; ".join(doubts),
    )


def _home(entries: Sequence[Known], domain: DomainEntry | None, stand: Stand | None) -> tuple[str, str]:
    """The home, and why mail cannot be placed."""
    if len(entries) > 1:
        return entries[0].entry.home, "several entries have it: " + ", ".join(one.entry.dn for one in entries)
    entry = entries[0].entry
    if stand is not None and stand.home:
        return stand.home, ""  # what was wrong with the home that we replaced is over
    if entry.problem:
        return entry.home, complaint(entry.dn, entry.problem)
    home = entry.home or (domain.home if domain is not None and not entry.host else "")
    if home or entry.route or (entry.forwards and not entry.keeps):
        return home, ""
    if domain is not None and domain.problem:
        return "", complaint(domain.dn, domain.problem)
    return "", f"{entry.dn}: it names no home"


def _standing(own: Sequence[Standing], domain: DomainEntry | None) -> Standing:
    """Among several entries a hold is kept, whichever says so: it is ended when all agree."""
    one = Standing.HOLD if Standing.HOLD in own else own[0]
    return effective(Standing.ACTIVE if domain is None else domain.standing, one)


def drift(wanted: Desired, mailbox: Mailbox, *, ours: bool, away: bool) -> list[str]:
    """
    What the directory says otherwise of a mailbox that a command holds.

    `ours`: the hold that we wrote was read there, so that a hold is what it should say; `away`: it was written and
    has not been read yet, so that its status says nothing.
    """
    found = []
    if wanted.home != mailbox.home:
        found.append(f"home {wanted.home or 'none'} instead of {mailbox.home or 'none'}")
    said = Standing(mailbox.status.value)
    if ours and wanted.own is not Standing.HOLD:
        found.append(f"status {wanted.own} over our hold")
    elif not ours and not away and wanted.standing is not said:
        found.append(f"status {wanted.standing} instead of {said}")
    for name, now, then in (
        ("kind", wanted.kind, mailbox.kind),
        ("forwards", wanted.forwards, mailbox.forwards),
        ("keeping a copy", wanted.keeps, mailbox.keeps),
        ("routing address", wanted.route, mailbox.route),
    ):
        if now != then:
            found.append(f"another {name}" if name != "keeping a copy" else "another way of keeping a copy")
    if wanted.problem and wanted.problem != mailbox.problem:
        found.append(wanted.problem)
    return found
