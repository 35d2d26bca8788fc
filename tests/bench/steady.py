"""
A steady stream of messages to a relay, from a process of its own: `Load` with a rate.

    with Steady(port, rate=500, people=["p0@example.edu", …]) as stream:
        …
    stream.acknowledged, stream.rate                  # what the relay took, and what was reached

Guarantees: it ends with its owner, whose end it sees on its standard input. On failure: a refused message is an
assertion at the end of the block.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from bench.tools import SENDER
from router.demo.config import LOOPBACK
from router.ledger.load import Fate, Load
from router.ledger.traffic import Plan

CONNECTIONS = 20
_SIZE = 5120


class Steady:
    """The stream, while the block runs."""

    def __init__(self, port: int, rate: float, people: Sequence[str]) -> None:
        self._orders = json.dumps({"port": port, "rate": rate, "people": list(people)})
        self._process: subprocess.Popen[str] | None = None
        self._began = 0.0
        self.acknowledged = 0
        self.rate = 0.0
        """Messages a second that were taken."""

    def __enter__(self) -> Self:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.steady"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(self._orders + "\n")
        self._process.stdin.flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        said, _ = self._process.communicate(timeout=60)
        if error is None:
            told = json.loads(said)
            assert told["refused"] == 0, f"{told['refused']} messages of the stream were not taken"
            self.acknowledged, self.rate = told["acknowledged"], told["acknowledged"] / told["seconds"]


async def _stream() -> None:
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    orders = json.loads(await reader.readline())
    plan = Plan(
        [SENDER],
        orders["people"],
        recipients_per_message=(1,),
        sizes=(_SIZE,),
        rate=orders["rate"],
        connections=CONNECTIONS,
        messages_per_connection=1 << 30,
    )
    load = Load(LOOPBACK, orders["port"], plan)
    began = time.monotonic()
    running = asyncio.create_task(load.run())
    await reader.read()
    load.stop()
    said = await running
    taken = sum(one.fates == (Fate.ACKNOWLEDGED,) for one in said)
    seconds = time.monotonic() - began
    print(json.dumps({"acknowledged": taken, "refused": len(said) - taken, "seconds": seconds}))


if __name__ == "__main__":
    asyncio.run(_stream())
