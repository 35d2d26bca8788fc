"""Who is not in the mirror of the directories is asked for there, and is unknown only when all of them have said so."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from router.classify.classifier import CachingClassifier
from router.classify.domains import DomainTable
from router.classify.lists import ListTable, MailingList
from router.classify.probe import Prober
from router.classify.rules import AddressRules
from router.classify.services import ServiceTable
from router.errors import LookupFailed
from router.model.address import Address, parse_address
from router.model.directory import Fetched
from router.model.mailbox import Found, Mailbox
from router.model.reply import HopReply
from router.model.route import Kind
from router.settings.schema import Domain

ANN, LATE, LIST, SERVICE = "ann@example.edu", "late@example.edu", "news@example.edu", "tickets@example.edu"
DOMAINS = {
    "example.edu": Domain(),
    "store.example.edu": Domain(unknown="store", store="cliff"),
    "probe.example.edu": Domain(unknown="probe", probe=("old",)),
}


class Clock:
    def wall(self) -> float:
        return 1000.0

    def monotonic(self) -> float:
        return 1000.0


class Mirror:
    def __init__(self) -> None:
        self.people = {ANN: Mailbox(ANN, "cliff", source="ldap")}

    async def find(self, keys: Sequence[str]) -> Found:
        return Found(1, {key: self.people[key] for key in keys if key in self.people}, {}, {})

    async def populated(self, domain: str) -> bool:
        return any(key.endswith(f"@{domain}") for key in self.people)


class Directory:
    """What is behind the mirror. `then` happens before an answer is given."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self.people: dict[str, Mailbox] = {}
        self.silent = False
        self.mirrors = True
        self.asked: list[set[str]] = []
        self.then: Callable[[], None] = lambda: None

    async def fetch(self, keys: Sequence[str]) -> Fetched:
        self.asked.append(set(keys))
        await asyncio.sleep(0)
        silent = self.silent
        self.then()
        if silent:
            return Fetched(doubtful=dict.fromkeys(keys, "no answer"))
        found = {key: self.people[key] for key in keys if key in self.people}
        if self.mirrors:
            self._mirror.people.update(found)
        return Fetched(frozenset(found))


@pytest.fixture
def mirror() -> Mirror:
    return Mirror()


@pytest.fixture
def directory(mirror: Mirror) -> Directory:
    return Directory(mirror)


@pytest.fixture
async def classifier(mirror: Mirror, directory: Directory) -> AsyncIterator[CachingClassifier]:
    async def denied(store: str, address: Address) -> HopReply:
        del store, address
        return HopReply(550, "5.1.1", "no")

    rules = AddressRules(
        DomainTable(DOMAINS),
        ListTable([MailingList(LIST, "lists", "majordomo")]),
        ServiceTable({SERVICE: "rt"}),
        parse_address("root@example.edu"),
    )
    one = CachingClassifier(rules, [mirror], Clock(), Prober(denied, Clock()), beyond=directory)
    yield one
    await one.close()


async def kind(classifier: CachingClassifier, address: str) -> str:
    return (await classifier.classify(parse_address(address))).kind.name


async def test_who_is_known_is_not_asked_for(classifier: CachingClassifier, directory: Directory) -> None:
    assert await kind(classifier, ANN) == Kind.MAILBOX.name
    assert directory.asked == []


async def test_who_is_not_known_is_asked_for_and_read_back(classifier: CachingClassifier, directory: Directory) -> None:
    directory.people[LATE] = Mailbox(LATE, "cliff", source="ldap")
    assert await kind(classifier, LATE) == Kind.MAILBOX.name
    assert directory.asked == [{LATE}]


async def test_unknown_is_what_the_directory_does_not_have(classifier: CachingClassifier) -> None:
    assert await kind(classifier, "nobody@example.edu") == Kind.UNKNOWN.name


@pytest.mark.parametrize("domain", DOMAINS)
async def test_nobody_is_unknown_while_the_directory_is_silent(
    classifier: CachingClassifier, directory: Directory, domain: str
) -> None:
    """A store that takes unknown addresses would get mail of somebody who lives elsewhere."""
    directory.silent = True
    with pytest.raises(LookupFailed, match="no answer"):
        await classifier.classify(parse_address(f"nobody@{domain}"))
    directory.silent = False
    assert await kind(classifier, f"nobody@{domain}") == Kind.UNKNOWN.name


@pytest.mark.parametrize("address", [ANN, "ann+x@example.edu", LIST, SERVICE, "news-request@example.edu"])
async def test_who_is_known_here_does_not_depend_on_the_directory(
    classifier: CachingClassifier, directory: Directory, address: str
) -> None:
    directory.silent = True
    assert await kind(classifier, address) in {"MAILBOX", "LIST", "SERVICE"}


async def test_who_is_in_the_directory_and_not_in_the_mirror_is_not_unknown(
    classifier: CachingClassifier, directory: Directory
) -> None:
    directory.people[LATE], directory.mirrors = Mailbox(LATE, "cliff", source="ldap"), False
    with pytest.raises(LookupFailed, match="not in the mirror"):
        await classifier.classify(parse_address(LATE))


async def test_what_was_not_found_before_the_silence_is_asked_for_again(
    classifier: CachingClassifier, directory: Directory
) -> None:
    nobody = parse_address("nobody@example.edu")
    await classifier.classify(nobody)
    assert classifier.known(nobody) is not None
    directory.silent = True
    classifier.distrust()
    assert classifier.known(nobody) is None
    with pytest.raises(LookupFailed):
        await classifier.classify(nobody)


async def test_an_answer_on_its_way_when_the_directory_goes_silent_is_not_remembered(
    classifier: CachingClassifier, directory: Directory
) -> None:
    def goes_silent() -> None:
        if not directory.silent:
            directory.silent = True
            classifier.distrust()

    directory.then = goes_silent
    nobody = parse_address("nobody@example.edu")
    with pytest.raises(LookupFailed, match="no answer"):
        await classifier.classify(nobody)
    assert classifier.known(nobody) is None
