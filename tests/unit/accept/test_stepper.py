"""The coroutine of a session, driven by callbacks."""

import asyncio
import logging

import pytest

from router.accept.inbox import Inbox
from router.accept.replies import HangUp
from router.accept.stepper import Stepper


async def test_it_begins_in_the_next_turn_and_goes_on_in_the_turn_after_data_came() -> None:
    inbox, seen = Inbox(), []

    async def session() -> None:
        seen.append("begun")
        for _ in range(2):
            await inbox.wait()
            seen.append(inbox.take().decode())

    Stepper(asyncio.get_running_loop(), session())
    assert not seen
    await asyncio.sleep(0)
    inbox.feed(b"one, ")
    inbox.feed(b"two")
    assert seen == ["begun"]
    await asyncio.sleep(0)
    assert seen == ["begun", "one, two"]
    inbox.fail(HangUp())
    inbox.feed(b"three")
    await asyncio.sleep(0)
    assert seen == ["begun", "one, two", "three"]


async def test_results_and_errors_of_futures_reach_the_coroutine() -> None:
    loop = asyncio.get_running_loop()
    first, second, seen = loop.create_future(), loop.create_future(), []

    async def session() -> None:
        seen.append(await first)
        try:
            await second
        except ValueError as error:
            seen.append(str(error))
        await asyncio.sleep(0)
        seen.append(await asyncio.to_thread(str, 7))
        seen.append(await asyncio.create_task(asyncio.sleep(0.001, "slept")))
        ended.set()

    ended = asyncio.Event()
    Stepper(loop, session())
    first.set_result("result")
    await asyncio.sleep(0)
    second.set_exception(ValueError("error"))
    await asyncio.wait_for(ended.wait(), 60)
    assert seen == ["result", "error", "7", "slept"]


async def test_a_future_may_be_waited_for_by_a_session_and_a_task() -> None:
    loop = asyncio.get_running_loop()
    shared, seen = loop.create_future(), []

    async def session() -> None:
        seen.append(await shared)

    Stepper(loop, session())
    tasks = [asyncio.create_task(session()) for _ in range(2)]
    await asyncio.sleep(0)
    shared.set_result(1)
    await asyncio.gather(*tasks)
    assert seen == [1, 1, 1]


async def test_an_error_is_logged_and_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox()

    async def session() -> None:
        await inbox.wait()
        raise ValueError("unforeseen")

    Stepper(asyncio.get_running_loop(), session())
    await asyncio.sleep(0)
    with caplog.at_level(logging.ERROR):
        inbox.feed(b"x")
        await asyncio.sleep(0)
    assert "unforeseen" in caplog.text
    inbox.feed(b"y")
    await asyncio.sleep(0)


async def test_a_session_that_ends_or_is_cancelled_is_no_error_of_the_loop() -> None:
    loop = asyncio.get_running_loop()
    told: list[object] = []
    loop.set_exception_handler(lambda _loop, context: told.append(context))

    async def ends() -> None:
        await asyncio.sleep(0)

    async def cancelled() -> None:
        raise asyncio.CancelledError

    Stepper(loop, ends())
    Stepper(loop, cancelled())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not told
