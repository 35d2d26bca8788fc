"""
What a reload may not change.

Guarantees: pure; every reason at once, each a sentence for the operator; an empty list means go ahead.
"""

from collections.abc import Mapping

from router.settings.schema import Settings

RESTART_ONLY = ("listen", "state_dir", "database", "user", "workers")
"""Bound, opened or dropped once, when the daemon starts."""


def refuse_reload(
    old: Settings, new: Settings, homes_in_use: Mapping[str, int], sources_in_use: Mapping[str, int]
) -> list[str]:
    """
    Why `new` cannot replace `old` in a running daemon.

    `homes_in_use` counts mailboxes by home store, `sources_in_use` by the source they come from. A store that is
    somebody's home cannot be removed: their mail would have no route, and a misspelt name in the file must not become
    an outage. For the same reason a directory cannot be removed, or get another name, while it has people.
    """
    reasons = [
        f"{key} cannot change on reload: restart needed"
        for key in RESTART_ONLY
        if getattr(old, key) != getattr(new, key)
    ]
    removed = sorted(set(old.stores) - set(new.stores))
    reasons += [
        f"directory {name} is where {_mailboxes(sources_in_use[name])} come from: their mail would wait for ever"
        for name in old.ldaps
        if name not in new.ldaps and sources_in_use.get(name, 0) > 0
    ]
    return reasons + [
        f"store {name} is the home of {_mailboxes(homes_in_use[name])}: move them first, then remove it"
        for name in removed
        if homes_in_use.get(name, 0) > 0
    ]


def _mailboxes(count: int) -> str:
    return "1 mailbox" if count == 1 else f"{count} mailboxes"
