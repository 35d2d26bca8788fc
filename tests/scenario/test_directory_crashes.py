"""
`hold`, `release` and `move` of people in LDAP, killed at every step, against a running relay and a real slapd: what is
on hold stays so, what comes meanwhile waits, and the same command, repeated, ends right.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.directory_site import directory_site, followed, submit
from support.hands import Sent, alarms, exactly_once, hold_of, nobody_was_told, read_again, record, tags
from support.killing import NEVER, Ended, Killing
from support.people_ldif import NEW_HOST, OLD_HOST, replace, sun_dn, sun_domain, sun_person
from support.site import Site, StoreAt
from support.slapd import Slapd

from router.control import schema, written
from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
Until = Callable[..., Awaitable[None]]
SPELLINGS = ("active", None, "overquota", "ACTIVE", "Active")
"""Statuses that a hold may find. Mail to the third waits at the sender, as long as it is not on hold."""
COUNT = 24


@dataclass
class Person:
    """One of the people; each dies at another step."""

    number: int
    spelling: str | None
    sent: list[Sent] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"p{self.number:02}"

    @property
    def address(self) -> str:
        return f"{self.name}@example.edu"

    @property
    def full(self) -> bool:
        return self.spelling == "overquota"


@pytest.fixture
def people() -> list[Person]:
    return [Person(number, SPELLINGS[number % len(SPELLINGS)]) for number in range(1, COUNT + 1)]


@pytest.fixture
def server(people: Sequence[Person]) -> Iterator[Slapd]:
    with Slapd([sun_domain("example.edu"), *(sun_person(p.name, mailUserStatus=p.spelling) for p in people)]) as one:
        yield one


@pytest.fixture
async def site(tmp_path: Path, stores: dict[str, RecordingStore], server: Slapd) -> Site:
    at = [StoreAt(name, store.port, role="new" if name == "new" else "old") for name, store in stores.items()]
    return directory_site(tmp_path, at, server)


class Matrix:
    """People, stores and the commands; `touched` are those whose command was killed or has ended."""

    def __init__(self, site: Site, stores: dict[str, RecordingStore], server: Slapd, killing: Killing) -> None:
        self.site = site
        self.stores = stores
        self.server = server
        self.killing = killing
        self.touched: list[Person] = []

    async def kill_each(self, people: Sequence[Person], verb: str, *words: str) -> list[Person]:
        """The command for each person, killed at the step of their number, until one comes to its end."""
        touched = []
        for person in people:
            ended = await self.command(person, verb, *words, at=person.number)
            touched.append(person)
            if not ended.killed:
                assert ended.status == 0, (person, ended)
                break
        else:
            raise AssertionError(f"{verb} takes more than {len(people)} steps")
        assert len(touched) > 8, "every step was tried"
        return touched

    async def command(self, person: Person, verb: str, *words: str, at: int = NEVER) -> Ended:
        return await self.killing.run(at, verb, person.address, "--reason", "test", *words)

    async def send(self, people: Sequence[Person], tag: str) -> None:
        for person in people:
            name = f"{tag}-{person.name}"
            await asyncio.to_thread(submit, self.site, person.address, tag=name)
            person.sent.append(Sent(name, (person.address,), 0.0))

    def held(self, person: Person) -> bool:
        return bool(hold_of(self.site, person.address))

    def at(self, store: str, person: Person) -> list[str]:
        return tags(self.stores[store], person.address)

    async def settle(self) -> None:
        """Long enough for the follower to have read whatever was written, several times."""
        seen = self.server.mark()
        await asyncio.sleep(0.6)
        if self.server._process is not None:
            await read_again(self.site, self.server, seen)

    def ended_right(self, person: Person, host: str, store: str) -> None:
        found = self.server.entry(sun_dn(person.name))
        assert found["mailHost"] == [host], person
        assert found.get("mailUserStatus", [None]) == [person.spelling], person
        mailbox = record(self.site, person.address).mailbox
        assert (mailbox.home, mailbox.hold) == (store, None), person
        assert mailbox.status.value == ("overquota" if person.full else "active"), person

    async def all_arrived(self, people: Sequence[Person]) -> None:
        for person in people:
            if person.full:
                self.server.modify(replace(sun_dn(person.name), mailUserStatus="active"))
        assert await self.site.drained(60) == 0
        for person in people:
            exactly_once(person.sent, person.address, self.stores.values())
        assert alarms(self.site, "directory-drift") == []
        nobody_was_told(self.site, self.stores.values())
        self.site.balance()
        with self.site.office.database.read() as connection:
            assert connection.execute(schema.directory_writes.select()).all() == []
        assert self.site.office.database.run_read(written.stands) == {}


async def test_hold_and_release_killed_at_every_step(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, people: list[Person], until: Until
) -> None:
    async with site, Killing(site.config) as killing:
        await until(lambda: followed(site), "the directory is followed")
        matrix = Matrix(site, stores, server, killing)
        touched = await matrix.kill_each(people, "hold")
        await matrix.settle()
        open_ = [person for person in touched if matrix.held(person)]
        assert 3 < len(open_) < len(touched), "some were killed before the hold was durable, some after"
        await matrix.send([person for person in touched if person in open_ or not person.full], "held")
        await until(
            lambda: all(matrix.at("old", one) for one in touched if one not in open_ and one.sent), "the rest is there"
        )
        await matrix.settle()
        for person in touched:
            assert matrix.at("new", person) == []
            assert matrix.at("old", person) == ([] if person in open_ else [one.tag for one in person.sent])
        for person in touched:
            ended = await matrix.command(person, "hold")
            assert ended.status == 0, ended
            (one,) = ended.document["holds"]
            assert (one["quiet"], one["unwritten"], one["drift"]) == (True, "", ""), person
            assert server.entry(sun_dn(person.name))["mailUserStatus"] == ["hold"]
        at_old = {person.name: matrix.at("old", person) for person in touched}
        await matrix.send(touched, "quiet")
        rest = [person for person in people if person not in touched]
        for person in rest:
            assert (await matrix.command(person, "hold")).status == 0
        await matrix.send(rest, "quiet")
        released = await matrix.kill_each(people, "release", "--to", "new")
        await matrix.settle()
        still = [person for person in released if matrix.held(person)]
        assert 3 < len(still) < len(released)
        for person in still:
            assert matrix.at("new", person) == [], person
        await matrix.send([person for person in released if person in still or not person.full], "after")
        gone_on = [person for person in released if person not in still and not person.full]
        await until(lambda: all(matrix.at("new", person) for person in gone_on), "the rest is there")
        await matrix.settle()
        for person in released:
            assert bool(matrix.at("new", person)) == (person not in still and not person.full), person
        for person in people:
            ended = await matrix.command(person, "release", "--to", "new")
            assert ended.status == 0, ended
        await matrix.settle()
        for person in people:
            matrix.ended_right(person, NEW_HOST, "new")
            assert matrix.at("old", person) == at_old.get(person.name, [])
        await matrix.all_arrived(people)


async def test_a_move_killed_at_every_step_and_an_abort(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, people: list[Person], until: Until
) -> None:
    async with site, Killing(site.config) as killing:
        await until(lambda: followed(site), "the directory is followed")
        matrix = Matrix(site, stores, server, killing)
        touched = await matrix.kill_each(people, "move", "--to", "new", "--run", "true")
        await matrix.settle()
        held = [person for person in touched if matrix.held(person)]
        moved = [person for person in touched if record(site, person.address).mailbox.home == "new"]
        await matrix.send([person for person in touched if person in held or not person.full], "m")
        await matrix.settle()
        for person in touched:
            if person in held:
                assert matrix.at("old", person) == matrix.at("new", person) == [], person
            else:
                assert matrix.at("old" if person in moved else "new", person) == [], person
        back = held[1::2]
        for person in touched:
            if person in back:  # the abort: without --to the home is the former one, whatever was written already
                ended = await matrix.command(person, "release")
            else:
                ended = await matrix.command(person, "move", "--to", "new", "--run", "true")
            assert ended.status == 0, ended
        await matrix.settle()
        for person in touched:
            matrix.ended_right(person, *((OLD_HOST, "old") if person in back else (NEW_HOST, "new")))
            if person in back:
                assert matrix.at("new", person) == []
        await matrix.all_arrived(touched)


async def test_slapd_killed_between_the_two_truths(
    site: Site, stores: dict[str, RecordingStore], server: Slapd, people: list[Person], until: Until
) -> None:
    ann = people[0]
    async with site, Killing(site.config) as killing:
        await until(lambda: followed(site), "the directory is followed")
        matrix = Matrix(site, stores, server, killing)
        server.kill()
        held = await matrix.command(ann, "hold")
        assert held.status == 75, held
        assert held.document["holds"][0]["unwritten"]
        assert hold_of(site, ann.address) == "quiet command"
        await matrix.send([ann], "one")
        server.start()
        await until(lambda: followed(site), "the directory is followed again")
        await matrix.settle()
        assert hold_of(site, ann.address) == "quiet command", "an active status there does not end our hold"
        assert (await matrix.command(ann, "hold")).status == 0
        assert server.entry(sun_dn(ann.name))["mailUserStatus"] == ["hold"]
        server.kill()
        released = await matrix.command(ann, "release", "--to", "new")
        assert released.status == 75, released
        assert hold_of(site, ann.address) == "quiet command"
        moved = await matrix.command(ann, "move", "--to", "new")
        assert moved.status == 75, moved
        await matrix.send([ann], "two")
        await matrix.settle()
        assert matrix.at("old", ann) == matrix.at("new", ann) == []
        server.start()
        assert (await matrix.command(ann, "release", "--to", "new")).status == 0
        await until(lambda: followed(site), "the directory is followed again")
        await matrix.settle()
        matrix.ended_right(ann, NEW_HOST, "new")
        assert matrix.at("old", ann) == []
        await matrix.all_arrived([ann])
