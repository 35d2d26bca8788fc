"""The order of servers, the pool of connections and the circuit breaker, with servers in memory and a clock by hand."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from router.directory.breaker import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, Breaker
from router.directory.connection import LdapConnection
from router.directory.faults import Fault, Lost, TimedOut, Troubled, Unfit
from router.directory.rota import FIRST_REST, LONGEST_REST, Rota
from router.directory.servers import LONGEST_IDLE, Servers
from router.settings.directory import Ldap

A, B = "ldap://a", "ldap://b"


class HandClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeConnection:
    """Stands for a connection; `fails` is what each use of it raises, by server."""

    def __init__(self, uri: str, park: "Park") -> None:
        self.uri, self.used, self.closed = uri, park.clock(), False
        self._park = park

    def close(self) -> None:
        self.closed = True

    def ask(self) -> str:
        if self.closed or self in self._park.dead:
            raise Lost("closed")
        if self.uri in self._park.fails:
            raise self._park.fails[self.uri]
        return self.uri


class Park:
    """All connections of a test."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.fails: dict[str, Fault] = {}
        self.refuses: dict[str, Fault] = {}
        self.opened: list[FakeConnection] = []
        self.dead: list[FakeConnection] = []

    def connect(self, source: Ldap, uri: str, until: float) -> Any:
        if uri in self.refuses:
            raise self.refuses[uri]
        self.opened.append(FakeConnection(uri, self))
        return self.opened[-1]

    def servers(self, **more: Any) -> Servers:
        return Servers(Ldap(uri=[A, B], base="dc=x", **more), self.clock, self.connect)

    def ask(self, servers: Servers) -> str:
        return servers.run(lambda connection, _: use(connection), self.clock() + 10)


def use(connection: LdapConnection) -> str:
    assert isinstance(connection, FakeConnection)
    return connection.ask()


# --- the order


def test_a_server_that_failed_rests_and_longer_each_time() -> None:
    clock = HandClock()
    rota = Rota([A, B], clock)
    rest = FIRST_REST
    for _ in range(6):
        rota.failed(A)
        clock.now += rest - 0.1
        assert rota.order() == [B, A]
        clock.now += 0.2
        assert rota.order() == [A, B]
        rest = min(rest * 2, LONGEST_REST)
    rota.worked(A)
    assert rota.resting() == []


def test_one_caller_finds_out_whether_a_server_works_again() -> None:
    clock = HandClock()
    rota = Rota([A, B], clock)
    rota.failed(A)
    clock.now += FIRST_REST
    assert [rota.order(), rota.order(), rota.order()] == [[A, B], [B, A], [B, A]]
    rota.worked(A)
    assert rota.order() == [A, B]


def test_when_all_rest_they_are_still_asked_and_a_preferred_one_comes_first() -> None:
    clock = HandClock()
    rota = Rota([A, B], clock)
    assert rota.order(prefer=B) == [B, A]
    rota.failed(A)
    clock.now += 1
    rota.failed(B)
    assert rota.order() == [A, B]
    assert rota.order(prefer=B) == [A, B]


# --- the pool


def test_a_connection_is_used_again_and_not_when_it_was_idle_for_long() -> None:
    park = Park()
    servers = park.servers()
    assert [park.ask(servers), park.ask(servers)] == [A, A]
    assert len(park.opened) == 1
    park.clock.now += LONGEST_IDLE
    park.ask(servers)
    assert [one.closed for one in park.opened] == [True, False]


def test_a_connection_that_the_server_closed_meanwhile_costs_nothing_but_a_new_one() -> None:
    park = Park()
    servers = park.servers()
    park.ask(servers)
    park.dead = list(park.opened)
    assert park.ask(servers) == A
    assert servers.rota.resting() == []


def test_when_one_idle_connection_is_dead_the_others_are_not_tried() -> None:
    park = Park()
    servers = park.servers()
    until = park.clock() + 10
    servers.run(lambda one, _: servers.run(lambda other, _: use(other) + use(one), until), until)
    assert len(park.opened) == 2
    park.dead = list(park.opened)
    assert park.ask(servers) == A
    assert [one.closed for one in park.opened] == [True, True, False]


def test_after_an_error_there_is_another_server_and_another_connection() -> None:
    park = Park()
    servers = park.servers()
    park.ask(servers)
    park.fails[A] = Troubled("busy", 51)
    assert park.ask(servers) == B
    assert park.opened[0].closed
    assert servers.rota.resting() == [A]
    park.fails.clear()
    assert park.ask(servers) == B, "A rests"
    park.clock.now += FIRST_REST
    assert park.ask(servers) == A
    assert servers.rota.resting() == []


