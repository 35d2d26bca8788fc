"""
Which of many addresses came twice, in little memory: eight octets for each.

Guarantees: what came twice is in the answer. What is in it came twice, or, for one in some million directories of a
million people, has the hash of another: who names an address to anybody looks whether two entries really have it.
"""

from array import array
from collections.abc import Iterator
from hashlib import blake2b

_PARTS = 256


class AddressBook:
    """Add every address of every entry once."""

    def __init__(self) -> None:
        self._parts = [array("Q") for _ in range(_PARTS)]
        self.count = 0

    def add(self, address: str) -> None:
        number = number_of(address)
        self._parts[number % _PARTS].append(number)
        self.count += 1

    def twice(self) -> Iterator[int]:
        """The numbers of addresses that were added more than once, each once; sorts a part at a time."""
        for part in self._parts:
            former = told = -1
            for number in sorted(part):
                if number == former != told:
                    told = number
                    yield number
                former = number


def number_of(address: str) -> int:
    """What is kept of an address."""
    return int.from_bytes(blake2b(address.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
