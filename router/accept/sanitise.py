"""
Text that came from a client, made fit for a header, a log line or a reply: one line, printable, bounded.

Guarantees: no control character (C0, DEL, C1), no Unicode line or paragraph separator, no lone surrogate and no
character of the directional overrides comes out; each becomes `?`. Nothing raises.
"""

import re

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_NOT_HELO = re.compile(r"[^A-Za-z0-9._:\[\]\-]")

MAX_HELO = 255


def printable(text: str, limit: int) -> str:
    """`text` cut to `limit` characters, with everything that could break out of a line replaced by `?`."""
    cut = text[:limit]
    return cut if cut.isascii() and cut.isprintable() else _UNSAFE.sub("?", cut)


def helo_name(argument: bytes) -> str:
    """
    The argument of HELO or EHLO as it may appear in a Received field; '' when there is none.

    Clients say all sorts of things here and mail must not be refused for it (RFC 5321 4.1.4), so characters that
    mean something in a header become `?` and the length is bounded.
    """
    name = argument[: MAX_HELO + 1].decode("ascii", "replace").strip()
    return _NOT_HELO.sub("?", name)[:MAX_HELO]
