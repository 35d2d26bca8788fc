"""
One entry while it is being read: its values as text, and what is found wrong with them.

Guarantees: total; every value that is told of is printable, and every text names the entry.
"""

from dataclasses import dataclass, field

from router.directory.printable import printable, quoted, text_of
from router.model.directory import RawEntry

LONGEST = 1000
"""Characters of a problem or doubt."""
VALUES_SHOWN = 20
"""Values of one attribute that are shown."""
_FEW = 5


@dataclass(slots=True)
class Reading:
    """Collects what is wrong: problems stand in the way of mail, doubts do not."""

    raw: RawEntry
    _ranged: frozenset[str] = field(init=False)
    _problems: list[str] = field(default_factory=list)
    _doubts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ranged = frozenset(name.lower().partition("=")[0] for name in self.raw.attributes if ";" in name)

    def values(self, name: str) -> tuple[str, ...]:
        """The values of an attribute as text, without spaces around them; none for '' and for an absent one."""
        return tuple(text_of(value).strip(" ") for value in self.raw.attributes.get(name.lower(), ())) if name else ()

    def distinct(self, name: str) -> tuple[str, ...]:
        """The values that differ in more than case, in the server's order."""
        values = self.values(name)
        return values if len(values) < 2 else tuple({one.lower(): one for one in reversed(values)}.values())[::-1]

    def single(self, name: str) -> str | None:
        """The value of an attribute that has one; several that differ are a problem."""
        values = self.distinct(name)
        if len(values) > 1:
            self.problem(f"{name} has several values, {self.listed(values)}")
        return values[0] if len(values) == 1 else None

    def cut_short(self, name: str) -> bool:
        """Whether the server sent only a part of the values (Active Directory: `proxyAddresses;range=0-1499`)."""
        return f"{name.lower()};range" in self._ranged

    def problem(self, text: str) -> None:
        """Note what makes mail for the entry wait."""
        self._problems.append(text)

    def doubt(self, text: str) -> None:
        """Note what is wrong without being in the way."""
        self._doubts.append(text)

    @property
    def problems(self) -> str:
        return self._joined(self._problems)

    @property
    def doubts(self) -> str:
        return self._joined(self._doubts)

    def shown(self, names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """Attribute and value of everything that was read, printable; of many values the first few."""
        given = ((name, self.raw.attributes.get(name.lower(), ())) for name in names)
        return tuple((name, value) for name, values in given if values for value in self._few(values))

    @staticmethod
    def _few(values: tuple[bytes, ...]) -> list[str]:
        more = [f"and {len(values) - VALUES_SHOWN} more"] if len(values) > VALUES_SHOWN else []
        return [printable(text_of(value)) for value in values[:VALUES_SHOWN]] + more

    @staticmethod
    def listed(values: tuple[str, ...]) -> str:
        """Values for an error text."""
        more = f" and {len(values) - _FEW} more" if len(values) > _FEW else ""
        return ", ".join(map(quoted, values[:_FEW])) + more

    def _joined(self, texts: list[str]) -> str:
        if not texts:
            return ""
        joined = f"{printable(self.raw.dn)}: {'; '.join(dict.fromkeys(texts))}"
        return joined if len(joined) <= LONGEST else f"{joined[: LONGEST - 3]}..."
