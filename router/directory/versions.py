"""
The version of an entry as text that sorts: when, or at which count, it was last changed.

Guarantees: pure. Of two states of one entry on one server the later one has the greater text, or the same one where
the server counts in whole seconds (`modifyTimestamp`).
"""

from collections.abc import Mapping, Sequence

ENTRY_CSN, USN_CHANGED, MODIFY_TIMESTAMP = "entryCSN", "uSNChanged", "modifyTimestamp"
CHANGE_ATTRIBUTES = (ENTRY_CSN, USN_CHANGED, MODIFY_TIMESTAMP)
"""The best one first."""
_DIGITS = 20
"""Of a 64-bit number; padded to that, text sorts as the numbers do."""
_LONGEST = 100


def change_attributes(configured: str) -> tuple[str, ...]:
    """The attributes to look at, `configured` being `auto` or one of them."""
    return CHANGE_ATTRIBUTES if configured == "auto" else (configured,)


def version_of(attributes: Mapping[str, tuple[bytes, ...]], names: Sequence[str] = CHANGE_ATTRIBUTES) -> str:
    """
    From the first of `names` of which the entry (its attributes in lower case) has a usable value; '' without any.

    >>> version_of({"usnchanged": (b"4711",)})
    '00000000000000004711'
    """
    for name in names:
        values = attributes.get(name.lower())
        text = values[0].decode("utf-8", "replace").strip(" ") if values else ""
        if not text or len(text) > _LONGEST or not (text.isascii() and text.isprintable()):
            continue
        if name != USN_CHANGED:
            return text
        if text.isdigit():
            return text.zfill(_DIGITS)
    return ""
