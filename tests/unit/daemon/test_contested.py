"""People whom a directory seems to have twice are asked for again: when, how many at a time, and what counts."""

import time
from collections.abc import Sequence

import pytest

from router.daemon.contested import MOST, REST, Confirming
from router.directory.faults import Fault
from router.directory.inquiry import Items, Told
from router.errors import ControlUnavailable
from router.model.directory import Cookie, DirectoryItem, Entry, Role, Unplaced

ANN, BOB = "ann@example.edu", "bob@example.edu"
COOKIE = Cookie("s", "1")


def person(key: str) -> Entry:
    return Entry(f"uid={key}", Role.PERSON, key, (key,), "1", home="old")


class Mirror:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.contested: set[str] = set()
        self.stays: set[str] = set()
        self.fails: Exception | None = None

    def take_contested(self) -> list[str]:
        taken, self.contested = sorted(self.contested), set()
        return taken

    def confirm(self, items: Sequence[DirectoryItem], asked: float) -> object:
        assert asked <= time.time()
        if self.fails is not None:
            raise self.fails
        self.contested |= {item.key for item in items if isinstance(item, Entry)} & self.stays
        return self._note("confirm", *(item.dn for item in items))

    def cookie(self) -> Cookie:
        self._note("cookie")
        return COOKIE

    def followed(self, cookie: Cookie) -> None:
        self._note("followed", cookie.value)

    def apply(self, items: Sequence[DirectoryItem | Unplaced]) -> object:
        return self._note("apply", *(item.dn for item in items))

    def begin_sweep(self) -> None:
        self._note("begin")

    def swept(self, items: Sequence[DirectoryItem | Unplaced]) -> object:
        return self._note("swept", *(item.dn for item in items))

    def end_sweep(self) -> object:
        return self._note("end")

    def fault(self, text: str) -> None:
        self._note("fault", text)

    def _note(self, *words: str) -> int:
        self.calls.append(" ".join(words))
        return len(self.calls)


class Inquiry:
    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.until: list[float] = []
        self.faults: set[str] = set()

    def ask(self, keys: Sequence[str], until: float) -> Told:
        self.asked.append(list(keys))
        self.until.append(until)
        answers: dict[str, Items | Fault] = {
            key: Fault("no answer") if key in self.faults else (person(key),) for key in keys
        }
        return Told(answers, outage=False)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Rig:
    def __init__(self) -> None:
        self.mirror, self.inquiry, self.clock = Mirror(), Inquiry(), Clock()
        self.one = Confirming(self.mirror, self.inquiry, 2.0, self.clock)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_who_is_contested_is_asked_for_after_the_directory_was_followed(rig: Rig) -> None:
    rig.mirror.contested = {ANN, BOB}
    rig.one.apply([person(ANN)])
    assert rig.inquiry.asked == []
    rig.one.followed(COOKIE)
    assert rig.inquiry.asked == [[ANN, BOB]]
    assert rig.inquiry.until == [102.0]
    assert rig.mirror.calls == [f"apply uid={ANN}", "followed 1", f"confirm uid={ANN}", f"confirm uid={BOB}"]
    rig.one.followed(COOKIE)
    assert len(rig.inquiry.asked) == 1


def test_nobody_contested_costs_no_question(rig: Rig) -> None:
    rig.one.followed(COOKIE)
    assert rig.inquiry.asked == []


def test_an_answer_that_is_none_is_asked_for_again_after_a_rest(rig: Rig) -> None:
    rig.mirror.contested, rig.inquiry.faults = {ANN, BOB}, {ANN}
    rig.one.followed(COOKIE)
    assert rig.mirror.calls == ["followed 1", f"confirm uid={BOB}"]
    rig.clock.now += REST - 0.1
    rig.one.followed(COOKIE)
    assert len(rig.inquiry.asked) == 1
    rig.clock.now += 0.1
    rig.inquiry.faults = set()
    rig.one.followed(COOKIE)
    assert rig.inquiry.asked[1:] == [[ANN]]
    assert rig.mirror.calls[-1] == f"confirm uid={ANN}"


def test_an_answer_that_cannot_be_written_down_is_asked_for_again(rig: Rig) -> None:
    rig.mirror.contested, rig.mirror.fails = {ANN, BOB}, ControlUnavailable("locked")
    with pytest.raises(ControlUnavailable):
        rig.one.followed(COOKIE)
    rig.mirror.fails = None
    rig.one.followed(COOKIE)
    assert rig.inquiry.asked == [[ANN, BOB], [ANN, BOB]]
    assert rig.mirror.calls[-2:] == [f"confirm uid={ANN}", f"confirm uid={BOB}"]


def test_who_really_is_there_twice_is_asked_for_once(rig: Rig) -> None:
    rig.mirror.contested, rig.mirror.stays = {ANN}, {ANN}
    for _ in range(3):
        rig.one.followed(COOKIE)
        rig.clock.now += REST
    assert rig.inquiry.asked == [[ANN]]


def test_who_becomes_contested_by_an_answer_is_asked_for_next(rig: Rig) -> None:
    rig.mirror.contested = {ANN}
    rig.inquiry.faults = {ANN}
    rig.one.followed(COOKIE)
    rig.mirror.contested = {BOB}
    rig.one.followed(COOKIE)
    assert rig.inquiry.asked == [[ANN], [BOB]]


def test_many_are_asked_for_in_parts(rig: Rig) -> None:
    rig.mirror.contested = {f"p{number}@example.edu" for number in range(MOST + 5)}
    rig.one.followed(COOKIE)
    rig.one.followed(COOKIE)
    assert [len(keys) for keys in rig.inquiry.asked] == [MOST, 5]


def test_everything_else_is_the_mirrors(rig: Rig) -> None:
    assert rig.one.cookie() == COOKIE
    rig.one.begin_sweep()
    rig.one.swept([person(ANN)])
    rig.one.end_sweep()
    rig.one.fault("no answer")
    assert rig.mirror.calls == ["cookie", "begin", f"swept uid={ANN}", "end", "fault no answer"]
