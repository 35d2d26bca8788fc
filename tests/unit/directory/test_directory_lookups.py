"""Looking addresses up, without a server: gathering, sharing, the cross-check, and whose bad entry spoils whom."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from support.sunlike import SunLike

from router.directory import lookups as module
from router.directory.faults import Fault, Lost, Muddled, Unfit
from router.directory.inquiry import Inquiry
from router.directory.lookups import BATCH, LdapLookups
from router.directory.search_message import Question
from router.directory.servers import Servers
from router.errors import LookupFailed, reply_for
from router.model.directory import RawEntry
from router.settings.directory import Ldap


class Directory:
    """A directory in memory that understands the filters of `SunLike` well enough: an address is in it or not."""

    def __init__(self) -> None:
        self.entries: list[RawEntry] = []
        self.questions: list[Question] = []
        self.failure: Fault | None = None
        self.most = 1000
        self.gate = threading.Event()
        self.gate.set()
        self.uri = "ldap://memory"
        self.used = 0.0
        self.running = self.peak = 0
        self._lock = threading.Lock()

    def search(self, question: Question, until: float) -> tuple[RawEntry, ...]:
        with self._lock:
            self.questions.append(question)
            self.running += 1
            self.peak = max(self.peak, self.running)
        try:
            return self._answer(question, until)
        finally:
            with self._lock:
                self.running -= 1

    def _answer(self, question: Question, until: float) -> tuple[RawEntry, ...]:
        if not self.gate.wait(max(0.0, until - time.monotonic())):
            raise Lost("silent")
        if self.failure is not None:
            raise self.failure
        found = tuple(raw for raw in self.entries if any(mark in question.filter for mark in marks(raw)))
        if len(found) > self.most:
            raise Unfit("too many", 4)
        return found

    def close(self) -> None: ...

    def asked(self) -> list[int]:
        """How many addresses each search asked for."""
        return [question.filter.count("(mail=") for question in self.questions]


def marks(raw: RawEntry) -> list[str]:
    found = [f"={value.decode()})" for value in raw.attributes.get("finds", ())]
    return found or [f"(mail={value.decode().lower()})" for value in raw.attributes.get("mail", ())]


def person(name: str, *addresses: str, finds: str = "") -> RawEntry:
    attributes = {
        "objectclass": (b"inetMailUser",),
        "mail": tuple(one.encode() for one in addresses or (f"{name}@example.edu",)),
        "entrycsn": (b"20260101000000.000000Z#000000#000#000000",),
    }
    if finds:
        attributes["finds"] = (finds.encode(),)
    return RawEntry(f"uid={name}", attributes)


def servers_of(directory: Directory, source: Ldap) -> Servers:
    connect: Any = lambda *_: directory  # noqa: E731 - one connection for everybody
    return Servers(source, time.monotonic, connect)


def settings(**more: Any) -> Ldap:
    return Ldap(**({"uri": "ldap://memory", "base": "dc=x", "deadline": 60.0, "connections": 2} | more))


@pytest.fixture
def directory() -> Directory:
    return Directory()


@pytest.fixture
async def lookups(directory: Directory) -> AsyncIterator[LdapLookups]:
    source = settings()
    made = LdapLookups(source, SunLike(), servers_of(directory, source))
    yield made
    directory.gate.set()
    await made.close()


async def names(lookups: LdapLookups, *keys: str) -> list[str]:
    return sorted(item.dn for item in await lookups.find(keys))


# --- gathering


async def test_questions_of_one_turn_are_one_search(directory: Directory, lookups: LdapLookups) -> None:
    directory.entries = [person("ann"), person("bob")]
    found = await asyncio.gather(*(names(lookups, f"{name}@example.edu") for name in ("ann", "bob", "cy")))
    assert found == [["uid=ann"], ["uid=bob"], []]
    assert directory.asked() == [3, 1], "who was not found is asked for alone, to be sure"


async def test_equal_questions_share_one_flight(directory: Directory, lookups: LdapLookups) -> None:
    directory.entries = [person("ann")]
    found = await asyncio.gather(*(names(lookups, "ann@example.edu") for _ in range(500)))
    assert found == [["uid=ann"]] * 500
    assert directory.asked() == [1]


async def test_a_search_under_way_is_too_old_for_who_comes_later(directory: Directory, lookups: LdapLookups) -> None:
    directory.gate.clear()
    first = asyncio.create_task(names(lookups, "ann@example.edu"))
    while not directory.questions:  # noqa: ASYNC110 - it is a thread that asks
        await asyncio.sleep(0.001)
    late = [asyncio.create_task(names(lookups, "ann@example.edu")) for _ in range(100)]
    await asyncio.sleep(0.05)
    directory.gate.set()
    await asyncio.gather(first, *late)
    assert directory.asked() == [1, 1]


async def test_searches_are_bounded_in_size_and_in_number(directory: Directory, lookups: LdapLookups) -> None:
    keys = [f"user{number}@example.edu" for number in range(3 * BATCH + 1)]
    await asyncio.gather(*(lookups.find([key]) for key in keys))
    assert sorted(directory.asked()) == [1, BATCH, BATCH, BATCH]
    assert directory.peak <= 2


async def test_long_addresses_do_not_make_a_search_too_long(directory: Directory, lookups: LdapLookups) -> None:
    keys = [f"{number:0300}@example.edu" for number in range(100)]
    await asyncio.gather(*(lookups.find([key]) for key in keys))
    assert len(directory.questions) == 2
    assert sum(directory.asked()) == 100


async def test_domains_are_asked_for_in_the_same_search_or_where_they_are(directory: Directory) -> None:
    for more, searches in (({}, 1), ({"domain_base": "o=internet"}, 2)):
        directory.questions.clear()
        source = settings(**more)
        made = LdapLookups(source, SunLike(), servers_of(directory, source))
        await made.find(["ann@example.edu"])
        assert len(directory.questions) == searches
        assert "(sunPreferredDomain=example.edu)" in directory.questions[-1].filter
        assert directory.questions[-1].base == more.get("domain_base", "dc=x")
        await made.close()


async def test_no_question_no_search(directory: Directory, lookups: LdapLookups) -> None:
    assert await lookups.find([]) == ()
    assert directory.questions == []


# --- the cross-check


async def test_an_entry_without_the_address_is_doubt_and_not_a_no(directory: Directory, lookups: LdapLookups) -> None:
    directory.entries = [person("ann", finds="ann.sales@example.edu")]
    with pytest.raises(LookupFailed, match="does not have") as caught:
        await lookups.find(["ann.sales@example.edu"])
    assert reply_for(caught.value).code == 451
    assert reply_for(caught.value).enhanced == "4.3.5"


async def test_an_entry_that_answers_one_key_hides_no_doubt_about_another(
    directory: Directory, lookups: LdapLookups
) -> None:
    """Ann's entry matches two addresses, but is understood to have one of them only."""
    raw = person("ann")
    directory.entries = [RawEntry(raw.dn, {**raw.attributes, "finds": (b"ann@example.edu", b"odd@example.edu")})]
    ann, odd = await asyncio.gather(
        names(lookups, "ann@example.edu"), lookups.find(["odd@example.edu"]), return_exceptions=True
    )
    assert ann == ["uid=ann"]
    assert isinstance(odd, LookupFailed)


