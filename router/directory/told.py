"""
Which states of entries have been told of already, so that an overlap in what is asked is no repetition in what is told.

Guarantees: a state counts as told only when whoever was told comes back with the cookie of that answer: somebody who
failed to keep an answer asks with the cookie before, and hears everything again. Memory is bounded; what falls out may
be told twice.
"""

from collections import OrderedDict
from hashlib import blake2b

from router.model.directory import RawEntry

KEPT = 20_000


class Told:
    """For one feed. Used as: `begin`, `new` for each entry, `end` with the cookie of the answer."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._fresh: dict[bytes, None] = {}
        self._since = ""
        self._next = ""

    def begin(self, since: str) -> None:
        """Somebody asks what has changed since that cookie."""
        if since == self._next:
            self._known.update(self._fresh)
            while len(self._known) > self._kept:
                self._known.popitem(last=False)
        elif since != self._since:
            self._known.clear()
        self._fresh = {}
        self._since = since
        self._next = ""

    def new(self, raw: RawEntry) -> bool:
        """Whether this state of the entry has not been told yet."""
        state = digest(raw)
        if state in self._known:
            self._known.move_to_end(state)
            return False
        self._fresh[state] = None
        return True

    def end(self, cookie: str) -> None:
        """The answer goes out with that cookie."""
        self._next = cookie


def digest(raw: RawEntry) -> bytes:
    """Of the DN, the version and all that was read, whatever the order of attributes."""
    state = blake2b(digest_size=16)
    for part in (raw.dn.encode("utf-8", "surrogateescape"), *_flat(raw)):
        state.update(len(part).to_bytes(4, "big") + part)
    return state.digest()


def _flat(raw: RawEntry) -> list[bytes]:
    parts: list[bytes] = []
    for name, values in sorted(raw.attributes.items()):
        parts += [name.encode("utf-8", "surrogateescape"), len(values).to_bytes(4, "big"), *values]
    return parts
