"""
The answers of several sources to one question, as one answer. Pure.

Guarantees: the epoch is the lowest of the parts. For a mailbox that several sources know, the first one in the order
of the configuration is believed. An address that belongs to different mailboxes is a conflict, not a choice;
so is one that a source itself says to be in dispute.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from router.model.mailbox import Found, Mailbox


@dataclass(frozen=True, slots=True)
class Merged:
    """
    What all sources know by address key. `conflicts` says for an address key which mailboxes contend for it,
    `doubtful` for one that nobody has why it is not to be called unknown.
    """

    epoch: int
    people: dict[str, Mailbox]
    conflicts: dict[str, str]
    doubtful: dict[str, str] = field(default_factory=dict)


def merge(answers: Sequence[Found]) -> Merged:
    """One answer out of at least one, given in the order of the sources."""
    people: dict[str, Mailbox] = {}
    conflicts: dict[str, str] = {}
    doubtful: dict[str, str] = {}
    for answer in answers:
        conflicts.update(answer.disputed)
        doubtful.update(answer.doubtful)
        for key, mailbox in answer.mailboxes.items():
            first = people.setdefault(key, mailbox)
            if first.key != mailbox.key:
                conflicts[key] = f"{key} belongs to {first.key} ({first.source}) and {mailbox.key} ({mailbox.source})"
    return Merged(min(answer.epoch for answer in answers), people, conflicts, doubtful)
