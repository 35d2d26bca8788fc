"""Asking directories for who is not known: what counts as an answer, what is written down, and what is doubt."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from router.daemon.beyond import TOGETHER, Everywhere, Fetcher
from router.directory.faults import Muddled
from router.errors import ControlUnavailable, LookupFailed
from router.model.directory import Answered, DirectoryItem, DomainEntry, Entry, Fetched, Role

ANN, BOB, NOBODY = (f"{name}@example.edu" for name in ("ann", "bob", "nobody"))


def person(name: str, dn: str = "") -> Entry:
    key = f"{name}@example.edu"
    return Entry(dn or f"uid={name}", Role.PERSON, key, (key,), "1", home="old")


class Reader:
    """A directory in memory. `fails` is raised by the next questions."""

    def __init__(self, *people: Entry) -> None:
        self.people = list(people)
        self.fails: Exception | None = None
        self.asked: list[Sequence[str]] = []
        self.closed = False

    async def find(self, keys: Sequence[str]) -> Sequence[DirectoryItem]:
        self.asked.append(tuple(keys))
        await asyncio.sleep(0)
        if self.fails is not None:
            raise self.fails
        return [DomainEntry("o=d", "example.edu", "1"), *(e for e in self.people if set(keys) & set(e.addresses))]

    async def close(self) -> None:
        self.closed = True


class Mirror:
    """Notes what is written. `gate` closed: writing takes as long as it is. `contested` is told after each writing."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.asked: list[float] = []
        self.repeats = self.tries = 0
        self.confirmed: list[list[str]] = []
        self.contested: set[str] = set()
        self.stays_contested: set[str] = set()
        self.fails: Exception | None = None
        self.cannot_confirm: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.threads: set[int] = set()

    def admit(self, more: Callable[[], Sequence[Answered]]) -> object:
        self.threads.add(threading.get_ident())
        self.tries += 1
        assert self.gate.wait(60)
        if self.fails is not None:
            raise self.fails
        for _ in range(self.repeats):
            more()
        self.asked += [one.asked for one in more()]
        self.batches.append(list(dict.fromkeys(item.dn for one in more() for item in one.items)))
        return None

    def take_contested(self) -> list[str]:
        taken, self.contested = sorted(self.contested), set()
        return taken

    def confirm(self, items: Sequence[DirectoryItem], asked: float) -> object:
        assert asked <= time.time()
        if self.cannot_confirm is not None:
            raise self.cannot_confirm
        self.confirmed.append([item.dn for item in items])
        self.contested |= self.stays_contested
        return None


class Doubt:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def fetcher(reader: Reader, mirror: Mirror, doubt: Callable[[], None] | None = None) -> Fetcher:
    return Fetcher("ldap", reader, lambda: mirror, doubt or Doubt(), rest=0.01)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - what is waited for happens in another thread
            await asyncio.sleep(0.002)


