"""Lookups against a real slapd: what exactly it was asked, how often, and what happens when it does not answer."""

import asyncio
import contextlib
import re
import threading
import time
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from support.people_ldif import OLD_HOST, delete, referral, replace, sun_dn, sun_person
from support.slapd import BASE, Security, Slapd, stalled
from support.sunlike import SunLike
from trustme import CA

from router.directory.lookups import LdapLookups
from router.directory.printable import printable
from router.errors import LookupFailed
from router.model.directory import DomainEntry, Entry
from router.settings.directory import Ldap

pytestmark = pytest.mark.slow
Make = Callable[..., Slapd]
Source = Callable[..., Ldap]
Build = Callable[[Ldap], LdapLookups]
AT_ONCE = 0.8
"""Seconds that nobody takes who waits for a silent server: its answers are awaited for a second and longer."""
SOON = 20.0
"""Seconds within which whoever is bounded by a limit of a second or two has ended; without it nobody ever would."""

ODD = [
    "*@example.edu",
    "a)(uid=*@example.edu",
    "*)(|(mail=*@example.edu",
    "user1)(objectclass=*@example.edu",
    "back\\slash\\2a@example.edu",
    "\\2a@example.edu",
    "nul\x00user1@example.edu",
    "quo\"ted'and`more@example.edu",
    "grüße@example.edu",
    "日本語@example.edu",
    "a&b|c!d=e~f<g>h@example.edu",
    "#user1@example.edu",
    f"{'x' * 240}@example.edu",
    "%2a@example.edu",
    "user1@*",
    "@example.edu",
    "@",
]


async def people(lookups: LdapLookups, *keys: str) -> list[str]:
    return sorted(item.dn for item in await lookups.find(keys) if isinstance(item, Entry))


