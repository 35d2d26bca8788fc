"""
The whole relay with its people in a real slapd of 20,000, beside the same relay with the same people imported.

1. Messages per second, end to end, smtp-source → Sluice → smtp-sink: to one person (everything cached), to another
   person in each message (known in the mirror, by no worker), and to people who are in no mirror yet (each one asked
   of slapd, gathered, and written down).
2. Flips: from the end of `ldapmodify`, and of `sluice release --to`, to the moment at which the first message that was
   sent afterwards arrives at the new store; `follow` as it is by default (2 s).

`./dev bench tests/bench/bench_directory_relay.py`. slapd, client, relay and store share the machine; compare ratios.
"""

import asyncio
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bench.bench_throughput import MESSAGES, _free_port, _tool, sink
from support.directory_site import directory_site, followed, submit
from support.people_ldif import NEW_HOST, OLD_HOST, replace, sun_dn, sun_domain, sun_people, sun_person
from support.site import Site, StoreAt
from support.slapd import Slapd

from router.ledger.stores import RecordingStore

PEOPLE = 20_000
WORKERS = 2
FLIPS = int(os.environ.get("BENCH_FLIPS", "100"))
UNSWEPT = "1h"


def numbered(count: int) -> Iterator[str]:
    """The names that smtp-source makes up with -N."""
    return (f"{number}p0" for number in range(count))


def source(port: int, *, many: bool) -> float:
    """Seconds to hand over all messages on kept connections, to one person or to one each."""
    command = [
        _tool("smtp-source"), "-d", *(["-N"] if many else []), "-l", "5120", "-m", str(MESSAGES), "-s", "20",
        "-f", "bench@outside.example", "-t", "p0@example.edu", f"127.0.0.1:{port}",
    ]  # fmt: skip
    began = time.monotonic()
    subprocess.run(command, check=True)
    return time.monotonic() - began


@contextmanager
def new_directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def run(site: Site, *, many: bool) -> tuple[float, float]:
    """Messages per second accepted, and end to end."""
    began = time.monotonic()
    accepted = source(site.port, many=many)
    with site.books() as books:
        left = books.drain(120.0)
    assert not left, f"{left} recipients are left: the run does not count"
    site.balance()
    return MESSAGES / accepted, MESSAGES / (time.monotonic() - began)


def wait(site: Site) -> None:
    """Until the directory is followed, and every worker knows it."""
    for _ in range(1200):
        if followed(site):
            time.sleep(1)
            return
        time.sleep(0.1)
    raise AssertionError("the directory is not followed")


def test_throughput() -> None:
    names = ["p0", *numbered(MESSAGES + 2)]
    fill = [*sun_people(PEOPLE - len(names)), sun_domain("example.edu")]
    print(f"\n| people | {WORKERS} workers, kept connections | accepted msg/s | end to end msg/s |\n|---|---|---|---|")
    port = _free_port()
    for many in (False, True):
        users = {f"{name}@example.edu": "old" for name in names}
        users |= {f"user{number}@example.edu": "old" for number in range(PEOPLE - len(names))}
        stores = [StoreAt("old", port)]
        with new_directory() as directory, sink(port), Site(directory, stores, users=users, workers=WORKERS) as site:
            tell("imported", "one person" if not many else "each another person", run(site, many=many))
    for many in (False, True):
        with Slapd([*fill, *(sun_person(name) for name in names)]) as server, new_directory() as directory, sink(port):
            stores = [StoreAt("old", port), StoreAt("new", port, role="new")]
            with directory_site(directory, stores, server, workers=WORKERS, ldap={"follow": "2s"}) as site:
                wait(site)
                tell("LDAP, mirrored", "one person" if not many else "each another person", run(site, many=many))
    with Slapd([*fill, sun_person("p0")]) as server, new_directory() as directory, sink(port):
        stores = [StoreAt("old", port), StoreAt("new", port, role="new")]
        ldap = {"follow": UNSWEPT, "sweep": UNSWEPT, "stale_delivery": UNSWEPT, "stale": "4h", "deadline": "10s"}
        with directory_site(directory, stores, server, workers=WORKERS, ldap=ldap) as site:
            wait(site)
            server.modify("\n".join(sun_person(name) for name in names[1:]))
            tell("LDAP, in no mirror yet", "each another person", run(site, many=True))


def tell(people: str, what: str, rates: tuple[float, float]) -> None:
    print(f"| {people} | {what} | {rates[0]:,.0f} | {rates[1]:,.0f} |", flush=True)


@pytest.mark.parametrize("by", ["ldapmodify", "release"])
async def test_flips(by: str) -> None:
    old, new = RecordingStore("old"), RecordingStore("new")
    await old.start()
    await new.start()
    people = [f"f{number}" for number in range(FLIPS)]
    homes = [StoreAt("old", old.port), StoreAt("new", new.port, role="new")]
    with new_directory() as directory, Slapd([sun_domain("example.edu"), *map(sun_person, people)]) as server:
        site = directory_site(directory, homes, server, workers=WORKERS, ldap={"follow": "2s"})
        async with site:
            await asyncio.to_thread(wait, site)
            took = [await flip(site, server, name, by, new) for name in people]
    await old.stop()
    await new.stop()
    print(
        f"\nflips by {by}: {len(took)}, median {statistics.median(took) * 1000:.0f} ms, "
        f"longest {max(took) * 1000:.0f} ms"
    )


async def flip(site: Site, server: Slapd, name: str, by: str, new: RecordingStore) -> float:
    """Seconds from the flip to the arrival of the first message that was sent after it and took the new route."""
    address = f"{name}@example.edu"
    await asyncio.to_thread(submit, site, address, tag=f"{name}-before")  # it is cached with its old home
    await asyncio.sleep(random.uniform(0, 2))  # one flip after the other would always come just after a poll
    if by == "ldapmodify":
        await asyncio.to_thread(server.modify, replace(sun_dn(name), mailHost=NEW_HOST))
        began = time.monotonic()
    else:
        assert (await site.hold(address)).quiet
        began = time.monotonic()
        assert (await site.release(address, to="new")).home == "new"
    for number in range(10_000):
        await asyncio.to_thread(submit, site, address, tag=f"{name}-{number}")
        await asyncio.sleep(0.01)
        if any(one.tag.startswith(f"{name}-") and one.tag != f"{name}-before" for one in new.arrivals):
            return time.monotonic() - began
    raise AssertionError(f"{name} was never flipped from {OLD_HOST} to {NEW_HOST}")
