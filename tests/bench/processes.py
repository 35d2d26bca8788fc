"""
What a relay's processes cost: processor seconds and memory of a whole tree, read from /proc.

Guarantees: a process that ended is counted with the one that waited for it (Postfix replaces its daemons all the time),
so `cpu` of a tree never goes backwards. On failure: a process that ends while it is read counts as gone.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PPID, _UTIME, _CSTIME = 1, 11, 14
"""Places in /proc/PID/stat, counted after the name."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Octets of one process: resident, and its share of what it has in common with others."""

    name: str
    resident: int
    proportional: int


def tree(root: int) -> list[int]:
    """`root` and all that descend from it."""
    children: dict[int, list[int]] = {}
    for pid, fields in _all():
        children.setdefault(int(fields[_PPID]), []).append(pid)
    found, open_ends = [], [root]
    while open_ends:
        pid = open_ends.pop()
        found.append(pid)
        open_ends += children.get(pid, [])
    return found


def cpu(root: int) -> float:
    """Processor seconds of the tree since it was started, dead descendants included."""
    wanted, ticks = set(tree(root)), 0
    for pid, fields in _all():
        if pid in wanted:
            ticks += sum(int(field) for field in fields[_UTIME : _CSTIME + 1])
    return ticks / _TICKS


def memory(root: int) -> list[Memory]:
    """Every process of the tree."""
    found = []
    for pid in tree(root):
        with suppress(OSError):
            place = Path(f"/proc/{pid}")
            name = (place / "comm").read_text().strip()
            lines = (place / "smaps_rollup").read_text().splitlines()
            sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines[1:]}
            found.append(Memory(name, sizes.get("Rss", 0), sizes.get("Pss", 0)))
    return found


def forget_peaks(root: int) -> dict[int, int]:
    """Set the high-water marks of resident memory back, for every process of the tree; what they are then."""
    for pid in tree(root):
        with suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peaks(root)


def peaks(root: int) -> dict[int, int]:
    """The most resident octets that every process of the tree had."""
    found = {}
    for pid in tree(root):
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            found[pid] = sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))
    return found


def _all() -> Iterator[tuple[int, list[str]]]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                text = Path(entry.path, "stat").read_text(errors="replace")
                yield int(entry.name), text.rpartition(")")[2].split()
