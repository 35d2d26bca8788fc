"""Forwards with the product's own classifier and spool: aliases, extensions, catch-alls, groups and a restart."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.memory import StagedSender, SteppedClock, World
from support.plane import Plane

from router.classify.classifier import CachingClassifier
from router.classify.domains import DomainTable
from router.classify.lists import ListTable
from router.classify.rules import AddressRules
from router.classify.services import ServiceTable
from router.errors import BadRouteData
from router.model.address import parse_address
from router.model.change import Change, ChangeKind, ChangeSet
from router.model.mailbox import LIST, Found, Hold, Mailbox
from router.settings.schema import Domain
from router.spool.numbering import MAX_RECIPIENTS
from router.spool.options import SpoolOptions
from router.spool.spool import Spool

MX = "mx:outside.example"
ALICE = Mailbox("alice@example.edu", "old", forwards=("Staff@example.edu", "a+b@outside.example"), keeps=True)
STAFF = Mailbox("staff@example.edu", "lists", kind=LIST)
ANY = Mailbox("any@example.edu", "", forwards=("@outside.example",), keeps=False)
AWAY = Mailbox("away@elsewhere.example", "new", forwards=("alice@msd.example.edu",), keeps=False)
PEOPLE = {
    "alice@example.edu": ALICE,
    "al@example.edu": ALICE,
    "staff@example.edu": STAFF,
    "@example.edu": ANY,
    "away@example.edu": AWAY,
}
OPTIONS = SpoolOptions(minimum_free=0, minimum_inodes=0, reserve=0)


class Directory:
    def __init__(self) -> None:
        self.people = dict(PEOPLE)
        self.disputed: dict[str, str] = {}
        self.epoch = 1

    async def find(self, keys: Sequence[str]) -> Found:
        await asyncio.sleep(0)
        known = {key: self.people[key] for key in keys if key in self.people}
        return Found(self.epoch, known, {key: why for key, why in self.disputed.items() if key in known})

    async def populated(self, domain: str) -> bool:
        return True


class Whole:
    """A plane over a real spool, with the real classifier in front of a directory."""

    def __init__(self, directory: Directory, spool: Spool, arrivals: list[Any]) -> None:
        domains = DomainTable({"example.edu": Domain(), "msd.example.edu": Domain(alias_of="example.edu")})
        postmaster = parse_address("root@example.edu")
        rules = AddressRules(domains, ListTable(), ServiceTable({}), postmaster, catch_all=True)
        world, clock = World(), SteppedClock()
        self.directory, self.spool = directory, spool
        self.plane = Plane(world, clock=clock, spool=spool)
        self.plane.arrivals = arrivals
        for name in ("old", "new", "lists", MX):
            self.plane.senders[name] = StagedSender(name, world, arrivals)
        self.classifier = CachingClassifier(rules, (directory,), clock)
        self.plane.classifier = self.classifier  # type: ignore[assignment]
        self.plane._build(4)

    def hold(self, key: str, hold: Hold | None) -> None:
        self.directory.epoch += 1
        for address, mailbox in self.directory.people.items():
            if mailbox.key == key:
                self.directory.people[address] = replace(mailbox, hold=hold)
        changes = (Change(self.directory.epoch, ChangeKind.MAILBOX, key),)
        self.plane.following.apply(ChangeSet(self.directory.epoch, changes, {key: hold}))

    async def empty(self) -> None:
        for _ in range(12_000):
            counts = (await self.spool.desk.counts()).mail
            assert counts.balanced
            if not counts.queued + counts.held:
                return
            await asyncio.sleep(0.005)
        raise AssertionError("something is left")


def taken(arrivals: list[Any]) -> Counter[tuple[str, str]]:
    return Counter((one.lane, one.wire) for one in arrivals)


async def test_aliases_groups_and_catch_alls_are_forwarded(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path / "0001", 1, create=True, options=OPTIONS)
    arrivals: list[Any] = []
    whole = Whole(Directory(), spool, arrivals)
    async with whole.plane:
        assert await whole.plane.send("AL+x@msd.example.edu", "No.Body@example.edu") == []
        await whole.empty()
        assert taken(arrivals) == {
            ("old", "AL+x@msd.example.edu"): 1,
            ("lists", "Staff@example.edu"): 1,
            (MX, "a+b@outside.example"): 1,
            (MX, "No.Body@outside.example"): 1,
        }
        arrivals.clear()
        assert await whole.plane.send("away@example.edu") == []
        await whole.empty()
        assert sum(taken(arrivals).values()) == 3
        counts = (await spool.desk.counts()).mail
        assert (counts.accepted, counts.opened, counts.forwarded, counts.delivered) == (3, 8, 4, 7)
    await whole.classifier.close()
    await spool.close()


async def test_hold_on_the_way_outlives_a_restart(tmp_path: Path) -> None:
    directory, arrivals = Directory(), list[Any]()
    spool = await Spool.open(tmp_path / "0001", 1, create=True, options=OPTIONS)
    whole = Whole(directory, spool, arrivals)
    async with whole.plane:
        whole.plane.lanes.pause(frozenset({"old", "lists", MX}))
        await whole.plane.send("away@example.edu")
        for _ in range(12_000):
            await asyncio.sleep(0.005)
            if (await spool.desk.counts()).mail.queued == 3 and not len(whole.plane.claims):
                break
    await whole.classifier.close()
    await spool.close()
    spool = await Spool.open(tmp_path / "0001", 1, options=OPTIONS)
    whole = Whole(directory, spool, arrivals)
    async with whole.plane:
        hold = Hold(1, 0.0, 2)
        whole.hold(AWAY.key, hold)
        for _ in range(12_000):
            await asyncio.sleep(0.005)
            if (await spool.desk.counts()).mail.held == 3:
                break
        assert await spool.held_mailboxes() == [AWAY.key]
        assert arrivals == []
        whole.hold(AWAY.key, None)
        await whole.empty()
        assert sorted(taken(arrivals).values()) == [1, 1, 1]
    await whole.classifier.close()
    await spool.close()


async def test_target_in_dispute_stops_nobody_else(tmp_path: Path) -> None:
    """Somebody else's entry makes no sense: the copy and the other targets need not wait for it at the senders."""
    directory, arrivals = Directory(), list[Any]()
    names = ("bad@example.edu", "copy@example.edu", "both@example.edu", "only@example.edu")
    bad, copy, both, only = names
    directory.people[bad] = Mailbox(bad, "new")
    directory.people[copy] = Mailbox(copy, "old", forwards=(bad,), keeps=True)
    directory.people[both] = Mailbox(both, "old", forwards=(bad, "x@outside.example"), keeps=False)
    directory.people[only] = Mailbox(only, "old", forwards=(bad,), keeps=False)
    directory.disputed[bad] = "two entries have it"
    spool = await Spool.open(tmp_path / "0001", 1, create=True, options=OPTIONS)
    whole = Whole(directory, spool, arrivals)
    async with whole.plane:
        assert await whole.plane.send(copy, both) == []
        with pytest.raises(BadRouteData):
            await whole.plane.send(only)
        for _ in range(12_000):
            await asyncio.sleep(0.005)
            queued = (await spool.desk.counts()).mail.queued
            if len(arrivals) == queued == 2 and whole.plane.notes.alarms and not len(whole.plane.claims):
                break
        assert taken(arrivals) == {("old", copy): 1, (MX, "x@outside.example"): 1}
        assert (await spool.desk.counts()).mail.queued == 2
        assert {key for kind, key, _ in whole.plane.notes.alarms if kind == "bad-route-data"} == {bad}
        directory.disputed.clear()
        whole.hold(bad, None)
        whole.plane.advance(1000.0)
        await whole.empty()
        assert taken(arrivals)["new", bad] == 1
    await whole.classifier.close()
    await spool.close()


