"""
What an SMTP server must make of a client's octets, read once more and apart from the relay's own code.

`judge(octets, said, kept)` walks through what the client sent with the replies it got, command by command, and compares
the messages that were answered 250 with those that were kept. It raises `AssertionError` with the reason.

It decides nothing that depends on time: where a server may end the session, it may.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from support.smtp_site import Kept

REPLY = re.compile(rb"(?:([2-5][0-9]{2})-[ -~]*\r\n)*([2-5][0-9]{2})(?: [ -~]*)?\r\n")
BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
GOOD_RCPT = re.compile(rb"RCPT TO:<u[0-9]@example\.edu>", re.IGNORECASE)
LAST_WORDS = ("221 ", "421 ", "554 5.5.0", "502 5.5.1 BDAT", "500 5.5.2 Command line too long")
END = b"\r\n.\r\n"


@dataclass
class Expected:
    """A message that must have been kept: the lines of MAIL and of each RCPT that was taken, and the content."""

    mail: bytes
    recipients: list[bytes] = field(default_factory=list)
    content: bytes = b""


def replies(said: bytes) -> list[str]:
    """Each reply, its last line only. All must be printable lines with one code."""
    found, at = [], 0
    while at < len(said):
        match = REPLY.match(said, at)
        assert match, f"no reply: {said[at : at + 80]!r}"
        rows = match.group().decode().split("\r\n")[:-1]
        assert len({row[:3] for row in rows}) == 1, rows
        found.append(rows[-1])
        at = match.end()
    return found


class Walk:
    """Through octets and replies in step."""

    def __init__(self, octets: bytes, answers: Sequence[str], size_limit: int) -> None:
        self._octets = octets
        self._answers = list(answers)
        self._size_limit = size_limit
        self._at = 0
        self._now: Expected | None = None
        self.expected: list[Expected] = []

    def walk(self) -> None:
        while self._answers:
            answer = self._answers.pop(0)
            line = self._line()
            if line is None or answer.startswith("421 "):
                assert answer.startswith(LAST_WORDS), f"{answer!r} to nothing"
                assert not self._answers, f"after the last word: {self._answers}"
                return
            if answer.startswith("354"):
                if not self._text():
                    return
            else:
                self._command(line, answer)
            if answer.startswith(("221 ", "554 5.5.0")) or "BDAT" in answer:
                assert not self._answers, f"after {answer!r}: {self._answers}"
                return
        assert self._line() is None, "a command without a reply"

    def _line(self) -> bytes | None:
        end = self._octets.find(b"\r\n", self._at)
        if end < 0:
            return None
        line, self._at = self._octets[self._at : end], end + 2
        return line

    def _command(self, line: bytes, answer: str) -> None:
        verb, code = line.split(b" ")[0].upper(), answer[:3]
        if GOOD_RCPT.fullmatch(line) and self._now is not None:
            assert code in {"250", "452"}, f"a valid recipient heard {answer!r}"
        if code != "250":
            return
        if verb == b"MAIL":
            assert self._now is None
            self._now = Expected(line)
        elif verb == b"RCPT":
            assert self._now is not None
            self._now.recipients.append(line)
        elif verb in {b"RSET", b"EHLO", b"HELO"}:
            self._now = None

    def _text(self) -> bool:
        """The text after 354, and the reply to it; False if that is the end of all."""
        now, self._now = self._now, None
        assert now is not None
        assert now.recipients, "354 without a recipient"
        end = self._octets.find(END, self._at - 2)
        if end < 0:
            assert self._answers == [] or self._answers[0].startswith("421 "), self._answers
            return False
        raw, self._at = self._octets[self._at : end + 2], end + len(END)
        answer = self._answers.pop(0) if self._answers else "none"
        now.content = (b"\r\n" + raw).replace(b"\r\n.", b"\r\n")[2:]
        if answer.startswith("421 "):
            return False
        big = len(now.content) > self._size_limit
        if BARE.search(raw):
            refusals = ("550 5.5.2", "552 5.3.4") if big else ("550 5.5.2",)  # whichever was seen first
            assert answer.startswith(refusals), f"{answer!r} to a bare CR or LF"
        elif big:
            assert answer.startswith("552 5.3.4"), answer
        else:
            assert answer.startswith("250 2.0.0 Ok: queued as "), answer
            self.expected.append(now)
        return True


def judge(octets: bytes, said: bytes, kept: Sequence[Kept], size_limit: int) -> None:
    """See the module's text."""
    answers = replies(said)
    assert answers, "no greeting"
    walk = Walk(octets, answers[1:], size_limit)
    if answers[0].startswith("220 "):
        walk.walk()
    else:
        assert answers[0].startswith("554 5.5.0")
        assert len(answers) == 1
    assert len(kept) == len(walk.expected), f"{len(kept)} messages kept, {len(walk.expected)} answered 250"
    for one, meant in zip(kept, walk.expected, strict=True):
        assert one.content == meant.content, (one.content, meant.content)
        assert f"<{one.envelope.sender}>".encode() in meant.mail
        wires = [recipient.address.wire.encode() for recipient in one.recipients]
        named = [next(wire for wire in wires if wire + b">" in line) for line in meant.recipients]
        assert list(dict.fromkeys(named)) == wires, "other recipients than were taken"
