"""
Reading `users.csv`: header `address,home,aliases,status,size_bytes,division,target`, the first two required.

Guarantees: the whole file is read before anything is done with it, and every error in it is reported at once as
`file:line: message`. Addresses come out as folded keys. A column that the file does not have leaves that value of a
mailbox as it is; in a column that it has, an empty cell means the default.

On failure: `ImportRefused` with all the messages.
"""

import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from router.errors import Conflict
from router.model.address import AddressSyntaxError, parse_address
from router.model.mailbox import Status

COLUMNS = ("address", "home", "aliases", "status", "size_bytes", "division", "target")
_REQUIRED = frozenset({"address", "home"})
_LARGEST_SIZE = 2**53


class ImportRefused(Conflict):
    """The file cannot be taken; `messages` are all reasons, nothing was changed."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__("\n".join(messages))
        self.messages = messages


@dataclass(frozen=True, slots=True)
class UserRow:
    """One row, checked. A field is None when the file lacks its column; `size` -1 means unknown."""

    line: int
    key: str
    home: str
    aliases: frozenset[str] | None = None
    status: Status | None = None
    size: int | None = None
    division: str | None = None
    target: str | None = None


@dataclass(slots=True)
class _Reader:
    path: Path
    stores: Collection[str]
    domains: Collection[str]
    messages: list[tuple[int, str]] = field(default_factory=list)
    claims: dict[str, tuple[str, int]] = field(default_factory=dict)

    def complain(self, line: int, message: str) -> None:
        self.messages.append((line, f"{self.path}:{line}: {message}"))


@dataclass(frozen=True, slots=True)
class UserFile:
    """The checked file. `claims` says which row's mailbox each address belongs to."""

    path: Path
    rows: tuple[UserRow, ...]
    claims: dict[str, str]

    def say(self, row: UserRow, message: str) -> str:
        return f"{self.path}:{row.line}: {message}"


def read(path: Path, stores: Collection[str], domains: Collection[str]) -> UserFile:
    """Read and check the file; `domains` are all that we answer for. Raises `ImportRefused`."""
    reader = _Reader(path, stores, domains)
    rows = sorted(_rows(reader), key=lambda row: row.key)
    if reader.messages:
        raise ImportRefused([message for _, message in sorted(reader.messages, key=lambda pair: pair[0])])
    return UserFile(path, tuple(rows), {address: key for address, (key, _) in reader.claims.items()})


def _rows(reader: _Reader) -> Iterator[UserRow]:
    try:
        with reader.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            yield from _parse(reader, stream)
    except OSError as error:
        reader.complain(0, f"cannot be read: {error.strerror}")


def _parse(reader: _Reader, stream: Iterator[str]) -> Iterator[UserRow]:
    lines = csv.reader(stream, strict=True)
    try:
        columns = _header(reader, next(lines, []))
        if columns is None:
            return
        for cells in lines:
            row = _row(reader, lines.line_num, columns, cells) if cells else None
            if row is not None:
                yield row
    except csv.Error as error:
        reader.complain(lines.line_num, f"the file is no CSV from here on: {error}")


def _header(reader: _Reader, cells: list[str]) -> list[str] | None:
    names = [cell.strip() for cell in cells]
    wrong = [f"unknown column {name!r}" for name in names if name not in COLUMNS]
    wrong += [f"column {name!r} is given twice" for name in sorted(set(names)) if names.count(name) > 1]
    wrong += [f"column {name!r} is missing" for name in sorted(_REQUIRED - set(names))]
    for message in wrong:
        reader.complain(1, message)
    return None if wrong else names


def _row(reader: _Reader, line: int, columns: list[str], cells: list[str]) -> UserRow | None:
    if len(cells) != len(columns):
        reader.complain(line, f"{len(cells)} fields where the header has {len(columns)}")
        return None
    if any(not cell.isprintable() for cell in cells):
        reader.complain(line, "a character is not UTF-8 or not printable")
        return None
    values = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
    key = _address(reader, line, values["address"])
    aliases = _aliases(reader, line, values.get("aliases"))
    if key is None:
        return None
    for address in [key, *sorted(aliases or ())]:
        _claim(reader, line, address, key)
    return UserRow(
        line,
        key,
        _store(reader, line, values["home"], "home"),
        None if aliases is None else aliases - {key},
        _status(reader, line, values.get("status")),
        _size(reader, line, values.get("size_bytes")),
        values.get("division"),
        _target(reader, line, values.get("target")),
    )


def _claim(reader: _Reader, line: int, address: str, key: str) -> None:
    taken = reader.claims.setdefault(address, (key, line))
    if taken[1] != line:
        reader.complain(line, f"{address} is already in line {taken[1]}")


def _address(reader: _Reader, line: int, text: str) -> str | None:
    try:
        address = parse_address(text)
    except AddressSyntaxError as error:
        reader.complain(line, f"{text!r} is no address: {error}")
        return None
    if address.domain not in reader.domains:
        reader.complain(line, f"{text!r} is not in a domain of ours")
        return None
    return address.key


def _aliases(reader: _Reader, line: int, text: str | None) -> frozenset[str] | None:
    if text is None:
        return None
    found = (_address(reader, line, word) for word in text.split())
    return frozenset(key for key in found if key is not None)


def _store(reader: _Reader, line: int, name: str, what: str) -> str:
    if name not in reader.stores:
        reader.complain(line, f"{what} {name!r} is no store of the configuration")
    return name


def _target(reader: _Reader, line: int, name: str | None) -> str | None:
    return _store(reader, line, name, "target") if name else name


def _status(reader: _Reader, line: int, text: str | None) -> Status | None:
    if text is None:
        return None
    try:
        return Status(text.lower() or "active")
    except ValueError:
        reader.complain(line, f"status {text!r} is none of {', '.join(Status)}")
        return None


def _size(reader: _Reader, line: int, text: str | None) -> int | None:
    if not text:
        return None if text is None else -1
    if not (text.isascii() and text.isdigit() and int(text[:20]) <= _LARGEST_SIZE and len(text) < 20):
        reader.complain(line, f"size_bytes {text!r} is not a number of octets")
        return None
    return int(text)