def test_a_silent_server_is_not_asked_twice_for_one_question() -> None:
    park = Park()
    servers = park.servers()
    park.ask(servers)
    park.fails[A] = TimedOut("silent")
    assert park.ask(servers) == B
    assert [one.uri for one in park.opened] == [A, B]


def test_a_question_that_no_server_could_answer_blames_no_server() -> None:
    park = Park()
    servers = park.servers()
    park.fails[A] = Unfit("too many", 4)
    with pytest.raises(Unfit):
        park.ask(servers)
    assert [one.uri for one in park.opened] == [A]
    assert servers.rota.resting() == []
    assert not park.opened[0].closed


def test_when_no_server_answers_the_last_reason_is_told() -> None:
    park = Park()
    park.refuses = {A: Lost("a is gone"), B: Lost("b is gone")}
    with pytest.raises(Lost, match="b is gone"):
        park.ask(park.servers())


def test_no_more_connections_than_allowed_and_a_deadline_for_who_waits() -> None:
    park = Park()
    servers = Servers(Ldap(uri=[A], base="dc=x", connections=1), time.monotonic, park.connect)
    inside, leave = threading.Event(), threading.Event()

    def hold(connection: LdapConnection, until: float) -> None:
        inside.set()
        leave.wait(60)

    thread = threading.Thread(target=servers.run, args=(hold, time.monotonic() + 60))
    thread.start()
    inside.wait(60)
    with pytest.raises(TimedOut, match="busy"):
        servers.run(lambda connection, _: use(connection), time.monotonic() + 0.1)
    leave.set()
    thread.join()
    assert servers.run(lambda connection, _: use(connection), time.monotonic() + 60) == A
    assert len(park.opened) == 1


def test_close_ends_connections_in_use_too() -> None:
    park = Park()
    servers = park.servers()
    park.ask(servers)

    def close_inside(connection: LdapConnection, until: float) -> str:
        servers.close()
        return use(connection)

    with pytest.raises(Lost):
        servers.run(close_inside, park.clock() + 10)
    assert all(one.closed for one in park.opened)
    with pytest.raises(Lost):
        park.ask(servers)
    assert all(one.closed for one in park.opened)


def test_each_server_gets_its_share_of_the_time() -> None:
    park = Park()
    given: list[float] = []

    def note(connection: LdapConnection, until: float) -> str:
        given.append(until - park.clock())
        raise TimedOut("silent")

    with pytest.raises(TimedOut):
        park.servers().run(note, park.clock() + 10)
    assert given == [5.0, 10.0]


# --- the breaker


def driven(act: Callable[[Breaker, HandClock], None]) -> Breaker:
    clock = HandClock()
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        assert not breaker.refuses()
        breaker.sent()
        breaker.failed()
    act(breaker, clock)
    return breaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(HandClock())
    for _ in range(10):
        for _ in range(FAILURES - 1):
            breaker.sent()
            breaker.failed()
        breaker.sent()
        breaker.answered()
    assert not breaker.open


def test_half_open_lets_one_question_through() -> None:
    def act(breaker: Breaker, clock: HandClock) -> None:
        assert breaker.refuses()
        clock.now += FIRST_PAUSE
        assert not breaker.refuses()
        breaker.sent()
        assert breaker.refuses()
        breaker.answered()
        assert not breaker.refuses()

    assert not driven(act).open


def test_a_failed_probe_doubles_the_pause_up_to_its_limit() -> None:
    def act(breaker: Breaker, clock: HandClock) -> None:
        pause = FIRST_PAUSE
        for _ in range(8):
            clock.now += pause
            assert not breaker.refuses()
            breaker.sent()
            breaker.failed()
            pause = min(pause * 2, LONGEST_PAUSE)
            clock.now += pause - 0.01
            assert breaker.refuses()
            clock.now += 0.01
            assert not breaker.refuses()
            clock.now -= pause

    driven(act)


def test_failures_of_questions_that_were_under_way_before_do_not_prolong_the_pause() -> None:
    def act(breaker: Breaker, clock: HandClock) -> None:
        clock.now += FIRST_PAUSE / 2
        breaker.failed()
        clock.now += FIRST_PAUSE / 2
        assert not breaker.refuses()

    driven(act)


def test_a_probe_that_tells_nothing_leaves_room_for_the_next() -> None:
    def act(breaker: Breaker, clock: HandClock) -> None:
        clock.now += FIRST_PAUSE
        breaker.sent()
        breaker.unknown()
        assert not breaker.refuses()

    driven(act)
