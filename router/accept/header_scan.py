"""
What is noted of a message's header section while it goes by; not one octet is changed.

Guarantees: only the top header section counts (a Received in a body or an attached message is no hop); at most
`MAX_HEADER` octets are kept, and looked at once; nothing in a header makes it raise. Marks are taken as they stand:
anybody can write a Received field, so they prove nothing until their keyed digest has been checked at dispatch.
"""

import re

from router.accept.sanitise import printable
from router.model.envelope import HeaderFacts

MAX_HEADER = 128 * 1024
"""Octets looked at. Hops add their fields on top, so the count that matters is at the beginning."""
MAX_MESSAGE_ID = 255

_END = b"\r\n\r\n"
# Possessive quantifiers: a hostile header costs one pass, not a search.
_SECTION = re.compile(rb"(?:>?From [^\n]*+\n)?+(?:[!-9;-~]++[ \t]*+:[^\n]*+(?:\n|\Z)|[ \t][^\n]*+(?:\n|\Z))*+")
_RECEIVED = re.compile(rb"^received:([^\n]*+(?:\n[ \t][^\n]*+)*+)", re.IGNORECASE | re.MULTILINE)
_MARK = re.compile(
    rb"\bby\s++\S++\s++\(Sluice\)\s++with\s++\S++\s++id\s++([A-Za-z0-9._\-]+)\s*+\(mark((?:\s++[A-Za-z0-9_\-]++)++)\s*+\)"
)


class HeaderScan:
    """Fed with decoded blocks until `done`; `facts` may be asked for at any time after the last block."""

    __slots__ = ("_facts", "_kept", "done")

    def __init__(self) -> None:
        self._kept = b""
        self._facts: HeaderFacts | None = None
        self.done = False
        """The header section has been seen in full, or more than can be looked at."""

    def feed(self, content: bytes) -> None:
        """Take the next block of the message."""
        searched = max(0, len(self._kept) - 3)
        self._kept = data = self._kept + content if self._kept else content
        end = data.find(_END, searched)
        if end >= 0 or data.startswith(b"\r\n") or len(data) > MAX_HEADER:
            self._conclude(data[: end + 2] if end >= 0 else data)

    def facts(self) -> HeaderFacts:
        """What was found."""
        if self._facts is None:
            self._facts = self._conclude(self._kept)
        return self._facts

    def _conclude(self, data: bytes) -> HeaderFacts:
        self.done = True
        self._kept = b""
        self._facts = read_header(data[:MAX_HEADER])
        return self._facts


def read_header(data: bytes) -> HeaderFacts:
    """The facts about a header section, which ends at the first line that is no field."""
    match = _SECTION.match(data)
    section = data[: match.end()] if match else b""
    text = b"\n" + section.lower()
    automatic = _value(section, text, b"auto-submitted").lower()
    return HeaderFacts(
        message_id=printable(_value(section, text, b"message-id").decode("utf-8", "replace"), MAX_MESSAGE_ID),
        received_count=text.count(b"\nreceived:"),
        auto_submitted=bool(automatic) and re.split(rb"[;(\s]", automatic, maxsplit=1)[0] not in {b"", b"no"},
        marks=_marks(section) if b"(sluice)" in text else (),
    )


def _value(section: bytes, text: bytes, name: bytes) -> bytes:
    """The unfolded value of the first field called `name`; `text` is a line feed and the section in lower case."""
    at = text.find(b"\n" + name + b":")
    if at < 0:
        return b""
    start = at + len(name) + 1
    end = section.find(b"\n", start)
    while end >= 0 and section[end + 1 : end + 2] in {b" ", b"\t"}:
        end = section.find(b"\n", end + 1)
    return b" ".join(section[start : end if end >= 0 else len(section)].split())


def _marks(section: bytes) -> tuple[str, ...]:
    found = []
    for field in _RECEIVED.finditer(section):
        mark = _MARK.search(field[1])
        if mark:
            found.append(f"{mark[1].decode('ascii')}:{','.join(mark[2].decode('ascii').split())}")
    return tuple(found)
