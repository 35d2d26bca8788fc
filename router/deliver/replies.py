"""
Reading and judging a next hop's replies: pure functions and one incremental parser.

Guarantees: the first digit decides (RFC 5321 4.2), so 200, 251 or 252 are as good as 250; whatever is no reply by
the grammar (a code outside 100..599, mixed codes in one reply, more than 32 KiB) is a `ReplySyntaxError`, which
callers turn into a temporary failure and a dropped connection, never into a refusal. Text that leaves this module
is one printable line of at most 500 characters.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from router.model.reply import HopReply

MAX_REPLY = 32 * 1024
"""Octets of one whole reply, continuation lines included. A real EHLO reply has a few hundred."""
MAX_TEXT = 500

_CODES = {b"%d" % code: code for code in range(100, 600)}
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|$)")


class ReplySyntaxError(ValueError):
    """What the peer sent is no SMTP reply; the message says why and quotes nothing."""


class RawReply(NamedTuple):
    """A complete reply as it came: the code, and the text of its lines joined by LF."""

    code: int
    text: bytes

    @property
    def digit(self) -> int:
        return self.code // 100


class ReplyParser:
    """
    Octets in, complete replies out; keeps at most `MAX_REPLY` octets of an incomplete one.

    A bare LF ends a line as CRLF does: what counts here is to stay in step, and every known server agrees on LF.
    """

    __slots__ = ("_code", "_lines", "_partial", "_size")

    def __init__(self) -> None:
        self._partial = b""
        self._lines: list[bytes] = []
        self._code = 0
        self._size = 0

    def feed(self, data: bytes) -> Iterator[RawReply]:
        """Yield each reply that `data` completes. Raises `ReplySyntaxError`, after having yielded what came before."""
        lines = (self._partial + data).split(b"\n")
        self._partial = lines.pop()
        for line in lines:
            if (reply := self._line(line.removesuffix(b"\r"))) is not None:
                yield reply
        if self._size + len(self._partial) > MAX_REPLY:
            raise ReplySyntaxError("the reply is too long")

    def reset(self) -> None:
        """Forget an incomplete reply (STARTTLS: what came in the clear must not be read as part of TLS)."""
        self._partial = b""
        self._lines.clear()
        self._code = self._size = 0

    def _line(self, line: bytes) -> RawReply | None:
        code, separator = _CODES.get(line[:3]), line[3:4]
        if code is None or separator not in {b" ", b"-", b""}:
            raise ReplySyntaxError("the reply does not begin with a reply code")
        if self._code and code != self._code:
            raise ReplySyntaxError("the lines of one reply have different codes")
        if separator != b"-" and not self._code and len(line) <= MAX_REPLY:
            return RawReply(code, line[4:])
        self._code = code
        self._lines.append(line[4:])
        self._size += len(line) + 2
        if self._size > MAX_REPLY:
            raise ReplySyntaxError("the reply is too long")
        if separator == b"-":
            return None
        reply = RawReply(code, b"\n".join(self._lines))
        self._lines.clear()
        self._code = self._size = 0
        return reply


def sanitise(text: bytes | str) -> str:
    """
    One printable line of at most 500 characters.

    Control characters, invalid UTF-8 and whatever Unicode calls unprintable (line separators, bidirectional
    overrides, zero-width and private characters) appear as backslash escapes; line ends and tabs as one space.
    """
    if isinstance(text, bytes):
        # Cut first: a text of 32 KiB must not cost more than what is shown of it. Four octets a character suffice.
        text = text[: 4 * MAX_TEXT + 4].decode("utf-8", "backslashreplace")
    if not (text.isascii() and text.isprintable()):
        text = "".join(_shown(char) for char in text[: 2 * MAX_TEXT].replace("\r\n", " "))
    text = text.strip()
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."


def hop_reply(raw: RawReply, remote: str) -> HopReply:
    """The reply as the hop said it: enhanced code (RFC 2034) taken off, lines joined, text made safe."""
    first, *others = raw.text[: 8 * MAX_TEXT].split(b"\n")
    text = sanitise(first)
    enhanced = _enhanced(raw.code, text)
    text = text.removeprefix(enhanced).lstrip()
    if others:
        text = sanitise(" ".join([text, *(sanitise(line).removeprefix(enhanced).lstrip() for line in others)]))
    return HopReply(raw.code, enhanced, text, remote)


def recipient_refusal(raw: RawReply, remote: str) -> HopReply:
    """
    The refusal of one RCPT. `552 5.5.3` is read as 452: RFC 5321 4.5.3.1.10 asks for that, because old servers
    say 552 when they mean "too many recipients in this transaction".
    """
    reply = hop_reply(raw, remote)
    if reply.code == 552 and reply.enhanced == "5.5.3":
        return HopReply(452, "4.5.3", reply.text, remote)
    return reply


def own_reply(enhanced: str, text: str, remote: str = "none", code: int = 451) -> HopReply:
    """Words of our own about a next hop; a DSN does not present them as the hop's."""
    return HopReply(code, enhanced, sanitise(text), remote, said_by_hop=False)


def quoted(raw: RawReply) -> str:
    """The reply in one line, for our own words about it."""
    return sanitise(b"%d %s" % (raw.code, raw.text[: 2 * MAX_TEXT].replace(b"\n", b" ")))


def _enhanced(code: int, first_line: str) -> str:
    """The enhanced status code if there is one and its class agrees with the reply code (RFC 2034 4)."""
    match = _ENHANCED.match(first_line)
    if match is None or int(first_line[0]) != code // 100:
        return ""
    return match.group(1)


def _shown(char: str) -> str:
    if char.isprintable():
        return char
    if char in "\t\r\n":
        return " "
    return char.encode("unicode_escape").decode("ascii")
