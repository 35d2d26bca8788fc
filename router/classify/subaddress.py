"""
Sub-addresses: `user+extension`, and how an extension travels through an alias. Pure.

Guarantees: the split is at the first delimiter character and happens once; a local part that would be empty is not
split; the names of the mail system itself are never split. The bytes that go onward are those received: splitting is
for lookups, and only a rewrite to a canonical address puts an extension back, in the spelling it came in.

Nothing here fails.
"""

import re
from dataclasses import dataclass

from router.model.address import Address

NEVER_SPLIT = frozenset({"postmaster", "mailer-daemon", "double-bounce"})
_OWNER, _REQUEST = "owner-", "-request"
_DOT_STRING = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff]+")
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_MUST_QUOTE = re.compile(r'(["\\])')


@dataclass(frozen=True, slots=True)
class Split:
    """A local part in two; `extension` may be empty (`user+`)."""

    base: str
    delimiter: str
    extension: str

    @property
    def suffix(self) -> str:
        """What follows the base, delimiter included."""
        return self.delimiter + self.extension


def split(local: str, delimiters: str) -> Split | None:
    """
    Split an unquoted local part at its first delimiter character, or None where it is whole.

    >>> split("joe+lists+x", "+")
    Split(base='joe', delimiter='+', extension='lists+x')
    """
    if not delimiters or local.lower() in NEVER_SPLIT or _is_list_role(local, delimiters):
        return None
    at = min((i for i in map(local.find, delimiters) if i >= 0), default=0)
    if at == 0:
        return None
    return Split(local[:at], local[at], local[at + 1 :])


def spelled_local(address: Address) -> str:
    """The local part as received, unquoted but not folded."""
    local = wire_local(address)
    if local.startswith('"'):
        return _QUOTED_PAIR.sub(r"\1", local[1:-1])
    return local


def wire_local(address: Address) -> str:
    """The local part octet for octet as received, quotes included."""
    # The domain has no '@' (an address literal neither), a quoted local part may have one.
    return address.wire.rpartition("@")[0] if address.domain else address.wire


def with_suffix(key: str, suffix: str = "") -> str:
    """
    The address of a mailbox key with an extension put in, quoted where RFC 5321 4.1.2 asks for it.

    >>> with_suffix("joe.user@example.edu", "+Lists")
    'joe.user+Lists@example.edu'
    """
    local, at, domain = key.rpartition("@")
    return quoted(local + suffix) + at + domain


def quoted(local: str) -> str:
    """A local part as it must be written: a dot-string as it is, anything else as quoted string."""
    if all(_DOT_STRING.fullmatch(atom) for atom in local.split(".")):
        return local
    escaped = _MUST_QUOTE.sub(r"\\\1", local)
    return f'"{escaped}"'


def _is_list_role(local: str, delimiters: str) -> bool:
    """With '-' as delimiter `owner-list` and `list-request` would be split in the middle of a list's address."""
    if "-" not in delimiters:
        return False
    folded = local.lower()
    return (folded.startswith(_OWNER) and folded != _OWNER) or (folded.endswith(_REQUEST) and folded != _REQUEST)
