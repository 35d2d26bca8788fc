"""
Which queue entries a command is about, and reading them from the spools of this node.

Guarantees: spools are opened read-only, so a command may run beside the workers; entries come spool by spool in order
of arrival and are read page by page, so a long queue costs time and no memory. A selection without any condition
matches everything: whoever acts on one asks for `--all` first.

On failure: `SpoolUnavailable` for a spool that cannot be read; `BadSelection` for conditions that make no sense.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from router.model.envelope import RecipientState
from router.spool.finding import QueueEntry, QueueFilter
from router.spool.numbering import parse_queue_id

PAGE = 1000
"""Entries read at a time."""
STATES = tuple(state.value for state in RecipientState)


class BadSelection(ValueError):
    """The conditions contradict each other or cannot be read; the text says which."""


@dataclass(frozen=True, slots=True)
class SpoolPlace:
    """A spool on this node: its number, and its directory of the same name."""

    number: int
    directory: Path


@dataclass(frozen=True, slots=True)
class Selection:
    """
    Conditions that must all hold. `ids` are queue-ids, of which one must fit; none means any.

    `mailboxes` limits to mailbox keys (those of a batch); None is no condition, and an empty set matches nothing.
    """

    wanted: QueueFilter = field(default_factory=QueueFilter)
    ids: tuple[str, ...] = ()
    mailboxes: frozenset[str] | None = None

    @property
    def everything(self) -> bool:
        """There is no condition at all."""
        return self.wanted == QueueFilter() and not self.ids and self.mailboxes is None

    def spools(self, places: Sequence[SpoolPlace]) -> list[SpoolPlace]:
        """Those spools that can hold a match: queue-ids name theirs."""
        if not self.ids:
            return list(places)
        numbers = {parse_queue_id(one)[0] for one in self.ids}
        return [place for place in places if place.number in numbers]


class Finder(Protocol):
    """A spool one can search: `SpoolView` is one."""

    def find(self, wanted: QueueFilter) -> list[QueueEntry]: ...


def spool_places(state_dir: Path) -> list[SpoolPlace]:
    """All spools below the state directory, by number."""
    root = state_dir / "spool"
    if not root.is_dir():
        return []
    return sorted(
        (SpoolPlace(int(path.name), path) for path in root.iterdir() if _is_spool(path)),
        key=lambda place: place.number,
    )


def entries(view: Finder, selection: Selection, *, page: int = PAGE) -> Iterator[QueueEntry]:
    """Matching entries of one spool in order of arrival (for several queue-ids: in the order of the ids)."""
    for wanted in filters(selection):
        for entry in _pages(view, wanted, page):
            if selection.mailboxes is None or entry.mailbox in selection.mailboxes:
                yield entry


def filters(selection: Selection) -> Iterator[QueueFilter]:
    """The selection as filters of the spool: one for each queue-id, or a single one."""
    if not selection.ids:
        yield selection.wanted
    for queue_id in sorted(selection.ids, key=parse_queue_id):
        yield replace(selection.wanted, queue_id=queue_id)


def queue_ids(words: Iterable[str]) -> tuple[str, ...]:
    """Queue-ids as typed or piped (Postfix's marks behind them are cut off). Raises `BadSelection`."""
    found = []
    for word in words:
        text = word.strip().rstrip("*!#").upper()
        if not text:
            continue
        try:
            parse_queue_id(text)
        except ValueError:
            raise BadSelection(f"{word.strip()!r} is no queue-id of Sluice") from None
        found.append(text)
    return tuple(dict.fromkeys(found))


def _pages(view: Finder, wanted: QueueFilter, page: int) -> Iterator[QueueEntry]:
    after = wanted.after
    while True:
        found = view.find(replace(wanted, after=after, limit=page))
        yield from found
        if len(found) < page:
            return
        after = found[-1].number


def _is_spool(path: Path) -> bool:
    return path.name.isascii() and path.name.isdigit() and len(path.name) == 4 and (path / "queue.db").is_file()
