"""
Messages one at a time, with the moment of every step: a plain client on a raw socket, and a store that stamps arrivals.

    with stamping_store("old") as store:
        handed = hand_in(port, "tag-1", "p0@example.edu")
        arrival(store, "tag-1").at - handed.written        # seconds in CLOCK_MONOTONIC

The store is a process of its own (`StoreProcess`), so that neither waits for the other's interpreter. On failure: an
assertion with the reply that was not the one hoped for, or with the tag that never arrived.
"""

import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.tools import SENDER
from router.demo.config import LOOPBACK
from router.ledger.arrival import Arrival
from router.ledger.load import stuffed
from router.ledger.stores import StoreProcess
from router.ledger.traffic import compose

_PERIOD = 0.002
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Handed:
    """Times of one message, in seconds of CLOCK_MONOTONIC."""

    began: float
    """Before the connection."""
    written: float
    """When the last octet of the final dot was written."""
    answered: float
    """When the 250 to the dot came."""


@contextmanager
def stamping_store(name: str) -> Iterator[StoreProcess]:
    """A store of this name, listening."""
    directory = Path(tempfile.mkdtemp(prefix="sluice-bench-store-", dir="/dev/shm"))
    store = StoreProcess(name, directory / "records")
    try:
        store.start()
        yield store
    finally:
        store.stop()
        shutil.rmtree(directory, ignore_errors=True)


def hand_in(port: int, tag: str, to: str, length: int = 5120) -> Handed:
    """One message on a connection of its own, each command after the reply to the one before."""
    content = stuffed(compose(tag, SENDER, [to], length))
    began = time.monotonic()
    with socket.create_connection((LOOPBACK, port), _PATIENCE) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _expect(peer, b"220")
        for command in ("EHLO load.example.net", f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{to}>"):
            _say(peer, command, b"250")
        _say(peer, "DATA", b"354")
        peer.sendall(content)
        written = time.monotonic()
        _expect(peer, b"250")
        answered = time.monotonic()
        _say(peer, "QUIT", b"221")
    return Handed(began, written, answered)


def arrival(store: StoreProcess, tag: str) -> Arrival:
    """What the store says of this message; waits for it."""
    return arrivals(store, [tag])[tag]


def arrivals(store: StoreProcess, tags: Sequence[str]) -> dict[str, Arrival]:
    """What the store says of these messages, each of which must come exactly once; waits for them."""
    end = time.monotonic() + _PATIENCE
    while missing := set(tags) - {one.tag for one in store.arrivals()}:
        assert time.monotonic() < end, f"{len(missing)} messages did not arrive at {store.name}: {sorted(missing)[:5]}"
        time.sleep(_PERIOD)
    wanted = set(tags)
    found = [one for one in store.arrivals() if one.tag in wanted]
    assert len(found) == len(wanted), f"{len(found) - len(wanted)} messages were doubled: the run does not count"
    return {one.tag: one for one in found}


def _say(peer: socket.socket, command: str, hoped: bytes) -> None:
    peer.sendall(f"{command}\r\n".encode())
    _expect(peer, hoped)


def _expect(peer: socket.socket, hoped: bytes) -> None:
    said = b""
    while not said.endswith(b"\r\n") or said.splitlines()[-1][3:4] == b"-":
        block = peer.recv(4096)
        assert block, f"the relay went away after {said!r}"
        said += block
    assert said.startswith(hoped), said
