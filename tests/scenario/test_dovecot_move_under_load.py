"""
The move under load: two Dovecots and a list host, traffic to moved, unmoved and list addresses in the same messages,
while mailboxes are held, copied, released to the new store, and some of them moved back.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.bursts import acknowledged
from support.dovecot import Dovecot
from support.site import Site, StoreAt

from router.control.operations import HoldResult
from router.ledger.book import Ledger
from router.ledger.load import Load
from router.ledger.stores import RecordingStore
from router.ledger.traffic import Plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

MOVED = [f"moved{number:02d}@example.edu" for number in range(20)]
BACK = MOVED[:6]
STAY_OLD = [f"old{number}@example.edu" for number in range(4)]
STAY_NEW = [f"new{number}@example.edu" for number in range(3)]
LISTS = ["announce@example.edu", "staff@example.edu"]
SECONDS = 12.0
OPERATORS = 3
ENOUGH = 200


@dataclass(frozen=True, slots=True)
class Copied:
    """One copy: the files at the source when it was quiet and right before the release, and the tags at both ends."""

    address: str
    source: str
    at_quiet: list[str]
    at_release: list[str]
    tags_source: list[str]
    tags_target: list[str]


def tags(store: Dovecot, address: str) -> list[str]:
    return sorted(letter.arrival(store.name, address).tag for letter in store.letters(address))


class Movers:
    """Operators who move mailboxes, each at its moment."""

    def __init__(self, site: Site, stores: dict[str, Dovecot]) -> None:
        self._site = site
        self._stores = stores
        self._gate = asyncio.Semaphore(OPERATORS)
        self._lock = threading.Lock()
        self.copies: list[Copied] = []

    async def there_and_back(self, number: int, address: str) -> None:
        await asyncio.sleep(SECONDS * 0.5 * number / len(MOVED))
        await self._move(address, "old", "new", with_doveadm=number % 2 == 0)
        if address in BACK:
            await asyncio.sleep(SECONDS * 0.3)
            await self._move(address, "new", "old", with_doveadm=number % 2 == 0)

    async def _move(self, address: str, source: str, target: str, *, with_doveadm: bool) -> None:
        def copy(held: HoldResult) -> int:
            assert held.in_doubt == ()
            here, there = self._stores[source], self._stores[target]
            quiet = here.files(address)
            (here.copy if with_doveadm else here.copy_files)(address, there)
            threading.Event().wait(0.3)  # a mailbox of a real size takes its time
            done = Copied(address, source, quiet, here.files(address), tags(here, address), tags(there, address))
            with self._lock:
                self.copies.append(done)
            return 0

        async with self._gate:
            moved = await self._site.move(address, target, run=copy, timeout=120)
        assert moved.release is not None, f"{address} is not quiet: {moved.hold.waiting_for}"
        assert moved.release.applied


@pytest.fixture
def dovecots() -> Iterator[dict[str, Dovecot]]:
    with Dovecot("old") as old, Dovecot("new") as new:
        yield {"old": old, "new": new}


def make(directory: Path, dovecots: dict[str, Dovecot], lists: RecordingStore) -> Site:
    at = [StoreAt(name, store.lmtp_port, name, "lmtp") for name, store in dovecots.items()]
    return Site(
        directory,
        [*at, StoreAt("lists", lists.port, "other")],
        users=dict.fromkeys([*MOVED, *STAY_OLD], "old") | dict.fromkeys(STAY_NEW, "new"),
        lists=[{"store": "lists", "manager": "majordomo", "addresses": LISTS}],
        workers=2,
    )


async def test_each_message_is_once_in_the_right_mailbox(
    tmp_path: Path, dovecots: dict[str, Dovecot], stores: dict[str, RecordingStore]
) -> None:
    lists = stores["lists"]
    everybody = [*MOVED, *STAY_OLD, *STAY_NEW, *LISTS]
    plan = Plan(["a@outside.example", "b@outside.example"], everybody, (1, 2, 3, 6), rate=30, connections=4)
    site = make(tmp_path, dovecots, lists)
    async with site:
        load = Load("127.0.0.1", site.port, plan)
        running = asyncio.create_task(load.run())
        movers = Movers(site, dovecots)
        try:
            whole = asyncio.create_task(asyncio.sleep(SECONDS))
            await asyncio.gather(*(movers.there_and_back(*pair) for pair in enumerate(MOVED)))
            await whole
            end = time.monotonic() + 90
            while acknowledged(load.submissions) <= ENOUGH:
                assert time.monotonic() < end, "hardly any mail is taken"
                await asyncio.sleep(0.1)
        finally:
            load.stop()
            await running
        assert await site.drained(60) == 0
        site.balance()
        ledger = Ledger()
        site.tell(ledger)

    homes = dict.fromkeys([*MOVED, *STAY_NEW], "new") | dict.fromkeys([*STAY_OLD, *BACK], "old")
    ledger.submitted(load.submissions)
    ledger.arrived(lists.arrivals)
    for address, home in homes.items():
        ledger.arrived(letter.arrival(home, address) for letter in dovecots[home].letters(address))
    verdict = ledger.check()
    assert verdict.ok, verdict.report()
    assert verdict.balance.extra == verdict.untagged == verdict.unanswered == 0, verdict.report()
    assert verdict.balance.accepted == verdict.balance.delivered == len(ledger.fates)
    assert verdict.balance.accepted > ENOUGH
    check_copies(movers.copies, dovecots)
    check_others(dovecots)
    for address in (BACK[0], MOVED[-1]):
        mail = await asyncio.to_thread(dovecots[homes[address]].fetch, address)
        assert Counter(mail) == Counter(letter.content for letter in dovecots[homes[address]].letters(address))


def check_copies(copies: list[Copied], dovecots: dict[str, Dovecot]) -> None:
    """Nothing reached a store between barrier and release, and nothing reached the one that was left afterwards."""
    assert sorted((copy.address, copy.source) for copy in copies) == sorted(
        [(address, "old") for address in MOVED] + [(address, "new") for address in BACK]
    )
    for copy in copies:
        assert copy.at_quiet == copy.at_release, copy
        assert copy.tags_source == copy.tags_target, copy
        if copy.source == "new" or copy.address not in BACK:
            assert dovecots[copy.source].files(copy.address) == copy.at_release, copy


def check_others(dovecots: dict[str, Dovecot]) -> None:
    """Who was not moved has mail at home only."""
    assert [address for address in STAY_OLD if dovecots["new"].files(address)] == []
    assert [address for address in STAY_NEW if dovecots["old"].files(address)] == []
