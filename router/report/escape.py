"""
Outside text made safe for one line of a log, a header field or a notice.

Guarantees: the result is one printable line without CR, LF, NUL, ESC, line or paragraph separators or direction
marks, never longer than asked for, and different characters never look the same (backslashes are doubled).
Never fails, whatever the text, lone surrogates included.
"""

import re

LIMIT = 255
"""Characters that one outside string may take up where nothing else is said."""

_NOT_HOST = re.compile(r"[^A-Za-z0-9.\-_:\[\]]")
_SHORT = {"\r": "\\r", "\n": "\\n", "\t": "\\t", "\\": "\\\\"}


def one_line(text: str, limit: int = LIMIT) -> str:
    r"""
    The text as one printable line of at most `limit` characters; printable non-ASCII letters stay as they are.

    >>> one_line("a\r\nb\x1b[1m\u2028")
    'a\\r\\nb\\x1b[1m\\u2028'
    """
    if text.isprintable() and "\\" not in text:
        return text if len(text) <= limit else text[:limit]
    return "".join(map(_escape, text[:limit]))[:limit]


def in_brackets(text: str, limit: int = LIMIT) -> str:
    """As `one_line`, for text between angle brackets: it cannot close them early (log readers cut at the first `>`)."""
    line = one_line(text, limit)
    if "<" not in line and ">" not in line:
        return line
    return line.replace("<", "\\x3c").replace(">", "\\x3e")[:limit]


def ascii_line(text: str, limit: int = LIMIT) -> str:
    """As `one_line`, and 7-bit: for header fields of messages that travel without SMTPUTF8."""
    line = one_line(text, limit)
    if line.isascii():
        return line
    return line.encode("ascii", "backslashreplace").decode("ascii")[:limit]


def host_name(text: str, limit: int = LIMIT) -> str:
    """What a client calls itself, reduced to characters of host names and address literals; '' becomes `unknown`."""
    return _NOT_HOST.sub("?", text[:limit]) or "unknown"


def _escape(character: str) -> str:
    if character.isprintable() and character != "\\":
        return character
    short = _SHORT.get(character)
    return short or character.encode("unicode_escape").decode("ascii")
