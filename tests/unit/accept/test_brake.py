"""MAIL waits as space runs short: for those who would be taken, no longer than the client or we are there."""

import asyncio
import socket
import struct

import pytest
from support.smtp_site import Start

from router.accept import replies
from router.model.reply import Reply

FOR_EVER = 86400.0
NO_SPACE = Reply(452, "4.3.1", "Insufficient system storage")


async def test_mail_waits_as_long_as_it_is_told_to(start: Start) -> None:
    site = await start()
    wire = await site.dial()
    await wire.hello()
    site.house.seconds = 0.3
    began = asyncio.get_running_loop().time()
    assert await wire.ask("MAIL FROM:<a@b.example>") == str(replies.SENDER_OK)
    assert asyncio.get_running_loop().time() - began >= 0.3


async def test_what_came_before_is_answered_before_the_wait(start: Start) -> None:
    site = await start()
    wire = await site.dial()
    await wire.hello()
    site.house.seconds = FOR_EVER
    await wire.send("NOOP\r\nMAIL FROM:<a@b.example>\r\n")
    assert await wire.reply() == str(replies.OK)


async def test_who_is_refused_anyhow_does_not_wait(start: Start) -> None:
    site = await start()
    wire = await site.dial()
    await wire.hello()
    site.house.seconds, site.house.mail_refusal = FOR_EVER, NO_SPACE
    assert await wire.ask("MAIL FROM:<a@b.example>") == str(NO_SPACE)


async def test_space_that_went_meanwhile_is_told(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    site = await start()
    wire = await site.dial()
    await wire.hello()

    def pause() -> float:
        site.house.mail_refusal = NO_SPACE
        return 0.3

    monkeypatch.setattr(site.house, "pause", pause)
    assert await wire.ask("MAIL FROM:<a@b.example>") == str(NO_SPACE)


async def test_a_stop_does_not_wait_for_who_waits(start: Start) -> None:
    site = await start()
    wire = await site.dial()
    await wire.hello()
    site.house.seconds = FOR_EVER
    await wire.send("MAIL FROM:<a@b.example>\r\n")
    await asyncio.sleep(0.1)
    assert await site.listeners.drain(60) is True
    assert await wire.reply() == str(replies.SHUTDOWN)


async def test_a_client_that_goes_while_it_waits_leaves_nothing_behind(start: Start) -> None:
    site = await start()
    wire = await site.dial()
    await wire.hello()
    site.house.seconds = FOR_EVER
    await wire.send("MAIL FROM:<a@b.example>\r\n")
    await asyncio.sleep(0.1)
    connection = wire.writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.reset()
    await asyncio.wait_for(site.observer.gone.wait(), 60)


async def test_a_client_that_has_said_all_at_once_and_ended_its_side_is_served(start: Start) -> None:
    site = await start()
    wire = await site.dial()
    await wire.hello()
    site.house.seconds = 0.3
    await wire.send("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@example.edu>\r\nQUIT\r\n")
    wire.writer.write_eof()
    assert await wire.reply() == str(replies.SENDER_OK)
    assert await wire.reply() == str(replies.RECIPIENT_OK)
    assert (await wire.reply()).startswith("221")