async def turns() -> None:
    """Enough of the event loop for whoever has begun to come to where they wait; a time might pass in one pause."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_who_is_found_is_written_down_before_it_is_news() -> None:
    reader, mirror = Reader(person("ann")), Mirror()
    one = fetcher(reader, mirror)
    mirror.gate.clear()
    asked = asyncio.create_task(one.fetch([ANN, NOBODY]))
    await until(lambda: mirror.threads)
    await asyncio.sleep(0.02)
    assert not asked.done(), "not before it can be read back"
    assert threading.get_ident() not in mirror.threads, "the event loop does not block"
    mirror.gate.set()
    assert await asked == Fetched(frozenset({ANN}))
    assert mirror.batches == [["o=d", "uid=ann"]]
    await one.close()
    assert reader.closed


async def test_who_nobody_has_costs_no_write_and_is_no_doubt() -> None:
    mirror = Mirror()
    one = fetcher(Reader(), mirror)
    assert await one.fetch([NOBODY]) == Fetched()
    assert mirror.batches == []
    await one.close()


@pytest.mark.parametrize("error", [LookupFailed("no answer"), ValueError("what is this")])
async def test_a_directory_that_does_not_answer_makes_every_key_doubtful_and_says_so_once(error: Exception) -> None:
    reader, doubt = Reader(person("ann")), Doubt()
    one = fetcher(reader, Mirror(), doubt)
    await one.fetch([ANN])
    assert doubt.times == 0
    for times in (1, 2):
        reader.fails = error
        for _ in range(3):
            answer = await one.fetch([ANN, BOB])
            assert set(answer.doubtful) == {ANN, BOB}
            assert not answer.news
            assert "the directory ldap does not answer: " in answer.doubtful[ANN]
        assert doubt.times == times
        reader.fails = None
        assert await one.fetch([BOB]) == Fetched()
    await one.close()


async def test_an_entry_that_makes_no_sense_is_doubt_about_its_address_and_no_silence() -> None:
    """Else whoever writes to that address makes every worker forget what it knows again and again."""
    reader, doubt = Reader(), Doubt()
    one = fetcher(reader, Mirror(), doubt)
    reader.fails = LookupFailed("uid=ann: two values", reply=Muddled.reply)
    reader.fails.__cause__ = Muddled("uid=ann: two values")
    answer = await one.fetch([ANN])
    assert "two values" in answer.doubtful[ANN]
    assert doubt.times == 0
    await one.close()


@pytest.mark.parametrize("error", [ControlUnavailable("locked"), RuntimeError("a mistake")])
async def test_what_cannot_be_written_down_is_doubtful_and_the_next_can_be(error: Exception) -> None:
    mirror = Mirror()
    one = fetcher(Reader(person("ann")), mirror)
    mirror.fails = error
    answer = await one.fetch([ANN, NOBODY])
    assert set(answer.doubtful) == {ANN}
    assert not answer.news
    mirror.fails = None
    assert (await one.fetch([ANN])).news == {ANN}
    await one.close()


async def test_a_write_that_fails_before_its_turn_is_heard_of_by_all_who_wait() -> None:
    mirror = Mirror()
    mirror.fails = ControlUnavailable("locked")
    one = fetcher(Reader(person("ann"), person("bob")), mirror)
    mirror.gate.clear()
    first = asyncio.create_task(one.fetch([ANN]))
    await until(lambda: mirror.threads)
    second = asyncio.create_task(one.fetch([BOB]))
    await turns()
    mirror.gate.set()
    assert set((await first).doubtful) == {ANN}
    assert set((await second).doubtful) == {BOB}
    await one.close()


async def test_a_write_that_fails_late_fails_all_who_came_meanwhile() -> None:
    """Somebody else's lock costs each waiting for it once, however many wait."""
    mirror = Mirror()
    one = fetcher(Reader(person("ann"), person("bob")), mirror)
    mirror.gate.clear()
    first = asyncio.create_task(one.fetch([ANN]))
    await until(lambda: mirror.threads)
    mirror.fails = ControlUnavailable("locked")
    others = [asyncio.create_task(one.fetch([BOB])) for _ in range(50)]
    await turns()
    mirror.gate.set()
    assert set((await first).doubtful) == {ANN}
    assert {frozenset(answer.doubtful) for answer in await asyncio.gather(*others)} == {frozenset({BOB})}
    assert mirror.tries == 1
    await one.close()


async def test_who_has_given_up_waiting_is_not_written() -> None:
    mirror = Mirror()
    one = fetcher(Reader(person("ann"), person("bob")), mirror)
    mirror.gate.clear()
    first = asyncio.create_task(one.fetch([ANN]))
    await until(lambda: mirror.threads)
    tired = asyncio.create_task(one.fetch([BOB]))
    await turns()
    tired.cancel()
    await asyncio.sleep(0)
    mirror.gate.set()
    assert (await first).news == {ANN}
    await asyncio.sleep(0.02)
    assert mirror.batches == [["o=d", "uid=ann"]]
    await one.close()


async def test_an_end_does_not_wait_for_the_lock_once_for_each_who_waits() -> None:
    mirror = Mirror()
    one = fetcher(Reader(person("ann"), person("bob")), mirror)
    mirror.gate.clear()
    first = asyncio.create_task(one.fetch([ANN]))
    await until(lambda: mirror.threads)
    second = asyncio.create_task(one.fetch([BOB]))
    await turns()
    closing = asyncio.create_task(one.close())
    assert set((await second).doubtful) == {BOB}
    assert not closing.done()
    mirror.gate.set()
    await closing
    assert (await first).news == {ANN}
    assert mirror.tries == 1


async def test_answers_carry_the_time_of_their_question() -> None:
    mirror, now = Mirror(), [100.0]
    reader = Reader(person("ann"))
    one = Fetcher("ldap", reader, lambda: mirror, Doubt(), rest=0.01, wall=lambda: now[0])
    find = reader.find

    async def slow(keys: Sequence[str]) -> Sequence[DirectoryItem]:
        now[0] += 5.0
        return await find(keys)

    reader.find = slow  # type: ignore[method-assign]
    await one.fetch([ANN])
    assert mirror.asked == [100.0]
    await one.close()


async def test_a_write_that_is_repeated_has_everybody_in_it_still() -> None:
    mirror = Mirror()
    mirror.repeats = 3
    one = fetcher(Reader(person("ann"), person("bob")), mirror)
    mirror.gate.clear()
    asked = [asyncio.create_task(one.fetch([key])) for key in (ANN, BOB)]
    await until(lambda: mirror.threads)
    await turns()
    mirror.gate.set()
    assert [answer.news for answer in await asyncio.gather(*asked)] == [{ANN}, {BOB}]
    assert mirror.batches == [["o=d", "uid=ann", "uid=bob"]]
    await one.close()


