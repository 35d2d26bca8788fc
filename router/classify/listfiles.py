"""
List files: one posting address a line, `#` begins a comment at the start of a line or after a blank.

Guarantees: a file is read whole or not at all; every error of every file is reported at once, with file and line. A
`ListTable` is only made when there is none, so a failed reload leaves the one in force.

On failure: `ListFileError` with all its problems, also for a file that cannot be read.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from router.classify.domains import DomainTable
from router.classify.lists import ListTable, MailingList
from router.model.address import AddressSyntaxError, parse_address
from router.settings.schema import ListSet

MAX_OCTETS = 32 * 1024 * 1024
"""A list file beyond this is somebody's mailbox."""

_COMMENT = re.compile(r"(?:^|\s)#.*$")


class ListFileError(ValueError):
    """`problems` are complete sentences that begin with `file:line:` or with the configuration's key."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def read_list_file(path: Path) -> str:
    """The text of a list file; blocking. Raises `OSError`, `ValueError` when it is too large or not UTF-8."""
    with path.open("rb") as file:
        content = file.read(MAX_OCTETS + 1)
    if len(content) > MAX_OCTETS:
        raise ValueError("the file is too large for a list of addresses")
    return content.decode("utf-8-sig")


def load_lists(
    sets: Iterable[ListSet], domains: DomainTable, read: Callable[[Path], str] = read_list_file
) -> ListTable:
    """All lists of the configuration; blocking, as it reads their files. Raises `ListFileError`."""
    problems: list[str] = []
    lists: list[MailingList] = []
    for number, one in enumerate(sets):
        for origin, text in _lines(one, number, read, problems):
            key = _posting_key(text, origin, domains, problems)
            if key:
                lists.append(MailingList(key, one.store, one.manager, origin))
    table = _table(lists, problems)
    if problems:
        raise ListFileError(problems)
    return table


def _table(lists: Iterable[MailingList], problems: list[str]) -> ListTable:
    known: dict[str, MailingList] = {}
    kept: list[MailingList] = []
    for one in lists:
        first = known.setdefault(one.key, one)
        if first.store == one.store:
            kept.append(one)
        else:
            problems.append(f"{one.origin}: list {one.key} is on {first.store} already ({first.origin})")
    return ListTable(kept)


def _lines(one: ListSet, number: int, read: Callable[[Path], str], problems: list[str]) -> Iterator[tuple[str, str]]:
    for index, address in enumerate(one.addresses):
        yield f"lists[{number}].addresses[{index}]", address
    if one.file is None:
        return
    try:
        text = read(one.file)
    except (OSError, ValueError) as error:
        problems.append(f"{one.file}: cannot be read: {error}")
        return
    seen: dict[str, int] = {}
    for line, content in enumerate(text.split("\n"), start=1):
        address = _COMMENT.sub("", content.rstrip("\r")).strip()
        if not address:
            continue
        first = seen.setdefault(address.lower(), line)
        if first == line:
            yield f"{one.file}:{line}", address
        else:
            problems.append(f"{one.file}:{line}: {address} is in line {first} already")


def _posting_key(text: str, origin: str, domains: DomainTable, problems: list[str]) -> str:
    try:
        address = parse_address(text)
    except AddressSyntaxError as error:
        problems.append(f"{origin}: not an address: {error}")
        return ""
    if address.domain not in domains:
        problems.append(f"{origin}: {address.domain or text} is not a domain of ours")
        return ""
    return address.key
