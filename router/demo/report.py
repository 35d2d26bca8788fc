"""What the demo says at its end, for people. Pure: a verdict in, lines out."""

import time
from collections.abc import Iterator
from pathlib import Path

from router.demo.verdict import DemoVerdict

_SHOWN = 5
_VIOLATIONS = 40


def report(verdict: DemoVerdict, seconds: float) -> Iterator[str]:
    """The figures, then the verdict; what is wrong is named by the tag of its message."""
    yield ""
    yield f"running time     {seconds:.1f} s"
    yield (
        f"traffic          {verdict.messages} messages, {verdict.rate:.0f} messages/s; "
        f"{verdict.refused} recipients refused as unknown"
    )
    stores = ", ".join(f"{name} {count}" for name, count in verdict.at_stores.items())
    yield f"at the stores    {stores} messages; {verdict.journal_rows} deliveries in the journal"
    yield f"people           {verdict.moved} moved, {verdict.rolled_back} of them moved back"
    yield (
        f"barrier          median {verdict.barrier_median * 1000:.0f} ms, "
        f"longest {verdict.barrier_max * 1000:.0f} ms from the command to quiet"
    )
    yield from _dates(verdict)
    yield ""
    yield from verdict.ledger.report(_VIOLATIONS).splitlines()
    yield from (f"problem: {problem}" for problem in verdict.problems)
    yield from (f"alarm: {alarm}" for alarm in verdict.alarms)
    windows = "nothing reached a store between barrier and release"
    yield f"verdict: ok; {windows}" if verdict.ok else "verdict: NOT ok"


def _dates(verdict: DemoVerdict) -> Iterator[str]:
    """When they moved: the first and last few; `sluice user show` has every one of them."""
    listed = sorted(verdict.moved_at.items(), key=lambda pair: pair[1])
    if len(listed) > 2 * _SHOWN:
        listed = [*listed[:_SHOWN], ("", 0.0), *listed[-_SHOWN:]]
    for number, (mailbox, at) in enumerate(listed):
        label = "moved at" if number == 0 else ""
        clock = f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at * 1000) % 1000:03d}"
        text = f"{clock}  {mailbox} is at {verdict.homes[mailbox]}" if mailbox else "…"
        yield f"{label:<16} {text}"


def next_commands(config: Path, address: str) -> Iterator[str]:
    """What to try while the relay goes on running."""
    yield ""
    yield "the relay goes on running, its stores too; in another terminal:"
    for verb in (f"route {address}", "queue list", "status"):
        yield f"  sluice --config {config} {verb}"
    yield "Ctrl-C here ends it; its directory stays"
