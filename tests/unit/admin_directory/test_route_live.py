"""Whom the mirror lacks, asked of several directories: who is believed, and what a silent one means."""

from collections.abc import Sequence

import pytest

from router.admin.cli.route_live import LiveSource
from router.errors import LookupFailed
from router.model.directory import DirectoryItem, DomainEntry, Entry, Role, Standing
from router.model.mailbox import Found, Hold, Mailbox

ANN, BOB = "ann@example.edu", "bob@example.edu"


class Mirror:
    """Knows Bob, and doubts about one domain."""

    async def find(self, keys: Sequence[str]) -> Found:
        known = {BOB: Mailbox(BOB, "cliff", hold=Hold(3, 0.0, 1))}
        doubtful = {key: "lost people" for key in keys if key.endswith("@lost.edu")}
        return Found(7, {key: known[key] for key in keys if key in known}, {}, doubtful)

    async def populated(self, domain: str) -> bool:
        return domain == "example.edu"


class Reader:
    """A directory that has these items, or does not answer."""

    def __init__(self, *items: DirectoryItem, down: bool = False) -> None:
        self.items, self.down = items, down
        self.asked: list[str] = []

    async def find(self, keys: Sequence[str]) -> Sequence[DirectoryItem]:
        self.asked += keys
        if self.down:
            raise LookupFailed("no answer")
        return self.items

    async def close(self) -> None:
        return None


def entry(key: str, home: str, *also: str, standing: Standing = Standing.ACTIVE) -> Entry:
    addresses = tuple(sorted({key, *also}))
    return Entry(f"uid={key}", Role.PERSON, key, addresses, "1", home, f"{home}.edu", standing)


def source(first: Reader, second: Reader, never: Sequence[str] = ()) -> LiveSource:
    return LiveSource(Mirror(), {"first": first, "second": second}, {"second": 0, "first": 1, "database": 2}, never)


async def test_who_is_known_is_not_asked_for() -> None:
    first = Reader(entry(ANN, "cliff"))
    found = await source(first, Reader()).find([BOB])
    assert (found.mailboxes[BOB].home, first.asked) == ("cliff", [])


async def test_the_first_source_of_the_configuration_is_believed() -> None:
    live = source(Reader(entry(ANN, "cliff")), Reader(entry(ANN, "zimbra")))
    found = await live.find([ANN, BOB])
    assert (found.epoch, found.mailboxes[ANN].home, found.mailboxes[ANN].source) == (7, "zimbra", "second")
    assert live.found[ANN].entry.home == "zimbra"
    assert not found.disputed


async def test_a_new_address_of_a_mailbox_on_hold_is_on_hold() -> None:
    found = await source(Reader(entry(BOB, "cliff", "new@example.edu")), Reader()).find(["new@example.edu"])
    assert found.mailboxes["new@example.edu"].hold == Hold(3, 0.0, 1)


async def test_a_silent_directory_makes_nobody_unknown() -> None:
    with pytest.raises(LookupFailed, match="the directory second: no answer"):
        await source(Reader(), Reader(down=True)).find([ANN])


async def test_one_address_of_two_mailboxes_is_in_dispute() -> None:
    live = source(
        Reader(entry(ANN, "cliff", "x@example.edu")), Reader(entry("cat@example.edu", "cliff", "x@example.edu"))
    )
    found = await live.find(["x@example.edu"])
    assert "ann@example.edu and cat@example.edu" in found.disputed["x@example.edu"]


async def test_a_domain_holds_its_people_but_never_the_postmaster() -> None:
    domain = DomainEntry("o=x", "example.edu", "1", Standing.HOLD)
    held = await source(Reader(entry(ANN, "cliff"), domain), Reader()).find([ANN])
    assert held.mailboxes[ANN].hold is not None
    free = await source(Reader(entry(ANN, "cliff", "root@example.edu"), domain), Reader(), ["root@example.edu"]).find(
        [ANN]
    )
    assert free.mailboxes[ANN].hold is None


async def test_doubt_about_a_domain_ends_for_who_is_found_there() -> None:
    live = source(Reader(entry("a@lost.edu", "cliff")), Reader())
    found = await live.find(["a@lost.edu", "b@lost.edu"])
    assert set(found.doubtful) == {"b@lost.edu"}
