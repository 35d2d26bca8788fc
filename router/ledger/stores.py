"""
Recording stores: SMTP or LMTP sinks on loopback that write down what arrives.

In the loop of a test (`RecordingStore`), or as a process of its own (`StoreProcess`, `python -m
router.ledger.stores`), which survives whatever happens to the relay and takes no time from its loop.

Guarantees: every message whose final dot came is recorded once, before its reply. Records of a process are one JSON
line each, written with a single append and without fsync: they survive a kill of the process, not a power cut.
On failure: a record file that cannot be written ends the process, so that no test passes on missing records.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from router.ledger.arrival import Arrival
from router.ledger.behaviour import Behaviour, Stage
from router.ledger.dialogue import Dialogue

_ATTEMPTS = 100_000
_START = 15.0
"""Seconds that a store process may take until it listens."""


class RecordingStore:
    """A store in the running loop. `behaviour` may be replaced at any time."""

    def __init__(
        self,
        name: str,
        *,
        lmtp: bool = False,
        keep_bodies: bool = False,
        behaviour: Behaviour | None = None,
        sink: Callable[[Arrival], None] | None = None,
    ) -> None:
        self.name = name
        self.lmtp = lmtp
        self.keep_bodies = keep_bodies
        self.behaviour = behaviour or Behaviour()
        self.arrivals: list[Arrival] = []
        self.attempts: deque[str] = deque(maxlen=_ATTEMPTS)
        """Recipients of RCPT in order, accepted or not; the latest hundred thousand."""
        self.port = 0
        self._sink = sink or self.arrivals.append
        self._seen: dict[tuple[str, str], int] = {}
        self._connections: set[Dialogue] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._count = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> int:
        """Listen on 127.0.0.1; the port, which a `Port` may be keeping. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Dialogue(self), "127.0.0.1", port, backlog=1024, reuse_port=True
        )
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self.port

    async def stop(self) -> None:
        """Close the port and cut every connection. Idempotent; `start` may follow, with the same port."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in tuple(self._connections):
            connection.abort()
        await server.wait_closed()
        await self._idle.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    async def arrived(self, count: int, timeout: float = 10.0) -> None:  # noqa: ASYNC109 - a test wants one line
        """Wait until at least `count` messages were recorded. Raises `TimeoutError`."""
        if self._count >= count:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((count, waiter))
        async with asyncio.timeout(timeout):
            await waiter

    # --- what connections ask for

    def record(self, arrival: Arrival) -> None:
        self._sink(arrival)
        self._count += 1
        for count, waiter in self._waiters:
            if self._count >= count and not waiter.done():
                waiter.set_result(None)
        if self._waiters:
            self._waiters = [entry for entry in self._waiters if not entry[1].done()]

    def attempt(self, recipient: str) -> None:
        self.attempts.append(recipient)

    def take_drop(self, stage: Stage) -> bool:
        """Whether this message is one of those to be dropped at DATA or at the dot; counts it off."""
        now = self.behaviour
        left = now.drop_after_dot if stage is Stage.DOT else now.drop_before_dot
        if left > 0 and stage is Stage.DOT:
            self.behaviour = replace(now, drop_after_dot=left - 1)
        elif left > 0:
            self.behaviour = replace(now, drop_before_dot=left - 1)
        return left != 0

    def transient(self, sender: str, recipient: str) -> bool:
        """Whether this pair was refused fewer times than `transient_first` says; counts it."""
        if not self.behaviour.transient_first:
            return False
        key = (sender, recipient)
        self._seen[key] = self._seen.get(key, 0) + 1
        return self._seen[key] <= self.behaviour.transient_first

    def opened(self, connection: Dialogue) -> None:
        self._connections.add(connection)
        self._idle.clear()

    def closed(self, connection: Dialogue) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._idle.set()


class StoreProcess:
    """A recording store in a process of its own. It ends when its owner closes it, or dies."""

    def __init__(self, name: str, records: Path, *, lmtp: bool = False, keep_bodies: bool = False) -> None:
        self.name = name
        self.records = records
        self.port = 0
        self._arguments = ["--name", name, "--records", str(records)]
        self._arguments += ["--lmtp"] * lmtp + ["--bodies"] * keep_bodies
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 when it is not running."""
        return self._process.pid if self._process else 0

    def start(self, port: int = 0, behaviour: Behaviour | None = None) -> int:
        """Start it and wait until it listens; the port. Blocks. Raises `RuntimeError` when it does not come up."""
        command = [sys.executable, "-m", "router.ledger.stores", *self._arguments, "--port", str(port)]
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError(f"the store {self.name} did not start")
        self.port = int(json.loads(line)["port"])
        if behaviour is not None:
            self.behave(behaviour)
        return self.port

    def behave(self, behaviour: Behaviour) -> None:
        """Change its behaviour, and wait until that is in force. Blocks. Raises `RuntimeError` when it is gone."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise RuntimeError(f"the store {self.name} is not running")
        process.stdin.write(behaviour.to_json() + "\n")
        process.stdin.flush()
        if not process.stdout.readline():
            raise RuntimeError(f"the store {self.name} has ended")

    def stop(self) -> None:
        """End it. Idempotent; the records stay. Blocks for a moment."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin:
            process.stdin.close()
        try:
            process.wait(_START)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()

    def arrivals(self) -> list[Arrival]:
        """What has arrived so far."""
        return read_arrivals(self.records)


def read_arrivals(records: Path) -> list[Arrival]:
    """The records of a store process; a last line without its end is one being written and is left out."""
    if not records.exists():
        return []
    whole, _, _ = records.read_text().rpartition("\n")
    return [Arrival.from_json(line) for line in whole.splitlines()]


class _Appender:
    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def __call__(self, arrival: Arrival) -> None:
        line = f"{arrival.to_json()}\n".encode()
        try:
            complete = os.write(self._file, line) == len(line)
        except OSError:
            complete = False
        if not complete:
            os._exit(74)


async def _serve(arguments: argparse.Namespace) -> None:
    store = RecordingStore(
        arguments.name, lmtp=arguments.lmtp, keep_bodies=arguments.bodies, sink=_Appender(arguments.records)
    )
    port = await store.start(arguments.port)
    print(json.dumps({"port": port}), flush=True)  # noqa: T201 - the protocol with the owner
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        store.behaviour = Behaviour.from_json(line.decode())
        print("{}", flush=True)  # noqa: T201 - as above
    await store.stop()


def main() -> None:
    """Run one store until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m router.ledger.stores", description="A recording store.")
    parser.add_argument("--name", required=True)
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--lmtp", action="store_true")
    parser.add_argument("--bodies", action="store_true")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
