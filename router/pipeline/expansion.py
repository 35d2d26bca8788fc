"""
What a forward makes of a recipient: those that are opened in its place, and how that is told. Pure.

Guarantees: an original recipient stays known (ORCPT) whatever the address is now, and a sender who asked for notices
of success hears of one thing once: where one recipient becomes several, of that, and then of failures only (RFC 3461
6.2.7.3); where it becomes one, of what becomes of that one.

On failure: nothing here fails.
"""

from dataclasses import replace

from router.model.envelope import NewRecipient, QueuedRecipient
from router.model.route import Expand

_SUCCESS = "SUCCESS"
_SHOWN = 10
"""Targets named in a journal row."""


def openings(recipient: QueuedRecipient, route: Expand) -> tuple[NewRecipient, ...]:
    """The recipients that take the place of this one: the targets, then the copy that its home keeps."""
    via = (*recipient.via, route.mailbox)
    kept = (*recipient.kept, route.mailbox) if route.keeps else recipient.kept
    through = (*recipient.through, recipient.address.key)
    several = len(route.targets) + route.keeps > 1
    notify = _without_success(recipient.notify) if several else recipient.notify
    orcpt = recipient.orcpt or original(recipient)
    # Who a target belongs to is not known yet: a row without a mailbox may be anybody's (worker, after an unclean end).
    opened = [NewRecipient(target, notify, orcpt, via=via, kept=kept, through=through) for target in route.targets]
    if route.keeps:
        copy = NewRecipient(recipient.address, notify, orcpt, "", route.mailbox, draining=recipient.draining)
        opened.append(replace(copy, via=via, kept=kept, through=through))
    return tuple(opened)


def described(route: Expand) -> str:
    """For journal and log."""
    if not route.targets:
        return f"forwarded back to {route.mailbox}, and a copy was kept on the way"
    names = [target.wire for target in route.targets[:_SHOWN]]
    if len(route.targets) > _SHOWN:
        names.append(f"{len(route.targets) - _SHOWN} more")
    if route.keeps:
        names.append("its mailbox")
    return f"as {', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else f"as {names[0]}"


def wants_success(recipient: QueuedRecipient) -> bool:
    """Whether the sender asked to be told of a success."""
    return _SUCCESS in _words(recipient.notify)


def original(recipient: QueuedRecipient) -> str:
    """The ORCPT of an address as it was received; '' where that cannot be written."""
    wire = recipient.address.wire
    return f"rfc822;{xtext(wire)}" if recipient.address.ascii else ""


def xtext(text: str) -> str:
    """RFC 3461 4: printable ASCII but `+`, `=` and space stand for themselves, the rest as +XX."""
    return "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text)


def _words(notify: str) -> list[str]:
    return [word for part in notify.split(",") if (word := part.strip().upper())]


def _without_success(notify: str) -> str:
    """Who asked for successes alone asked not to hear of failures."""
    words = _words(notify)
    left = [word for word in words if word != _SUCCESS]
    return ",".join(left) or ("NEVER" if words else "")
