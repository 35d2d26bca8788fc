"""
Messages per second through the whole relay: smtp-source → Sluice → smtp-sink, everything on, real fsync.

Prints a table for one and two workers, with a connection per message and on kept connections, for scale what
smtp-source into smtp-sink does without a relay, and what Postfix does in between, which looks nobody up and keeps no
journal (`postfix_peer`; left out, with the reason, where it cannot be started). 5 KB messages, 20 connections. Numbers
of one machine at one time; compare ratios only.
"""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.postfix_peer import postfix, why_not
from support.site import Site, StoreAt

MESSAGES = int(os.environ.get("BENCH_MESSAGES", "5000"))
PEOPLE = 20
LANES = 20
"""Connections to the store, ours by default."""


@contextlib.contextmanager
def sink(port: int) -> Iterator[None]:
    """Postfix's smtp-sink on a port."""
    user = ["-u", pwd.getpwnam("nobody").pw_name] if os.geteuid() == 0 else []
    command = [_tool("smtp-sink"), *user, f"127.0.0.1:{port}", "1000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    try:
        _wait_for(port)
        yield
    finally:
        process.terminate()
        process.wait()


def source(port: int, *, kept: bool) -> float:
    """Seconds that smtp-source needs to hand over all messages."""
    options = ["-d"] if kept else []
    command = [
        _tool("smtp-source"), *options, "-l", "5120", "-m", str(MESSAGES), "-s", "20",
        "-f", "bench@outside.example", "-t", "p0@example.edu", f"127.0.0.1:{port}",
    ]  # fmt: skip
    began = time.monotonic()
    subprocess.run(command, check=True)
    return time.monotonic() - began


def through_relay(workers: int, *, kept: bool) -> tuple[float, float]:
    """Messages per second accepted, and from the first one in to the last one delivered."""
    directory = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
    port = _free_port()
    users = {f"p{number}@example.edu": "old" for number in range(PEOPLE)}
    try:
        with sink(port), Site(directory, [StoreAt("old", port)], users=users, workers=workers) as site:
            began = time.monotonic()
            accepted = source(site.port, kept=kept)
            with site.books() as books:
                left = books.drain(120.0)
            if left:
                raise AssertionError(f"{left} recipients are left: the run does not count")
            site.balance()
            return MESSAGES / accepted, MESSAGES / (time.monotonic() - began)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def through_postfix(*, kept: bool) -> tuple[float, float]:
    """As `through_relay`."""
    directory = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
    directory.chmod(0o755)  # Postfix's daemons are not root
    port, hop = _free_port(), _free_port()
    try:
        with sink(hop), postfix(directory, port, hop, LANES) as peer:
            _wait_for(port)
            began = time.monotonic()
            accepted = source(port, kept=kept)
            peer.drain(120.0)
            return MESSAGES / accepted, MESSAGES / (time.monotonic() - began)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def test_throughput() -> None:
    """Run and print; a run that leaves mail behind fails."""
    port = _free_port()
    print("| relay | connections | accepted msg/s | end to end msg/s |\n|---|---|---|---|")
    with sink(port):
        for kept in (False, True):
            print(f"| none (smtp-sink) | {_name(kept=kept)} | {MESSAGES / source(port, kept=kept):,.0f} | |")
    _postfix_rows()
    for workers in (1, 2):
        for kept in (False, True):
            accepted, delivered = through_relay(workers, kept=kept)
            print(f"| {workers} worker(s) | {_name(kept=kept)} | {accepted:,.0f} | {delivered:,.0f} |", flush=True)


def _postfix_rows() -> None:
    if reason := why_not():
        print(f"| Postfix | not measured: {reason} | | |")
        return
    for kept in (False, True):
        accepted, delivered = through_postfix(kept=kept)
        print(f"| Postfix | {_name(kept=kept)} | {accepted:,.0f} | {delivered:,.0f} |", flush=True)


def _name(*, kept: bool) -> str:
    return "kept" if kept else "one per message"


def _tool(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise AssertionError(f"{name} is missing: install Debian's package postfix")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.02)
    raise AssertionError("smtp-sink does not listen")
