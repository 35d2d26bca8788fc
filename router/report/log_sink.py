"""
A thread that writes log records, so that no log sink can stop mail.

Guarantees: `put` never blocks and never fails; at most `limit` records wait, more are counted and dropped, and the
count is written as a line of its own when the sink takes lines again. Lines of one process stay in order.
On failure: a sink that stalls keeps the thread waiting and nobody else; a sink that raises (disk full, closed pipe)
costs the lines of that batch, and a record that cannot be formatted costs itself; both are counted. `close` waits a
limited time.
"""

import threading
import time
from queue import SimpleQueue
from typing import Protocol

from router.report.log_format import Format
from router.report.log_record import Dropped, Record

_BATCH = 256
_PAUSE = 0.02
"""Seconds between two batches: fifty wake-ups a second at most, instead of one a line."""


class Sink(Protocol):
    """Where lines go: a buffered binary stream such as `sys.stderr.buffer`."""

    def write(self, data: bytes, /) -> object: ...
    def flush(self) -> object: ...


class SinkThread:
    """Owns the sink from `start` to `close`."""

    def __init__(self, sink: Sink, form: Format, limit: int = 10_000) -> None:
        self._sink = sink
        self._form = form
        self._limit = limit
        self._waiting: SimpleQueue[Record | None] = SimpleQueue()
        self._stop = threading.Event()
        self._dropped = 0
        self._told = 0
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name="delivery-log", daemon=True)

    @property
    def dropped(self) -> int:
        """Records that were never written so far: the queue was full, or the sink failed."""
        return self._dropped + self._lost

    def start(self) -> None:
        self._thread.start()

    def put(self, record: Record) -> None:
        """Hand over a record. Called by one thread only (the event loop's): the count needs no lock."""
        if self._waiting.qsize() >= self._limit:
            self._dropped += 1
        else:
            self._waiting.put(record)

    def close(self, timeout: float = 2.0) -> None:
        """Write what waits, for at most `timeout` seconds; a sink that is stalled keeps the rest. Idempotent."""
        self._stop.set()
        self._waiting.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            batch = self._next_batch()
            if batch:
                self._write(batch)
            pause = _PAUSE if len(batch) < _BATCH else 0.0
            if self._stop.wait(pause) and self._waiting.empty():
                self._report_losses()
                return

    def _next_batch(self) -> list[Record]:
        """Wait for one record, then take what else is there."""
        first = self._waiting.get()
        batch = [] if first is None else [first]
        there = min(self._waiting.qsize(), _BATCH - 1)  # nobody else takes any
        batch += [record for _ in range(there) if (record := self._waiting.get_nowait()) is not None]
        return batch

    def _write(self, batch: list[Record]) -> None:
        self._report_losses()
        if not self._emit(b"".join(map(self._render, batch))):
            self._lost += len(batch)

    def _render(self, record: Record) -> bytes:
        try:
            return self._form(record)
        except Exception:  # noqa: BLE001 - a mistake in one line must not end the log of all the others
            self._lost += 1
            return b""

    def _report_losses(self) -> None:
        lost = self.dropped
        if lost > self._told and self._emit(self._form(Dropped(time.time(), lost - self._told))):
            self._told = lost

    def _emit(self, data: bytes) -> bool:
        try:
            self._sink.write(data)
            self._sink.flush()
        except (OSError, ValueError):  # ValueError: the stream was closed under us
            return False
        return True
