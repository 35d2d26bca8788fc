"""
Who is in the demo: people, lists and strangers, and the traffic between them.

Guarantees: a pure function of the number of people to be moved, so that two runs have the same cast. A quarter as
many more people are not moved: half of them stay at the old store, half are at the new one already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from router.demo.config import DOMAIN
from router.ledger.traffic import Plan

OLD, NEW, LISTS = "old", "new", "lists"
_NAMES = ("ada", "ben", "cleo", "dan", "eve", "fay", "gus", "hal", "ida", "jon")
_ROLLED_BACK = 25
"""One in so many of the moved people goes back."""
_LISTS = ("announce", "staff", "seminar", "coffee")


@dataclass(frozen=True, slots=True)
class Person:
    """One mailbox and where it is at the start."""

    address: str
    aliases: tuple[str, ...]
    home: str


@dataclass(frozen=True, slots=True)
class Cast:
    """Everybody. `moved` are those of `people` who move from the old store to the new one, in this order."""

    people: tuple[Person, ...]
    moved: tuple[Person, ...]
    rolled_back: tuple[Person, ...]
    owners: Mapping[str, Person]
    """By every address of a person."""
    lists: tuple[str, ...]
    unknown: tuple[str, ...]

    @classmethod
    def of(cls, users: int) -> Self:
        """The cast for `users` moves."""
        moved = tuple(_person(number, OLD) for number in range(users))
        others = (_person(users + number, (OLD, NEW)[number % 2]) for number in range(max(2, users // 4)))
        people = (*moved, *others)
        return cls(
            people=people,
            moved=moved,
            rolled_back=moved[_ROLLED_BACK // 2 :: _ROLLED_BACK] or moved[:1],
            owners={address: person for person in people for address in (person.address, *person.aliases)},
            lists=tuple(f"{name}@{DOMAIN}" for name in _LISTS),
            unknown=tuple(f"no-such-person-{number}@{DOMAIN}" for number in range(max(1, users // 40))),
        )

    def mailbox_of(self, address: str) -> str:
        """The mailbox behind an address; the address itself when it is nobody's."""
        owner = self.owners.get(address.lower())
        return owner.address if owner is not None else address.lower()

    def users_csv(self) -> str:
        """The file for `sluice user import`."""
        rows = [f"{person.address},{person.home},{' '.join(person.aliases)}" for person in self.people]
        return "\n".join(["address,home,aliases", *rows]) + "\n"

    def traffic(self, rate: float) -> Plan:
        """Messages to one to five of all these addresses, `rate` a second, from outside."""
        recipients: Sequence[str] = (*self.owners, *self.lists, *self.unknown)
        return Plan(
            senders=tuple(f"writer-{number}@example.net" for number in range(20)),
            recipients=recipients,
            recipients_per_message=(1, 1, 1, 2, 2, 3, 5),
            sizes=(800, 2_000, 5_000, 20_000),
            rate=rate,
            connections=8,
            run="demo",
        )


def _person(number: int, home: str) -> Person:
    name = f"{_NAMES[number % len(_NAMES)]}{number:03d}"
    aliases = (f"{name}.alias@{DOMAIN}",) if number % 5 == 0 else ()
    return Person(f"{name}@{DOMAIN}", aliases, home)
