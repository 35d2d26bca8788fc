"""
How commands speak: tables and progress bars on a terminal, plain aligned text in a pipe, JSON with `--json`.

Guarantees: whatever came from outside (addresses, replies, reasons, file names) is shown without control characters,
escape sequences or direction marks. JSON is one document per command, 7-bit, beginning with `"version": 1`: members
may be added to it, none is renamed or removed within a version. Remarks and progress go to standard error.

A reader that goes away (`| head`) is no error; the caller of the command line ends quietly then.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from router.report.escape import one_line

if TYPE_CHECKING:  # rich is imported where it draws: on a terminal
    from rich.console import Console

VERSION = 1
"""Of the JSON documents."""
LONGEST = 2000
"""Characters of one outside text."""
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")

Cell = object
Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table; `right` for numbers."""

    title: str
    right: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """Standard output and standard error of one command. `stdout` and `stderr` are looked up when it writes."""

    json: bool = False

    @property
    def terminal(self) -> bool:
        """Whether a person looks on."""
        return not self.json and sys.stdout.isatty()

    def document(self, value: Mapping[str, object]) -> None:
        """With `--json` the command's one document; otherwise nothing."""
        if self.json:
            _write(sys.stdout, json.dumps({"version": VERSION, **value}, ensure_ascii=True, indent=2, default=str))

    def record(self, value: Mapping[str, object]) -> None:
        """With `--json` one line of a long list (JSON lines, each complete in itself); otherwise nothing."""
        if self.json:
            _write(sys.stdout, json.dumps(value, ensure_ascii=True, default=str))

    def line(self, text: str = "") -> None:
        """A line for people; nothing with `--json`."""
        if not self.json:
            _write(sys.stdout, safe(text))

    def note(self, text: str) -> None:
        """A remark beside the result, on standard error; nothing with `--json`."""
        if not self.json:
            _write(sys.stderr, safe(text))

    def table(self, columns: Sequence[Column | str], rows: Iterable[Sequence[Cell]], *, title: str = "") -> None:
        """Rows for people; nothing with `--json`."""
        if self.json:
            return
        heads = [Column(one) if isinstance(one, str) else one for one in columns]
        cells = [[shown(cell) for cell in row] for row in rows]
        if self.terminal:
            _draw(heads, cells, title)
        else:
            _write_plain(heads, cells)

    def fields(self, pairs: Iterable[tuple[str, Cell]]) -> None:
        """Names and values below each other; nothing with `--json`."""
        if self.json:
            return
        listed = [(name, shown(value)) for name, value in pairs]
        width = max((len(name) for name, _ in listed), default=0)
        for name, value in listed:
            _write(sys.stdout, f"{name:<{width}}  {value}".rstrip())

    @contextmanager
    def progress(self, title: str, total: int | None = None) -> Iterator[Advance]:
        """A bar on standard error while a person looks on, nothing otherwise; call it with the steps done."""
        if self.json or not sys.stderr.isatty():
            yield _nothing
            return
        from rich.progress import Progress  # noqa: PLC0415 - see above

        with Progress(console=_console(sys.stderr), transient=True) as bar:
            task = bar.add_task(safe(title), total=total)
            yield lambda steps: bar.advance(task, steps)


def safe(text: str, limit: int = LONGEST) -> str:
    r"""
    Text from outside as one line that a terminal shows and does not obey.

    >>> safe("\x1b[2Jhello\u202e")
    '\\x1b[2Jhello\\u202e'
    """
    if text.isprintable():
        return text[:limit]
    return one_line(text, limit)


def shown(value: Cell) -> str:
    """A cell: nothing is `-`, switches are yes and no."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return safe(str(value))


def moment(seconds: float | None) -> str | None:
    """Wall-clock seconds as local time with its offset, for people and for JSON (ISO 8601)."""
    if seconds is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))


def span(seconds: float) -> str:
    """
    A duration in its two largest units.

    >>> span(3725)
    '1h 2m'
    """
    left = max(0, round(seconds))
    parts: list[tuple[int, str]] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or parts or unit == "s":
            parts.append((count, unit))
    return " ".join(f"{count}{unit}" for count, unit in parts[:2] if count or len(parts) == 1)


def octets(count: float) -> str:
    """
    A size with its unit.

    >>> octets(1536)
    '1.5 KiB'
    """
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("the last unit takes everything")


def _nothing(_steps: int) -> None:
    """Nobody looks on."""


def _write(stream: TextIO, text: str) -> None:
    """Text that the terminal's character set has not is shown escaped; it never ends a command."""
    encoding = stream.encoding or "ascii"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def _write_plain(heads: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    widths = [max([len(head.title), *(len(row[place]) for row in rows)]) for place, head in enumerate(heads)]
    for row in [[head.title.upper() for head in heads], *rows]:
        padded = [
            cell.rjust(width) if head.right else cell.ljust(width)
            for cell, width, head in zip(row, widths, heads, strict=True)
        ]
        _write(sys.stdout, "  ".join(padded).rstrip())


def _draw(heads: Sequence[Column], rows: Sequence[Sequence[str]], title: str) -> None:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - see above
    from rich.table import Table  # noqa: PLC0415 - see above
    from rich.text import Text  # noqa: PLC0415 - see above

    table = Table(title=safe(title) or None, box=SIMPLE_HEAD, title_justify="left")
    for head in heads:
        table.add_column(head.title, justify="right" if head.right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    _console(sys.stdout).print(table)


def _console(stream: TextIO) -> "Console":
    from rich.console import Console  # noqa: PLC0415 - see above

    return Console(file=stream, markup=False, highlight=False, emoji=False)
