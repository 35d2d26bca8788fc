"""
What a directory (LDAP) says of people, groups and domains, once its attributes have been understood. Pure values.

A raw entry is what the server sent; an `Entry` or a `DomainEntry` is what it means to us. Addresses are folded keys
everywhere (`local@domain`, and `@domain` for a catch-all), DNs are as the server spells them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum


class Role(StrEnum):
    """What kind of recipient an entry is."""

    PERSON = "person"
    GROUP = "group"
    """A mailing list: never held, goes to its home or to the list store."""


class Standing(StrEnum):
    """
    Sun's status values as a directory states them (semantics 1): a missing one is active, an illegal one inactive.

    `HOLD` is no status of a mailbox here: it opens a hold, and the status found before is kept behind it.
    """

    ACTIVE = "active"
    INACTIVE = "inactive"
    DISABLED = "disabled"
    DELETED = "deleted"
    REMOVED = "removed"
    OVERQUOTA = "overquota"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class RawEntry:
    """One entry as it was sent. Attribute names are in lower case, values in the order of the server."""

    dn: str
    attributes: Mapping[str, tuple[bytes, ...]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One person or group.

    `standing` is that of the entry's own attributes; its domain's, which comes first, is not in it (`effective`).
    `version` grows with every change of the entry, as text that sorts (entryCSN, uSNChanged, modifyTimestamp).
    """

    dn: str
    role: Role
    key: str
    """The mailbox: its canonical address, folded."""
    addresses: tuple[str, ...]
    """All address keys, the canonical one included, sorted."""
    version: str
    home: str = ""
    """A store of ours; '' where the entry names no host, or nothing that can be mapped (then `problem` says so)."""
    host: str = ""
    """The home as the entry spells it."""
    standing: Standing = Standing.ACTIVE
    forwards: tuple[str, ...] = ()
    """Addresses (as to be put on the wire) that the mail goes to instead, or also when `keeps`."""
    keeps: bool = True
    """With `forwards`: the home gets its copy, too."""
    route: str = ""
    """Address that the home is to see as recipient; '' = as received."""
    shown: tuple[tuple[str, str], ...] = ()
    """Attribute and value of everything that was read, printable, for operators."""
    problem: str = ""
    """Why mail for it cannot be placed (451 4.3.5 and an alarm); '' when it can."""
    doubt: str = ""
    """Something that is wrong without being in the way, such as an illegal status; an alarm names it."""


@dataclass(frozen=True, slots=True)
class DomainEntry:
    """What the directory says of a whole domain. Its standing beats that of everybody in it."""

    dn: str
    domain: str
    version: str
    standing: Standing = Standing.ACTIVE
    home: str = ""
    """Where people of the domain without a host of their own live (`mailRoutingSmartHost`), or ''."""
    shown: tuple[tuple[str, str], ...] = ()
    problem: str = ""
    """Why `home` cannot be used: it concerns people without a host of their own, and nobody else."""
    doubt: str = ""
    also: tuple[str, ...] = ()
    """Further names of the same domain, folded, sorted."""
    catch_all: str = ""
    """Where the directory's own mail system sends addresses of the domain that nobody has, printable; '' nowhere."""


DirectoryItem = Entry | DomainEntry


@dataclass(frozen=True, slots=True)
class Answered:
    """What a directory answered to a question. `asked` is when that was put, in wall-clock seconds."""

    items: Sequence[DirectoryItem]
    asked: float = math.inf
    """Without it the answer counts as one of this moment."""


@dataclass(frozen=True, slots=True)
class Cookie:
    """
    How far a directory has been read: `value` is the newest change seen on `server`. '' : nothing yet, sweep.

    Stored as text (`str`) between two runs.
    """

    server: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Polled:
    """The answer of one poll: what has changed since the cookie, and the cookie for the next one."""

    items: tuple[DirectoryItem, ...]
    cookie: Cookie
    resweep: bool = False
    """The server is another one, or has lost what it knew: only a sweep tells what is gone."""
    unplaced: "tuple[Unplaced, ...]" = ()
    """Changed entries that make no sense (any more)."""


@dataclass(frozen=True, slots=True)
class Standpoint:
    """
    What the master says of one entry now: the raw values of the attributes that we write, and the entry's version.

    An attribute that is absent is None, which is not the same as any value: it is restored as absent.
    """

    dn: str
    version: str
    status: str | None
    host: str | None
    standing: Standing | None
    """What all of its status attributes mean, as `Entry.standing`; None where the entry makes no sense."""


class Keep(Enum):
    """The one value that means: do not touch it."""

    KEEP = "keep"


KEEP = Keep.KEEP


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be written. `KEEP` leaves an attribute alone, None takes it away."""

    status: str | Keep | None = KEEP
    host: str | Keep | None = KEEP


@dataclass(frozen=True, slots=True)
class Unplaced:
    """An entry of the directory that makes no sense: no address, two that claim the same, and the like."""

    dn: str
    problem: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """
    What directories were asked for, beside the mirror. `news`: address keys that somebody there has, and that are in
    the mirror now. `doubtful`: why a key is not to be called unknown, for each that a directory did not answer.
    """

    news: frozenset[str] = frozenset()
    doubtful: Mapping[str, str] = field(default_factory=dict)


def is_catch_all(key: str) -> bool:
    """Whether an address key is `@domain`. A quoted local part may begin with `@` too, so there must be no other."""
    return key.rfind("@") == 0


def complaint(dn: str, text: str) -> str:
    """What is wrong with an entry, with its DN in front once."""
    return text if text.startswith(f"{dn}: ") else f"{dn}: {text}"


def effective(domain: Standing, own: Standing) -> Standing:
    """The first one that is not active wins, the domain's coming first (semantics 1)."""
    return own if domain is Standing.ACTIVE else domain


@dataclass(frozen=True, slots=True)
class DirectoryState:
    """
    How one directory is followed, as the control database has it. Times are wall-clock seconds of who follows it.

    `followed_at` is None before it was ever read; while it is read it moves at least every ten seconds or so.
    """

    source: str
    followed_at: float | None = None
    swept_at: float | None = None
    people: int = 0
    fault: str = ""
    """Why it cannot be read now, '' when it can."""
    cookie: str = ""
