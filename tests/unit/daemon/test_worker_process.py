"""How a worker shares the processors: its threads let others finish their turn, and stay on one core of as many."""

import os
import threading
from collections.abc import Callable

import pytest

from router.daemon import worker_process

CORES = os.sched_getaffinity(0)


def seen(look: Callable[[], object], slot: int = 0, workers: int = len(CORES)) -> list[object]:
    """In a thread that is about to be a worker's first, and in one that it starts."""
    found: list[object] = []

    def first() -> None:
        worker_process._share_the_processors(slot, workers)
        found.append(look())
        other = threading.Thread(target=lambda: found.append(look()))
        other.start()
        other.join()

    thread = threading.Thread(target=first)
    thread.start()
    thread.join()
    return found


def policy() -> int:
    return os.sched_getscheduler(0)


def cores() -> set[int]:
    return os.sched_getaffinity(0)


def test_every_thread_of_a_worker_lets_others_finish() -> None:
    assert seen(policy) == [os.SCHED_BATCH, os.SCHED_BATCH]


def test_as_many_workers_as_cores_have_one_each() -> None:
    had = [seen(cores, slot) for slot in range(len(CORES))]
    assert had == [[{core}, {core}] for core in sorted(CORES)]


@pytest.mark.parametrize("more", [1, -1])
def test_fewer_or_more_workers_go_wherever_there_is_room(more: int) -> None:
    assert seen(cores, 0, len(CORES) + more) == [CORES, CORES]


def test_who_only_drains_a_spool_takes_nobodys_core() -> None:
    assert seen(cores, len(CORES)) == [CORES, CORES]


def test_where_it_is_forbidden_it_goes_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    assert seen(policy) == [os.SCHED_OTHER, os.SCHED_OTHER]
    assert seen(cores) == [CORES, CORES]


def test_what_an_administrator_has_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getscheduler", lambda _: os.SCHED_IDLE)
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: pytest.fail("it was changed"))
    worker_process._share_the_processors(0, len(CORES) + 1)
