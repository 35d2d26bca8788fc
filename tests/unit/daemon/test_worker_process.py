"""How a worker shares its processor: all its threads let others finish their turn (`SCHED_BATCH`), where it may."""

import os
import threading

import pytest

from router.daemon import worker_process


def policy_of_a_worker() -> tuple[int, int]:
    """Of a thread that is about to be a worker's first, and of one that it starts."""
    found: list[int] = []

    def first() -> None:
        worker_process._share_the_processor()
        found.append(os.sched_getscheduler(0))
        other = threading.Thread(target=lambda: found.append(os.sched_getscheduler(0)))
        other.start()
        other.join()

    thread = threading.Thread(target=first)
    thread.start()
    thread.join()
    return found[0], found[1]


def test_every_thread_of_a_worker_lets_others_finish() -> None:
    assert policy_of_a_worker() == (os.SCHED_BATCH, os.SCHED_BATCH)


def test_where_it_is_forbidden_it_goes_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    assert policy_of_a_worker() == (os.SCHED_OTHER, os.SCHED_OTHER)


def test_what_an_administrator_has_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getscheduler", lambda _: os.SCHED_IDLE)
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: pytest.fail("it was changed"))
    worker_process._share_the_processor()
