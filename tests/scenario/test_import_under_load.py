"""
A large `sluice user import` while mail flows and mailboxes are held: nobody notices but those who are imported.

Asserted: the reply to RCPT and the barrier of a hold stay quick, no moment shows half of the file, no mail is lost or
doubled, and the same file again changes nothing. SLUICE_IMPORT_ROWS sets the size (100,000 by hand); with `pytest -s`
the measured times are shown.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.site import Site, StoreAt

from router.ledger.book import Ledger
from router.ledger.load import Load
from router.ledger.stores import StoreProcess
from router.ledger.traffic import Plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ROWS = int(os.environ.get("SLUICE_IMPORT_ROWS", "6000"))
PEOPLE = [f"person{number}@example.edu" for number in range(30)]
RCPT_P95, HOLD_MEDIAN = 1.0, 3.0
"""Seconds; more on a machine that is slow without an import, too."""
SCATTER = 4
"""Times as long as before it may take meanwhile on such a machine."""


@dataclass
class Measured:
    """Seconds of each RCPT and hold, and the replies of pairs of RCPTs for both halves of the file from `first` on."""

    rcpt: list[float] = field(default_factory=list)
    hold: list[float] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    first: int = 0

    def __str__(self) -> str:
        rcpt, hold = sorted(self.rcpt), sorted(self.hold)
        return (
            f"RCPT {len(rcpt)}: p50 {statistics.median(rcpt) * 1e3:.1f} p95 {at(rcpt, 0.95) * 1e3:.1f}"
            f" max {rcpt[-1] * 1e3:.1f} ms; hold {len(hold)}: p50 {statistics.median(hold) * 1e3:.0f}"
            f" max {hold[-1] * 1e3:.0f} ms"
        )


def halves(number: int) -> tuple[str, str]:
    """
    Two addresses from both ends of the file, in either order, and other ones for each `number`.

    Who is unknown is remembered until the worker hears of the import: asked again, one half may be news and the other
    remembered from the moment before, which says nothing about the file.
    """
    early, late = f"a{number:05d}@example.edu", f"a{ROWS - 1 - number:05d}.alias@example.edu"
    return (early, late) if number % 2 else (late, early)


def at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def ask(port: int, measured: Measured, stop: asyncio.Event) -> None:
    """One client after the other: RCPTs for people, and for two addresses of the file."""
    turn = 0
    while not stop.is_set():
        turn += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def say(line: str, reader: Any = reader, writer: Any = writer) -> int:
            writer.write(f"{line}\r\n".encode())
            while (reply := await reader.readline())[3:4] == b"-":
                pass
            return int(reply[:3])

        async def rcpt(address: str, say: Any = say) -> int:
            began = time.monotonic()
            code: int = await say(f"RCPT TO:<{address}>")
            measured.rcpt.append(time.monotonic() - began)
            return code

        await reader.readline()
        await say("EHLO asker.example.net")
        for number in range(4):
            await say("MAIL FROM:<a@outside.example>")
            assert await rcpt(PEOPLE[(turn + number) % len(PEOPLE)]) == 250
            one, other = halves(measured.first + len(measured.pairs))
            measured.pairs.append((await rcpt(one), await rcpt(other)))
            await say("RSET")
            await asyncio.sleep(0.02)
        await say("QUIT")
        writer.close()


async def operate(site: Site, measured: Measured, stop: asyncio.Event) -> None:
    turn = 0
    while not stop.is_set():
        turn += 1
        began = time.monotonic()
        held = await site.hold(PEOPLE[turn % len(PEOPLE)])
        measured.hold.append(time.monotonic() - began)
        assert held.quiet
        assert (await site.release(held.key)).applied
        await asyncio.sleep(0.1)


async def run_import(site: Site, path: Path) -> dict[str, Any]:
    """The real command, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "router", "--config", str(site.config), "--json", "user", "import", str(path),
        stdout=asyncio.subprocess.PIPE, env=os.environ | {"SLUICE_ALLOW_ROOT": "yes"},
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out
    answer: dict[str, Any] = json.loads(out)
    return answer


@pytest.mark.timeout(600)
async def test_large_import_under_load(tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    rows = (f"a{number:05d}@example.edu,new,a{number:05d}.alias@example.edu\n" for number in range(ROWS))
    path.write_text("address,home,aliases\n" + "".join(rows))
    stores = [StoreProcess(name, tmp_path / f"{name}.jsonl") for name in ("old", "new")]
    try:
        places = [StoreAt(store.name, store.start(), role=store.name) for store in stores]
        async with Site(tmp_path, places, users=dict.fromkeys(PEOPLE, "old")) as site:
            await scenario(site, path, stores)
    finally:
        for store in stores:
            store.stop()


async def scenario(site: Site, path: Path, stores: Sequence[StoreProcess]) -> None:
    load = Load("127.0.0.1", site.port, Plan(["sender@outside.example"], PEOPLE, rate=30, connections=3))
    calm, busy, stop = Measured(), Measured(first=ROWS // 4), asyncio.Event()
    flowing = asyncio.create_task(load.run())
    for measured, seconds in ((calm, 2.0), (busy, 0.0)):
        stop.clear()
        tasks = [
            asyncio.create_task(ask(site.port, measured, stop)),
            asyncio.create_task(operate(site, measured, stop)),
        ]
        began = time.monotonic()
        await asyncio.sleep(seconds)
        answer = {} if measured is calm else await run_import(site, path)
        taken = time.monotonic() - began
        stop.set()
        await asyncio.gather(*tasks)
    again = await run_import(site, path)
    load.stop()
    await flowing
    print(f"\n{ROWS} rows in {taken:.1f} s\nbefore: {calm}\nmeanwhile: {busy}")  # noqa: T201 - the measured numbers

    assert (answer["created"], answer["changed"], answer["unchanged"]) == (ROWS, 0, 0)
    assert (again["created"], again["changed"], again["unchanged"], again["epoch"]) == (0, 0, ROWS, None)
    assert at(sorted(busy.rcpt), 0.95) < max(RCPT_P95, SCATTER * at(sorted(calm.rcpt), 0.95))
    assert statistics.median(busy.hold) < max(HOLD_MEDIAN, SCATTER * statistics.median(calm.hold))
    # Whoever saw one half of the file a moment before sees the other half, too.
    assert set(busy.pairs) <= {(550, 550), (550, 250), (250, 250)}
    assert max(len(calm.pairs), len(busy.pairs)) < ROWS // 4, "nobody was asked about twice"
    assert set(calm.pairs) == {(550, 550)}

    assert await site.drained() == 0
    ledger = Ledger(allowed=lambda _recipient, _at: {"old"})
    ledger.submitted(load.submissions)
    for store in stores:
        ledger.arrived(store.arrivals())
    site.tell(ledger)
    verdict = ledger.check()
    assert verdict.ok, verdict.report()
    assert verdict.balance.delivered > 0
    site.balance()
