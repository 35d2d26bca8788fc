"""What the loop that follows a directory does with answers, failures and long sweeps, over a directory in memory."""

import threading
from collections.abc import Iterator, Sequence

import pytest

from router.daemon.directory_loop import DirectoryLoop
from router.errors import ControlUnavailable, LookupFailed
from router.model.directory import Cookie, DirectoryItem, Entry, Polled, Role, Unplaced


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def person(name: str, version: str) -> Entry:
    key = f"{name}@example.edu"
    return Entry(f"uid={name}", Role.PERSON, key, (key,), version, home="old")


class Feed:
    """A directory of three pages; `fails` is raised by whatever is asked next."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.pages = [[person("a", "1")], [person("b", "2")], [person("c", "3")]]
        self.news: list[Entry] = []
        self.fails: Exception | None = None
        self.newest = "3"
        self.page_seconds = 0.0
        self.breaks_at: int | None = None
        self.unplaced: list[Unplaced] = []
        self.lost: set[str] = set()
        self.asked: list[str] = []
        self.closed = False

    def cookie(self) -> Cookie:
        self._fail()
        self.asked.append("cookie")
        return Cookie("s", self.newest)

    def poll(self, since: Cookie) -> Polled:
        """As a real one: who is to sweep gets the cookie back as it was, and hears the same until it has another."""
        self._fail()
        self.asked.append(f"poll {since.value}")
        if since.value in self.lost:
            return Polled((), since, resweep=True)
        news, self.news = tuple(self.news), []
        unplaced, self.unplaced = tuple(self.unplaced), []
        return Polled(news, Cookie("s", self.newest), unplaced=unplaced)

    def sweep(self) -> Iterator[Sequence[DirectoryItem | Unplaced]]:
        for number, page in enumerate(self.pages):
            if number == self.breaks_at:
                raise LookupFailed("the server hung up")
            self.clock.now += self.page_seconds
            self.asked.append("page")
            yield page

    def close(self) -> None:
        self.closed = True

    def _fail(self) -> None:
        if self.fails is not None:
            raise self.fails


class Shadow:
    def __init__(self) -> None:
        self.stored = Cookie()
        self.told: list[str] = []
        self.fails: Exception | None = None

    def cookie(self) -> Cookie:
        return self.stored

    def apply(self, items: Sequence[DirectoryItem | Unplaced]) -> None:
        self._note("apply " + " ".join(one.dn for one in items))

    def begin_sweep(self) -> None:
        self._note("begin")

    def swept(self, items: Sequence[DirectoryItem | Unplaced]) -> None:
        self._note("swept " + " ".join(one.dn for one in items))

    def end_sweep(self) -> None:
        self._note("end")

    def followed(self, cookie: Cookie) -> None:
        self._note(f"followed {cookie.value}")
        self.stored = cookie

    def fault(self, text: str) -> None:
        self._note(f"fault {text}")

    def _note(self, what: str) -> None:
        if self.fails is not None:
            raise self.fails
        self.told.append(what)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def feed(clock: Clock) -> Feed:
    return Feed(clock)


@pytest.fixture
def shadow() -> Shadow:
    return Shadow()


@pytest.fixture
def loop(feed: Feed, shadow: Shadow, clock: Clock) -> DirectoryLoop:
    return DirectoryLoop("ldap", feed, shadow, follow=2.0, sweep=900.0, monotonic=clock)


def test_the_first_turn_sweeps_from_a_cookie_taken_before(loop: DirectoryLoop, feed: Feed, shadow: Shadow) -> None:
    assert loop.turn() == 2.0
    assert feed.asked == ["cookie", "page", "page", "page"]
    assert shadow.told == ["begin", "swept uid=a", "swept uid=b", "swept uid=c", "end", "followed 3"]


def test_then_it_polls_and_tells_only_news(loop: DirectoryLoop, feed: Feed, shadow: Shadow, clock: Clock) -> None:
    loop.turn()
    shadow.told.clear()
    clock.now += 2.0
    loop.turn()
    feed.news, feed.newest = [person("d", "4")], "4"
    clock.now += 2.0
    loop.turn()
    assert shadow.told == ["followed 3", "apply uid=d", "followed 4"]


def test_a_restart_goes_on_from_the_stored_cookie_but_sweeps_first(
    loop: DirectoryLoop, feed: Feed, shadow: Shadow
) -> None:
    shadow.stored = Cookie("s", "2")
    loop.turn()
    assert "poll 2" in feed.asked
    assert shadow.told[-2:] == ["end", "followed 3"]


def test_polls_go_on_while_a_long_sweep_runs(loop: DirectoryLoop, feed: Feed, shadow: Shadow, clock: Clock) -> None:
    loop.turn()
    clock.now += 900.0
    feed.page_seconds, feed.news, feed.newest = 3.0, [person("d", "4")], "4"
    shadow.told.clear()
    loop.turn()
    assert shadow.told.index("apply uid=d") < shadow.told.index("end")
    assert shadow.told[-1] == "followed 4"


def test_a_sweep_that_breaks_off_never_ends(loop: DirectoryLoop, feed: Feed, shadow: Shadow) -> None:
    feed.breaks_at = 1
    loop.turn()
    assert "end" not in shadow.told
    assert shadow.told[-1] == "fault the server hung up"
    feed.breaks_at = None
    loop.turn()
    assert shadow.told[-2:] == ["end", "followed 3"]


def test_a_server_that_lost_what_it_knew_is_swept_at_once(
    loop: DirectoryLoop, feed: Feed, shadow: Shadow, clock: Clock
) -> None:
    loop.turn()
    feed.lost, feed.newest = {"3"}, "2"
    shadow.told.clear()
    clock.now += 2.0
    loop.turn()
    assert shadow.told == [], "what was not followed is not called followed"
    feed.asked.clear()
    for _ in range(3):
        clock.now += loop.turn()
    assert feed.asked == ["cookie", "page", "page", "page", "poll 2", "poll 2"]
    assert shadow.told[0] == "begin"


def test_an_entry_that_makes_no_sense_any_more_is_told_at_once(
    loop: DirectoryLoop, feed: Feed, shadow: Shadow, clock: Clock
) -> None:
    loop.turn()
    shadow.told.clear()
    feed.unplaced = [Unplaced("uid=a", "has no address")]
    clock.now += 2.0
    loop.turn()
    assert shadow.told == ["apply uid=a", "followed 3"]


@pytest.mark.parametrize("error", [LookupFailed("down"), RuntimeError("odd")])
def test_whatever_fails_is_a_fault_and_is_tried_again(
    loop: DirectoryLoop, feed: Feed, shadow: Shadow, error: Exception
) -> None:
    feed.fails = error
    assert loop.turn() == 2.0
    assert loop.turn() == 4.0
    assert [told.split()[0] for told in shadow.told] == ["fault", "fault"]
    feed.fails = None
    assert loop.turn() == 2.0
    assert shadow.told[-1] == "followed 3"


@pytest.mark.parametrize(("follow", "longest"), [(0.1, 5.0), (2.0, 5.0), (60.0, 60.0)])
def test_a_directory_that_was_away_for_long_is_followed_again_within_seconds(
    feed: Feed, shadow: Shadow, clock: Clock, follow: float, longest: float
) -> None:
    loop = DirectoryLoop("ldap", feed, shadow, follow=follow, sweep=900.0, monotonic=clock)
    feed.fails = LookupFailed("down")
    assert max(loop.turn() for _ in range(2000)) == longest


def test_a_control_database_that_is_away_ends_nothing(loop: DirectoryLoop, shadow: Shadow) -> None:
    shadow.fails = ControlUnavailable("locked up")
    loop.turn()
    shadow.fails = None
    loop.turn()
    assert shadow.told[-1] == "followed 3"


def test_a_stop_in_the_middle_of_a_sweep_takes_nobody_out(loop: DirectoryLoop, feed: Feed, shadow: Shadow) -> None:
    stop = threading.Event()
    stop.set()
    loop.turn(stop)
    assert shadow.told == ["begin", "swept uid=a"]
    loop.run(stop)
    assert feed.closed