def terms(searches: list[str], attribute: str) -> list[str]:
    """The values asked for, as slapd understood them: unescaped, composed."""
    found = [value for text in searches for value in re.findall(rf"\({attribute}=([^()]*)\)", text)]
    octets = [re.sub(r"\\([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), value) for value in found]
    return [unicodedata.normalize("NFKC", one.encode("latin-1").decode("utf-8", "replace")) for one in octets]


async def test_an_address_finds_its_entry_and_its_domain(shared: Slapd, source: Source, lookups: Build) -> None:
    found = await lookups(source(shared)).find(["user.1@example.edu"])
    person, domain = sorted(found, key=lambda item: isinstance(item, DomainEntry))
    assert isinstance(person, Entry)
    assert isinstance(domain, DomainEntry)
    assert (person.key, person.home) == ("user1@example.edu", OLD_HOST)
    assert domain.domain == "example.edu"


async def test_an_unknown_address_finds_its_domain_only(shared: Slapd, source: Source, lookups: Build) -> None:
    made = lookups(source(shared))
    assert [type(item) for item in await made.find(["nobody@example.edu"])] == [DomainEntry]
    assert await made.find(["nobody@elsewhere.example"]) == ()


async def test_a_thousand_questions_are_a_handful_of_searches(shared: Slapd, source: Source, lookups: Build) -> None:
    made = lookups(source(shared))
    seen = shared.mark()
    keys = [f"user{number % 40}@example.edu" if number % 2 else f"x{number}@example.edu" for number in range(1000)]
    found = await asyncio.gather(*(people(made, key) for key in keys))
    assert found == [[sun_dn(f"user{n % 40}")] if n % 2 and n % 40 < 20 else [] for n in range(1000)]
    assert len(shared.searches(seen)) <= 7, "520 different addresses, 200 in a search, and once more who was not found"
    assert shared.connections(seen) <= 4


# --- odd addresses


@pytest.mark.parametrize("key", ODD, ids=printable)
async def test_the_server_is_asked_for_exactly_that_literal(
    shared: Slapd, source: Source, lookups: Build, key: str
) -> None:
    made = lookups(source(shared))
    seen = shared.mark()
    assert await people(made, key) == []
    (search,) = shared.searches(seen)
    asked = terms([search], "mailAlternateAddress")
    assert asked == [key], search
    assert search.count("(mailAlternateAddress=") == 1
    assert "=*" not in search


@pytest.mark.parametrize("key", [key for key in ODD if "\0" not in key], ids=printable)
async def test_an_odd_address_that_exists_is_found(shared: Slapd, source: Source, lookups: Build, key: str) -> None:
    shared.modify(sun_person("odd", mailAlternateAddress=key))
    try:
        assert await people(lookups(source(shared)), key) == [sun_dn("odd")]
    finally:
        shared.modify(delete(sun_dn("odd")))


async def test_all_of_them_at_once_do_not_disturb_anybody(shared: Slapd, source: Source, lookups: Build) -> None:
    made = lookups(source(shared))
    keys = [*ODD, *(f"user{number}@example.edu" for number in range(20))]
    found = await asyncio.gather(*(people(made, key) for key in keys))
    assert found[: len(ODD)] == [[]] * len(ODD)
    assert found[len(ODD) :] == [[sun_dn(f"user{number}")] for number in range(20)]


@pytest.mark.parametrize("key", [" user1@example.edu", "user1@example.edu "])
async def test_what_only_the_server_takes_for_equal_is_doubt(
    shared: Slapd, source: Source, lookups: Build, key: str
) -> None:
    """A directory ignores spaces around a value (RFC 4518); to us they are parts of another address."""
    made = lookups(source(shared))
    wrong, right = await asyncio.gather(made.find([key]), people(made, "user.1@example.edu"), return_exceptions=True)
    assert isinstance(wrong, LookupFailed)
    assert right == [sun_dn("user1")]
    assert not made.down


# --- limits of the server


async def test_a_size_limit_fails_nobody_who_fits(make: Make, source: Source, lookups: Build) -> None:
    server = make(limits="sizelimit 3")
    made = lookups(source(server))
    found = await asyncio.gather(*(people(made, f"user{number}@example.edu") for number in range(20)))
    assert found == [[sun_dn(f"user{number}")] for number in range(20)]
    server.modify("\n".join(sun_person(f"same{number}", mailAlternateAddress="all@example.edu") for number in range(5)))
    with pytest.raises(LookupFailed, match="result 4"):
        await made.find(["all@example.edu"])


async def test_a_referral_is_no_answer(make: Make, source: Source, lookups: Build) -> None:
    server = make([sun_person("ann"), referral("away", "ldap://127.0.0.1:1")])
    made = lookups(source(server))
    for key in ("ann@example.edu", "nobody@example.edu"):
        with pytest.raises(LookupFailed, match="referrals are not followed"):
            await made.find([key])


async def test_a_base_that_is_gone_is_no_answer(shared: Slapd, source: Source, lookups: Build) -> None:
    with pytest.raises(LookupFailed, match="result 32"):
        await lookups(source(shared, base=f"ou=nowhere,{BASE}")).find(["user1@example.edu"])


async def test_a_wrong_certificate_is_temporary_and_the_next_server_helps(
    make: Make, source: Source, lookups: Build, authority: CA, shared: Slapd
) -> None:
    server = make(security=Security(authority.issue_cert("localhost")))
    with pytest.raises(LookupFailed, match="certificate verify failed"):
        await lookups(source(server, uri=server.tls_uri)).find(["user1@example.edu"])
    both = lookups(source(shared, uri=[server.tls_uri, shared.uri]))
    assert await people(both, "user1@example.edu") == [sun_dn("user1")]


# --- outages


class Watch:
    """The longest time the event loop was not served, less that in which it worked: a slow machine works long."""

    worst = 0.0

    async def run(self) -> None:
        last, worked = time.monotonic(), time.thread_time()
        while True:
            await asyncio.sleep(0.005)
            now, work = time.monotonic(), time.thread_time()
            self.worst = max(self.worst, (now - last) - (work - worked) - 0.005)
            last, worked = now, work


@contextlib.asynccontextmanager
async def watched() -> AsyncIterator[Watch]:
    watch = Watch()
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()


async def recovered(made: LdapLookups, key: str, patience: float = 60.0) -> None:
    end = time.monotonic() + patience
    while True:
        with contextlib.suppress(LookupFailed):
            assert await made.find([key])
            return
        assert time.monotonic() < end
        await asyncio.sleep(0.1)


async def timed(work: Awaitable[object]) -> tuple[float, object]:
    began = time.monotonic()
    try:
        answer: object = await work
    except LookupFailed as error:
        answer = error
    return time.monotonic() - began, answer


async def quickest(work: Callable[[], Awaitable[object]]) -> tuple[float, object]:
    """Of several attempts: the machine may pause in any of them, and for longer than something rests."""
    best = await timed(work())
    for _ in range(5):
        if best[0] < AT_ONCE and not isinstance(best[1], LookupFailed):
            break
        best = min(best, await timed(work()), key=lambda one: (isinstance(one[1], LookupFailed), one[0]))
    return best


async def test_a_stopped_server_bounds_sessions_threads_and_the_loop(
    shared: Slapd, source: Source, lookups: Build
) -> None:
    stalls: list[float] = []
    before = set(threading.enumerate())
    with stalled(shared):
        for number in range(8):  # a busy machine may stall some of them; a blocking call stalls all
            if number >= 3 and min(stalls) < AT_ONCE:
                break
            made = lookups(source(shared, deadline=1.5, receive_timeout=1.0))
            async with watched() as watch:
                keys = [f"user{number}@example.edu" for number in range(1000)]
                ended = await asyncio.gather(*(timed(made.find([key])) for key in keys))
            stalls.append(watch.worst)
            assert max(seconds for seconds, _ in ended) < SOON
            assert all(isinstance(answer, LookupFailed) for _, answer in ended)
            new = set(threading.enumerate()) - before
            assert sum(one.name.startswith("directory-") for one in new) <= 4 * len(stalls)
        asked = [await timed(made.find(["user1@example.edu"])) for _ in range(5)]
        assert min(seconds for seconds, _ in asked) < AT_ONCE, "the breaker is open"
    assert min(stalls) < AT_ONCE
    await recovered(made, "user1@example.edu")


async def test_a_server_that_never_answers_gives_way_to_the_next(
    shared: Slapd, silent: str, source: Source, lookups: Build
) -> None:
    for _ in range(5):  # in a pause of the machine, the time of the other one is up as well
        made = lookups(source(shared, uri=[silent, shared.uri], deadline=2.0))
        first, answer = await timed(people(made, "user1@example.edu"))
        if not isinstance(answer, LookupFailed):
            break
    assert answer == [sun_dn("user1")]
    assert first < SOON
    second, answer = await quickest(lambda: people(made, "user2@example.edu"))
    assert answer == [sun_dn("user2")]
    assert second < AT_ONCE, "it rests"


async def test_killed_and_started_again_without_help(make: Make, source: Source, lookups: Build) -> None:
    server = make()
    made = lookups(source(server))
    assert await people(made, "user1@example.edu")
    await asyncio.to_thread(server.kill)
    seconds, answer = await timed(made.find(["user1@example.edu"]))
    assert isinstance(answer, LookupFailed)
    assert seconds < SOON
    await asyncio.to_thread(server.start)
    await recovered(made, "user1@example.edu")


async def test_a_restart_between_two_questions_is_not_noticed(make: Make, source: Source, lookups: Build) -> None:
    server = make()
    made = lookups(source(server))
    assert await people(made, "user1@example.edu")
    for _ in range(3):
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        assert await people(made, "user1@example.edu")


async def test_under_traffic_one_of_two_servers_may_go_and_come(make: Make, source: Source, lookups: Build) -> None:
    first, second = make(), make()
    made = lookups(source(first, second))
    stop = asyncio.Event()
    answers: list[object] = []

    async def traffic() -> None:
        while not stop.is_set():
            _, answer = await timed(people(made, "user1@example.edu"))
            answers.append(answer)
            await asyncio.sleep(0.01)

    running = [asyncio.create_task(traffic()) for _ in range(5)]
    for disturb in (first.kill, first.start, second.kill, second.start, first.stall, first.wake):
        seen = len(answers)
        await asyncio.to_thread(disturb)
        await asyncio.sleep(0.3)
        if disturb != first.stall:
            async with asyncio.timeout(60):
                while len(answers) <= seen + 20:  # noqa: ASYNC110 - each of them is an answer of `traffic`
                    await asyncio.sleep(0.01)
    stop.set()
    await asyncio.gather(*running)
    assert len(answers) > 100
    wrong = [answer for answer in answers if answer != [sun_dn("user1")] and not isinstance(answer, LookupFailed)]
    assert wrong == [], "never an empty answer"
    assert sum(isinstance(answer, LookupFailed) for answer in answers) < 10


async def test_each_answer_is_newer_than_its_question(shared: Slapd, source: Source, lookups: Build) -> None:
    """Whoever asks after a change was made sees it, however many questions are under way."""
    made = lookups(source(shared))
    stop = asyncio.Event()

    async def traffic() -> None:
        while not stop.is_set():
            await made.find(["user7@example.edu"])

    running = [asyncio.create_task(traffic()) for _ in range(5)]
    for number in range(10):
        status = "hold" if number % 2 == 0 else "active"
        await asyncio.to_thread(shared.modify, replace(sun_dn("user7"), mailUserStatus=status))
        (entry,) = [item for item in await made.find(["user7@example.edu"]) if isinstance(item, Entry)]
        assert entry.standing.value == status
    stop.set()
    await asyncio.gather(*running)


async def test_close_ends_what_waits_for_a_stopped_server(shared: Slapd, source: Source) -> None:
    made = LdapLookups(source(shared), SunLike())
    await made.find(["user1@example.edu"])
    with stalled(shared):
        waiting = asyncio.create_task(timed(made.find(["user1@example.edu"])))
        await asyncio.sleep(0.2)
        seconds, _ = await timed(made.close())
        assert seconds < SOON
        _, answer = await waiting
        assert isinstance(answer, LookupFailed)
