"""
What the harness needs of a relay, whoever wrote it: an adapter for each is in a module of its own.

Guarantees: a relay lives below one directory, with its queue below `Place.state`, which may be a disk of its own; it
listens on loopback and sends mail on to loopback only. All its processes are in the control group of the harness, so
that all of them, and none but them, can be killed at once.
"""

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from router.ledger.book import Ledger

DOMAIN = "example.edu"
HOSTNAME = "mx.example.edu"
SIZE_LIMIT = 10_240_000
"""Octets of a message, for all relays: the default of Postfix."""


Missing = Iterable[tuple[str, str]]
_TAG = re.compile(rb"X-Ledger: ([!-~]+)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a relay lives, and where it sends mail: `hops` are ports by name, `homes` hops by recipient."""

    directory: Path
    hops: Mapping[str, int]
    homes: Mapping[str, str]
    settings: Mapping[str, object] = field(default_factory=dict)
    """What is set beside the relay's defaults, for one run."""

    @property
    def state(self) -> Path:
        return self.directory / "state"


class Relay(Protocol):
    """All methods block. `start` returns when it listens, on the same `port` each time."""

    name: str
    port: int

    def version(self) -> str:
        """Name, version and what else a reader has to know."""
        ...

    def start(self) -> None: ...
    def stop(self) -> None: ...

    def killed(self) -> None:
        """Its processes are dead; forget them."""
        ...

    def queued(self) -> int:
        """What is still to be delivered, in messages or recipients; 0 is empty."""
        ...

    def aside(self) -> int:
        """What it keeps and will not deliver by itself."""
        ...

    def flush(self) -> None:
        """Try everything now."""
        ...

    def tell(self, ledger: Ledger, missing: Missing) -> None:
        """Say what it still has of the (tag, recipient) that came to no next hop."""
        ...

    def leave_disk(self) -> None:
        """Close what the adapter itself has open on the relay's disk."""
        ...

    def told(self) -> str:
        """The end of its log."""
        ...

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        ...


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, patience: float = 30.0) -> bool:
    """Whether somebody greets there within `patience` seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as wire:
                if wire.recv(512).startswith(b"220"):
                    return True
        except OSError:
            time.sleep(0.02)
    return False


def names(directory: Path) -> list[str]:
    """Names of all files below a directory in which things come and go."""
    return [name for _, _, found in os.walk(directory) for name in found]


def queued_in(directory: Path, missing: Missing) -> list[tuple[str, str, str]]:
    """For `Ledger.kept`: those of `missing` whose message is in a file below the queue of a relay."""
    found: set[str] = set()
    for place, _, inside in os.walk(directory):
        for name in inside:
            with contextlib.suppress(OSError):
                found |= {tag.decode() for tag in _TAG.findall((Path(place) / name).read_bytes())}
    return [(tag, who, "queued") for tag, who in missing if tag in found]


def tail(log: Path, octets: int = 3000) -> str:
    """The end of a file."""
    return log.read_text(errors="replace")[-octets:] if log.exists() else ""
