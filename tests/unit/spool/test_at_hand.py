"""Bodies that are read together with released mail."""

import sqlite3
from typing import Any

from router.spool import schema
from router.spool.spool import Spool

BOX = "a@example.edu"


async def released(kit: Any, spool: Spool, *bodies: bytes) -> None:
    for body in bodies:
        await kit.put(spool, kit.rcpt(BOX, held=True), body=body)
    await spool.release([BOX], 500.0)


async def test_bodies_are_at_hand_as_far_as_the_octets_go(kit: Any, spool: Spool) -> None:
    bodies = [bytes([65 + place]) * 100 for place in range(5)]
    await released(kit, spool, *bodies)
    works = await spool.draining(BOX, 4, 250)
    assert [work.message.inline for work in works] == [bodies[0], bodies[1], None, None]
    assert [work.message.inline for work in await spool.draining(BOX, 4)] == [None] * 4


async def test_a_body_in_a_file_is_left_there(kit: Any, spool: Spool) -> None:
    large = b"x" * 200_000
    await released(kit, spool, large, b"small")
    works = await spool.draining(BOX, 4, 1 << 20)
    assert [work.message.inline for work in works] == [None, b"small"]


async def test_two_recipients_of_a_message_share_its_body(kit: Any, spool: Spool) -> None:
    await kit.put(spool, kit.rcpt(BOX, held=True), kit.rcpt("b@example.edu", held=True, mailbox=BOX), body=b"x" * 100)
    await spool.release([BOX], 500.0)
    first, second = await spool.draining(BOX, 4, 150)
    assert first.message.inline is second.message.inline is not None


async def test_a_damaged_body_is_not_handed_out(kit: Any, spool: Spool) -> None:
    await released(kit, spool, b"first", b"other")
    with sqlite3.connect(spool.directory / schema.DATABASE) as database:
        database.execute("UPDATE messages SET body = X'00' WHERE id = (SELECT min(id) FROM messages)")
    works = await spool.draining(BOX, 4, 1000)
    assert [work.message.inline for work in works] == [None, b"other"]
