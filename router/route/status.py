"""
Sun's status attributes in their order, reduced to the one that counts.

The order is `inetDomainStatus`, `mailDomainStatus`, `inetUserStatus`, `mailUserStatus` (for a group: its two group
attributes in place of the last two). The first that is not `active` decides; a missing one is active.

Guarantees: a value that nobody knows is `inactive`, which is temporary, and is reported as illegal so that somebody
hears of it. Values are compared without regard to case, as LDAP does. Nothing here fails.
"""

from dataclasses import dataclass

from router.model.mailbox import Status

HOLD = "hold"
_LEGAL = frozenset({HOLD, *Status})


@dataclass(frozen=True, slots=True)
class Effective:
    """`value` is `hold` or a `Status`; `illegal` is the text that stood in its place, or ''."""

    value: str
    illegal: str = ""

    @property
    def hold(self) -> bool:
        return self.value == HOLD

    @property
    def status(self) -> Status:
        """The status beside the hold: a mailbox that is on hold by its status attribute is otherwise active."""
        return Status.ACTIVE if self.hold else Status(self.value)


def effective_status(*values: str | None) -> Effective:
    """
    The status that a domain's and a user's attributes amount to, given in their order.

    >>> effective_status("hold", None, None, "disabled").value
    'hold'
    """
    for value in values:
        folded = (value or "").strip().lower()
        if folded in ("", Status.ACTIVE):
            continue
        if folded in _LEGAL:
            return Effective(folded)
        return Effective(Status.INACTIVE.value, illegal=folded)
    return Effective(Status.ACTIVE.value)