@pytest.mark.parametrize(
    ("sizes", "places", "delivered"), [((100, 100, 100), 250, 200), ((100, 90, 10), 110, 110)], ids=["last", "middle"]
)
async def test_message_that_opens_too_many_opens_what_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...], places: int, delivered: int
) -> None:
    """Nobody waits for those for whom there is no place in the message, and no transaction grows without bound."""
    monkeypatch.setattr("router.spool.expanding.LAST_PLACE", MAX_RECIPIENTS + places - 1)
    monkeypatch.setattr("router.pipeline.conclude.MOST_OPENED", 99)
    directory, arrivals = Directory(), list[Any]()
    names = [f"many{at}@example.edu" for at in range(3)]
    for name, size in zip(names, sizes, strict=True):
        targets = tuple(f"{name.partition('@')[0]}-{at}@outside.example" for at in range(size))
        directory.people[name] = Mailbox(name, "old", forwards=targets, keeps=False)
    spool = await Spool.open(tmp_path / "0001", 1, create=True, options=OPTIONS)
    whole = Whole(directory, spool, arrivals)
    async with whole.plane:
        assert await whole.plane.send(*names) == []
        for _ in range(6000):
            await asyncio.sleep(0.01)
            if sum(taken(arrivals).values()) == delivered and not len(whole.plane.claims):
                break
        counts = (await spool.desk.counts()).mail
        assert (counts.forwarded, counts.delivered, counts.queued) == (2, delivered, 1)
        assert counts.balanced
        assert {kind for kind, _, _ in whole.plane.notes.alarms} == {"internal"}
    await whole.classifier.close()
    await spool.close()