async def test_what_comes_while_one_write_is_under_way_is_written_together() -> None:
    people = [person(f"p{number}") for number in range(TOGETHER + 10)]
    mirror = Mirror()
    one = fetcher(Reader(*people), mirror)
    mirror.gate.clear()
    first = asyncio.create_task(one.fetch([people[0].key]))
    await until(lambda: mirror.threads)
    rest = [asyncio.create_task(one.fetch([each.key])) for each in people[1:]]
    await turns()
    mirror.gate.set()
    answers = await asyncio.gather(first, *rest)
    assert all(answer.news for answer in answers)
    sizes = [len(batch) - 1 for batch in mirror.batches]
    assert sizes == [TOGETHER, 10], "each entry once, the domain in each, and who came while the first one waited"
    await one.close()


async def test_one_task_writes_however_many_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror()
    one = fetcher(Reader(person("ann"), person("bob")), mirror)
    original, begun = one._write_all, []

    async def counted() -> None:
        begun.append(1)
        await original()

    monkeypatch.setattr(one, "_write_all", counted)
    await asyncio.gather(one.fetch([ANN]), one.fetch(["bob@example.edu"]))
    assert len(begun) == 1
    await one.close()


async def test_who_stops_waiting_keeps_nobody_else_from_an_answer() -> None:
    mirror = Mirror()
    one = fetcher(Reader(person("ann"), person("bob")), mirror)
    mirror.gate.clear()
    asked = [asyncio.create_task(one.fetch([key])) for key in (ANN, BOB)]
    await until(lambda: mirror.threads)
    asked[0].cancel()
    await turns()
    mirror.gate.set()
    assert (await asked[1]).news == {BOB}
    await one.close()


async def test_somebody_who_is_there_twice_is_asked_for_by_name_and_once() -> None:
    mirror = Mirror()
    reader = Reader(person("ann", "uid=anna"))
    one = fetcher(reader, mirror)
    mirror.contested = {ANN}
    mirror.stays_contested = {ANN}  # it really is there twice
    assert (await one.fetch([ANN])).news == {ANN}
    await until(lambda: mirror.confirmed)
    await asyncio.sleep(0.05)
    assert mirror.confirmed == [["o=d", "uid=anna"]]
    assert reader.asked == [(ANN,), (ANN,)]
    await one.close()


@pytest.mark.parametrize("where", ["reader", "mirror"])
async def test_a_question_about_the_contested_is_asked_until_it_is_answered(where: str) -> None:
    mirror, reader = Mirror(), Reader(person("ann"))
    one = fetcher(reader, mirror)
    await _contest(one, mirror, reader, where)
    await asyncio.sleep(0.05)
    assert mirror.confirmed == []
    reader.fails = mirror.cannot_confirm = None
    await until(lambda: mirror.confirmed)
    await one.close()


async def test_one_question_about_the_contested_is_under_way_at_a_time() -> None:
    mirror, reader = Mirror(), Reader(person("ann"), person("bob"))
    one = Fetcher("ldap", reader, lambda: mirror, Doubt(), rest=60.0)
    await _contest(one, mirror, reader, "mirror")
    before = len(asyncio.all_tasks())
    mirror.contested = {BOB}
    assert (await one.fetch([BOB])).news == {BOB}
    await asyncio.sleep(0.02)
    assert len(asyncio.all_tasks()) == before
    await one.close()


async def test_a_close_ends_a_question_that_is_asked_again_and_again() -> None:
    mirror, reader = Mirror(), Reader(person("ann"))
    one = Fetcher("ldap", reader, lambda: mirror, Doubt(), rest=60.0)
    await _contest(one, mirror, reader, "reader")
    await until(lambda: len(reader.asked) == 2)
    async with asyncio.timeout(30):
        await one.close()


async def _contest(one: Fetcher, mirror: Mirror, reader: Reader, where: str) -> None:
    """ann is found, and there twice; what is asked or written after that fails."""
    mirror.contested = {ANN}
    mirror.gate.clear()
    asked = asyncio.create_task(one.fetch([ANN]))
    await until(lambda: mirror.threads)
    if where == "reader":
        reader.fails = LookupFailed("no answer")
    else:
        mirror.cannot_confirm = ControlUnavailable("locked")
    mirror.gate.set()
    assert (await asked).news == {ANN}


# --- all directories together ------------------------------------------------------------------------------------


async def test_unknown_is_only_said_when_all_directories_have_answered() -> None:
    up, silent = Reader(person("ann")), Reader()
    silent.fails = LookupFailed("no answer")
    both = Everywhere([fetcher(up, Mirror()), fetcher(silent, Mirror())])
    answer = await both.fetch([ANN, NOBODY])
    assert answer.news == {ANN}
    assert NOBODY in answer.doubtful
    await both.close()


async def test_without_directories_nothing_is_asked_and_nothing_is_in_doubt() -> None:
    assert await Everywhere().fetch([ANN]) == Fetched()


async def test_a_swap_asks_the_new_ones_and_gives_back_the_former() -> None:
    old, new = Reader(person("ann")), Reader(person("bob"))
    former = fetcher(old, Mirror())
    one = Everywhere([former])
    assert list(one.use([fetcher(new, Mirror())])) == [former]
    assert (await one.fetch([ANN, BOB])).news == {BOB}
    assert not old.asked
    await former.close()
    await one.close()
