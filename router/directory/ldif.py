"""
Changes of an entry as text that `ldapmodify` takes (LDIF, RFC 2849).

Guarantees: pure; whatever a value holds, it reads back as the same octets: what is not a safe string is base64.
A value cannot start a line of its own. Lines are not folded.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Verb(Enum):
    """What is done with values of an attribute, as LDIF spells it."""

    ADD = "add"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Modification:
    """One step of a modify: these values of the attribute are added, or these and no others are deleted."""

    verb: Verb
    attribute: str
    values: tuple[bytes, ...]


def line(name: str, value: bytes) -> str:
    """
    `name: value`, or `name:: base64` where the value is no safe string (RFC 2849, SAFE-STRING).

    >>> line("mailHost", b"old.example.edu")
    'mailHost: old.example.edu'
    >>> line("cn", b" first")
    'cn:: IGZpcnN0'
    """
    if is_safe(value):
        return f"{name}: {value.decode('ascii')}" if value else f"{name}:"
    return f"{name}:: {base64.b64encode(value).decode('ascii')}"


def is_safe(value: bytes) -> bool:
    """
    Whether the octets may stand as they are: printable ASCII, without a start or end that would be lost.

    RFC 2849 takes other control characters for safe; a terminal does not.
    """
    if value[:1] in {b" ", b":", b"<"} or value.endswith(b" "):
        return False
    return all(32 <= octet < 127 for octet in value)


def record(dn: str, changes: Sequence[Modification]) -> str:
    """One change record, with its newline at the end; without changes a comment that says so."""
    head = line("dn", dn.encode("utf-8", "surrogateescape"))
    if not changes:
        return f"# nothing to change\n# {head}\n"
    lines = [head, "changetype: modify"]
    for change in changes:
        lines.append(f"{change.verb.value}: {change.attribute}")
        lines += [line(change.attribute, value) for value in change.values]
        lines.append("-")
    return "\n".join(lines) + "\n"