CATCH_ALL = "@example.edu"


@pytest.mark.parametrize(
    ("questions", "asked"),
    [
        ([("ann@example.edu", CATCH_ALL), ("bob@example.edu", CATCH_ALL)], [3]),
        ([("ann@example.edu", CATCH_ALL), ("eve@example.edu", CATCH_ALL)], [3, 2]),
        ([("eve@example.edu", CATCH_ALL)], [2]),
        ([("ann@example.edu",), (CATCH_ALL,)], [2, 1]),
    ],
    ids=["everybody is found", "somebody is not", "nobody is", "a catch-all alone"],
)
async def test_a_catch_all_that_nobody_needs_is_not_asked_for_again(
    directory: Directory, lookups: LdapLookups, questions: list[tuple[str, ...]], asked: list[int]
) -> None:
    directory.entries = [person("ann"), person("bob")]
    await asyncio.gather(*map(lookups.find, questions))
    assert directory.asked() == asked


async def test_of_a_question_that_is_split_a_catch_all_is_asked_for_again(
    directory: Directory, lookups: LdapLookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address without an entry is in the first search; the second has an address with one."""
    monkeypatch.setattr(module, "BATCH", 2)
    directory.entries = [person("ann")]
    keys = [("eve@example.edu", "eva@example.edu", CATCH_ALL), ("ann@example.edu",)]
    await asyncio.gather(*map(lookups.find, keys))
    assert sorted(directory.asked()) == [1, 2, 2]


async def test_questions_gather_while_a_search_is_under_way(directory: Directory, lookups: LdapLookups) -> None:
    for _ in range(50):  # a machine that pauses for longer than questions gather lets one of them go alone
        directory.gate.clear()
        directory.questions.clear()
        asked = [asyncio.create_task(lookups.find(["eve@example.edu"]))]
        while not directory.questions:  # noqa: ASYNC110 - it happens in another thread
            await asyncio.sleep(0.001)
        for number in range(3):
            asked.append(asyncio.create_task(lookups.find([f"p{number}@example.edu"])))
            await asyncio.sleep(0)
        while len(directory.questions) < 2:  # noqa: ASYNC110 - and does not wait for the first search to end
            await asyncio.sleep(0.001)
        directory.gate.set()
        await asyncio.gather(*asked)
        if directory.asked() == [1, 3]:
            break
    assert directory.asked() == [1, 3]


async def test_a_bad_entry_spoils_nobody_elses_answer(directory: Directory, lookups: LdapLookups) -> None:
    unplaced = RawEntry("uid=odd", {"objectclass": (b"inetMailUser",), "finds": (b"odd@example.edu",)})
    unknown = RawEntry("uid=what", {"finds": (b"what@example.edu",)})
    stray = person("stray", "other@example.edu", finds="stray@example.edu")
    good = [person(f"user{number}") for number in range(20)]
    directory.entries = [*good, unplaced, unknown, stray]
    wanted = [*(f"user{number}" for number in range(20)), "odd", "nobody", "what", "stray"]
    found = await asyncio.gather(*(names(lookups, f"{name}@example.edu") for name in wanted), return_exceptions=True)
    assert found[:20] == [[f"uid=user{number}"] for number in range(20)]
    assert found[21] == []
    assert [type(found[place]) for place in (20, 22, 23)] == [LookupFailed] * 3
    assert not lookups.down


async def test_an_answer_too_long_for_the_server_is_asked_for_in_parts(
    directory: Directory, lookups: LdapLookups
) -> None:
    directory.entries = [person(f"user{number}") for number in range(50)]
    directory.most = 5
    keys = [f"user{number}@example.edu" for number in range(50)]
    found = await lookups.find(keys)
    assert len(found) == 50


async def test_an_address_with_too_many_entries_fails_alone(directory: Directory, lookups: LdapLookups) -> None:
    directory.entries = [person(f"user{number}", "all@example.edu") for number in range(9)] + [person("ann")]
    directory.most = 5
    alone, crowd = await asyncio.gather(
        names(lookups, "ann@example.edu"), lookups.find(["all@example.edu"]), return_exceptions=True
    )
    assert alone == ["uid=ann"]
    assert isinstance(crowd, LookupFailed)


async def test_two_entries_with_one_address_are_both_told(directory: Directory, lookups: LdapLookups) -> None:
    directory.entries = [person("ann"), person("anna", "ann@example.edu")]
    assert await names(lookups, "ann@example.edu") == ["uid=ann", "uid=anna"]


# --- failures


@pytest.mark.slow
async def test_nobody_waits_longer_than_the_deadline(directory: Directory) -> None:
    source = settings(deadline=0.3)
    made = LdapLookups(source, SunLike(), servers_of(directory, source))
    directory.gate.clear()
    began = time.monotonic()
    answers = await asyncio.gather(
        *(made.find([f"user{number}@example.edu"]) for number in range(1000)), return_exceptions=True
    )
    assert time.monotonic() - began < 20  # the directory never answers
    assert {type(answer) for answer in answers} == {LookupFailed}
    directory.gate.set()
    await made.close()


async def test_the_deadline_holds_even_where_a_thread_cannot_be_called_back(directory: Directory) -> None:
    """A name server that does not answer keeps the thread; who asked goes."""
    source = settings(deadline=0.2)
    made = LdapLookups(source, SunLike(), servers_of(directory, source))
    directory.gate.clear()
    real = directory.search

    def deaf(question: Question, until: float) -> tuple[RawEntry, ...]:
        return real(question, 2e9)

    directory.search = deaf  # type: ignore[method-assign]
    began = time.monotonic()
    with pytest.raises(LookupFailed, match="in time"):
        await asyncio.wait_for(made.find(["ann@example.edu"]), 60)
    assert time.monotonic() - began < 20  # the directory never answers
    directory.gate.set()
    await made.close()


@pytest.mark.slow
async def test_a_directory_that_is_down_is_asked_rarely_and_found_again(
    directory: Directory, lookups: LdapLookups
) -> None:
    directory.entries = [person("ann")]
    directory.failure = Lost("gone")
    for _ in range(50):
        with pytest.raises(LookupFailed):
            await lookups.find(["ann@example.edu"])
    assert len(directory.questions) < 20
    assert lookups.down
    directory.failure = None
    end = time.monotonic() + 60
    while lookups.down:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
        try:
            assert await names(lookups, "ann@example.edu") == ["uid=ann"]
        except LookupFailed:
            continue


async def test_an_error_of_ours_is_told_to_all_and_nobody_hangs(directory: Directory, lookups: LdapLookups) -> None:
    directory.entries = [RawEntry("uid=x", {"finds": (b"ann@example.edu",), "objectclass": None})]  # type: ignore[dict-item]
    with pytest.raises(LookupFailed, match="TypeError"):
        await lookups.find(["ann@example.edu"])
    directory.entries = [person("bob")]
    assert await names(lookups, "bob@example.edu") == ["uid=bob"]


async def test_who_has_gone_is_not_asked_for(directory: Directory, lookups: LdapLookups) -> None:
    directory.gate.clear()
    busy = [asyncio.create_task(lookups.find([f"busy{number}@example.edu"])) for number in range(2)]
    await asyncio.sleep(0.05)
    busy.append(asyncio.create_task(lookups.find(["busy3@example.edu"])))
    await asyncio.sleep(0.05)
    gone = asyncio.create_task(lookups.find(["gone@example.edu"]))
    stays = asyncio.create_task(lookups.find(["stays@example.edu"]))
    await asyncio.sleep(0.01)
    gone.cancel()
    await asyncio.sleep(0.01)
    directory.gate.set()
    await asyncio.gather(*busy, stays)
    assert not any("gone@" in question.filter for question in directory.questions)
    assert any("stays@" in question.filter for question in directory.questions)


async def test_a_caller_that_goes_takes_no_others_answer_away(directory: Directory, lookups: LdapLookups) -> None:
    directory.entries = [person("ann")]
    first = asyncio.create_task(lookups.find(["ann@example.edu"]))
    second = asyncio.create_task(names(lookups, "ann@example.edu"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == ["uid=ann"]


async def test_waiting_addresses_are_bounded(
    directory: Directory, lookups: LdapLookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 10)
    with pytest.raises(LookupFailed, match="too many"):
        await lookups.find([f"user{number}@example.edu" for number in range(11)])


async def test_close_ends_what_is_under_way(directory: Directory) -> None:
    source = settings(deadline=30.0)
    made = LdapLookups(source, SunLike(), servers_of(directory, source))
    directory.gate.clear()
    directory.close = directory.gate.set  # type: ignore[method-assign]  # as a closed socket wakes who reads from it
    directory.failure = Lost("closed")
    tasks = [asyncio.create_task(made.find([f"user{number}@example.edu"])) for number in range(10)]
    await asyncio.sleep(0.05)
    await made.close()
    answers: Sequence[object] = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(answer) for answer in answers} == {LookupFailed}
    with pytest.raises(LookupFailed):
        await made.find(["ann@example.edu"])
    await made.close()


def test_a_failure_in_the_middle_leaves_no_key_without_an_answer(directory: Directory) -> None:
    """Halves of a search: the first told, the second met a dead server."""
    source = settings()
    directory.entries = [person("a"), RawEntry("uid=odd", {"finds": (b"b@example.edu",)})]
    real = directory.search

    def dies(question: Question, until: float) -> tuple[RawEntry, ...]:
        if len(directory.questions) == 2:
            directory.failure = Lost("gone")
        return real(question, until)

    directory.search = dies  # type: ignore[method-assign]
    told = Inquiry(source, SunLike(), servers_of(directory, source)).ask(["b@example.edu", "a@example.edu"], 2e9)
    assert told.outage
    assert set(told.answers) == {"a@example.edu", "b@example.edu"}
    assert isinstance(told.answers["b@example.edu"], Lost)


def test_doubt_is_no_outage(directory: Directory) -> None:
    source = settings()
    directory.entries = [RawEntry("uid=odd", {"finds": (b"b@example.edu",)})]
    told = Inquiry(source, SunLike(), servers_of(directory, source)).ask(["b@example.edu"], time.monotonic() + 60)
    assert not told.outage
    assert isinstance(told.answers["b@example.edu"], Muddled)
