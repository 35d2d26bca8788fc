"""
One very large message: how long until it is through, and what it costs in memory.

The memory is what all processes had more at their highest than before, each by the kernel's own high-water mark, which
is set back first; a small message goes before, so that every process is there. Seconds are until the relay's queue is
empty, which is looked at 20 times a second or more.
"""

import os
import time

from bench.processes import forget_peaks, peaks
from bench.relays import Plan, running
from bench.row import Case, Figures, Row
from bench.tools import Sink, source

LARGE = int(os.environ.get("BENCH_LARGE", str(100 << 20)))
_WARM = 20
_MB = 1e6


def run(relay: str) -> Figures:
    """One message, judged by the ledger and by what arrived of it."""
    with Sink() as sink, running(relay, Plan({"old": sink.port}, size_limit=2 * LARGE)) as made:
        source(made.port, _WARM)
        sink.wait(_WARM)
        made.settle(30)
        arrived, root = sink.octets, made.root()
        before = forget_peaks(root)
        began = time.monotonic()
        accepted = source(made.port, 1, length=LARGE)
        made.settle(120)
        took, after = time.monotonic() - began, peaks(root)
        sink.judge(_WARM + 1)
        assert sink.octets - arrived > 0.95 * LARGE, "it did not arrive whole"  # line ends are written down shorter
    more = sum(octets - before.get(pid, 0) for pid, octets in after.items())
    return {"seconds": took, "accepted": accepted, "memory": more / _MB}


ROW = Row(
    "large",
    "One large message",
    f"One message of {LARGE / (1 << 20):,.0f} MiB, smtp-source → relay → smtp-sink.",
    {
        "seconds": "until it is through, s",
        "accepted": "of it until it was accepted, s",
        "memory": "more memory of all processes at the most, MB",
    },
    [Case(f"{LARGE / (1 << 20):,.0f} MiB", run)],
)
