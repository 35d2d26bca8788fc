"""
The addresses that belong to one mailing list, for each kind of list manager. Pure tables.

A form is a prefix and a suffix around the list's own name: `owner-` + LIST, LIST + `-request`. Tokens after a `+`
(VERP, confirmations, probes) are cut before a form is looked for, so they are not in here.

Sources: Mailman 2.1's generated aliases; Mailman 3's LMTP runner, which still takes `-admin`; the alias sets of
Majordomo 1.9x with their digest twins; Majordomo 2's `configset_aliases`. Both Majordomo versions are one family,
because a site changes between them without changing its lists.
"""

from collections.abc import Iterable
from dataclasses import dataclass

MAJORDOMO, MAILMAN2, MAILMAN3 = "majordomo", "mailman2", "mailman3"

OWNER = "owner-"
_MAILMAN = (
    "-admin",
    "-bounces",
    "-confirm",
    "-join",
    "-leave",
    "-owner",
    "-request",
    "-subscribe",
    "-unsubscribe",
)
_MAJORDOMO_1 = ("-request", "-owner", "-approval", "-outgoing", "-outgoing-request")
_MAJORDOMO_2 = (
    "-owner",
    "-request",
    "-moderator",
    "-subscribe",
    "-subscribe-digest",
    "-subscribe-each",
    "-subscribe-nomail",
    "-subscribe-unique",
    "-unsubscribe",
)
_DIGEST = "-digest"
_NAMED_DIGEST = "-subscribe-digest-"
_OWNED = ("", "-outgoing", "-digest", "-digest-outgoing")
"""What follows LIST in Majordomo's `owner-` addresses."""


@dataclass(frozen=True, slots=True)
class Family:
    """
    The forms of one list manager.

    `open_suffix` is a suffix that a name of the site's choice follows. `site` are local parts that belong to the
    manager itself rather than to a list.
    """

    manager: str
    forms: frozenset[tuple[str, str]]
    open_suffix: str = ""
    site: frozenset[str] = frozenset()

    def has(self, prefix: str, suffix: str) -> bool:
        """Whether prefix + LIST + suffix is an address of a list (the posting address included)."""
        if (prefix, suffix) in self.forms or not (prefix or suffix):
            return True
        is_open = self.open_suffix and suffix.startswith(self.open_suffix) and not prefix
        return bool(is_open) and len(suffix) > len(self.open_suffix)

    def addresses(self, name: str) -> frozenset[str]:
        """Every local part of the list with this name that can be written down beforehand."""
        return frozenset({name, *(prefix + name + suffix for prefix, suffix in self.forms)})


def families(manager: str) -> Family:
    """The family of `majordomo`, `mailman2` or `mailman3`; `KeyError` for another."""
    return _FAMILIES[manager]


def _suffixed(suffixes: Iterable[str]) -> frozenset[tuple[str, str]]:
    return frozenset(("", suffix) for suffix in suffixes)


def _majordomo() -> Family:
    plain = {*_MAJORDOMO_1, *_MAJORDOMO_2}
    digests = {_DIGEST, *(_DIGEST + suffix for suffix in _MAJORDOMO_1)}
    owned = frozenset((OWNER, suffix) for suffix in _OWNED)
    site = frozenset({"majordomo", "majordomo-owner", "owner-majordomo"})
    return Family(MAJORDOMO, _suffixed(plain | digests) | owned, _NAMED_DIGEST, site)


def _mailman2() -> Family:
    site = frozenset({"mailman", "mailman-loop", *("mailman" + suffix for suffix in _MAILMAN)})
    return Family(MAILMAN2, _suffixed(_MAILMAN), site=site)


_FAMILIES = {
    MAJORDOMO: _majordomo(),
    MAILMAN2: _mailman2(),
    MAILMAN3: Family(MAILMAN3, _suffixed(_MAILMAN), site=frozenset({"noreply"})),
}
