"""People of whom each test has three of its own, on a relay that serves all tests of a file."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Trio:
    """Alice and bob live at old, carol at new."""

    alice: str
    bob: str
    carol: str

    @classmethod
    def numbered(cls, number: int) -> Self:
        return cls(*(f"{name}{number}@example.edu" for name in ("alice", "bob", "carol")))

    @property
    def alias(self) -> str:
        """Alice's other address."""
        return f"a.{self.alice}"

    @property
    def users(self) -> dict[str, str]:
        """As `Site` takes them."""
        return {self.alice: f"old {self.alias}", self.bob: "old", self.carol: "new"}
