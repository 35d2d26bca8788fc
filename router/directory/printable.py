"""
Values of a directory made safe to show: in logs, alarms, `sluice route`, error texts.

Guarantees: one printable line of limited length, whatever the octets; different values of the same length do not
look the same. Nothing here fails.
"""

LIMIT = 200
"""Characters of one value that are shown."""


def text_of(value: bytes) -> str:
    """UTF-8 as text. Octets that are none become lone surrogates, which no address, host or status has."""
    return value.decode("utf-8", "surrogateescape")


def printable(text: str, limit: int = LIMIT) -> str:
    r"""
    The text with everything that is not printable as `\x1b`, `\u202e` and the like; longer ones end in `...`.

    >>> printable("a\r\nb")
    'a\\r\\nb'
    """
    kept = text if len(text) <= limit else text[:limit]
    if not kept.isprintable() or "\\" in kept:
        kept = "".join(map(_escaped, kept))
    return kept if len(kept) <= limit and kept[:limit] == kept and len(text) <= limit else f"{kept[: limit - 3]}..."


def quoted(text: str) -> str:
    """The value for an error text."""
    return f"'{printable(text)}'"


def _escaped(character: str) -> str:
    if character.isprintable() and character != "\\":
        return character
    return character.encode("unicode_escape").decode("ascii")
