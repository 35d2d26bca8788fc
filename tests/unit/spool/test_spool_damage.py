"""Damaged rows, bodies and databases: set aside, never delivered, never deleted, never in the way (inv. 58)."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.errors import BodyDamaged, SpoolUnavailable
from router.model.outcome import Disposition
from router.spool import records, schema
from router.spool.finding import QueueFilter
from router.spool.journal_rows import parse_line
from router.spool.offline import view
from router.spool.spool import Spool

BIG = bytes(range(256)) * 400


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE recipients SET facts = replace(facts, 'a@', 'b@')",
        "UPDATE recipients SET facts = ''",
        "UPDATE recipients SET crc = crc + 1",
        "UPDATE recipients SET facts = CAST(x'ff22' AS TEXT)",
        "UPDATE recipients SET attempts = -1",
        "UPDATE messages SET facts = replace(facts, 'Sender', 'Zender')",
        "UPDATE messages SET size = size + 1",
        "UPDATE messages SET digest = zeroblob(32)",
        "UPDATE messages SET body_file = '../../etc/passwd'",
        "UPDATE messages SET facts = '[]', crc = 0",
        "DELETE FROM messages",
    ],
)
async def test_inv_58_damaged_row_is_quarantined_and_the_rest_goes_on(
    kit: Any, open_spool: Any, directory: Path, statement: str
) -> None:
    spool = await open_spool()
    work = await kit.put(spool)
    await spool.close()
    kit.damage(directory, statement)
    spool = await open_spool(create=False)
    sound = await kit.put(spool, kit.rcpt("c@example.edu"))
    (found,) = await spool.due("cliff", 1000.0, 10)
    assert found.message.number == sound.message.number
    counts = await spool.desk.counts()
    assert (counts.mail.quarantined, counts.mail.queued) == (1, 1)
    assert counts.mail.balanced
    (entry,) = await spool.desk.find(QueueFilter(state="quarantined"))
    assert entry.number == work.recipients[0].number
    assert entry.reason.startswith("damaged: ")
    assert [row.disposition for row in spool.journal.rows(lambda _row: True, 10)] == ["quarantined"]
    with view(directory) as looking:
        assert not looking.examine().sound
    assert await spool.desk.remove([entry.number], actor="root", reason="broken") == 1
    assert (await spool.desk.counts()).mail.balanced


async def test_inv_58_impossible_state_is_noticed(kit: Any, open_spool: Any, directory: Path) -> None:
    spool = await open_spool()
    await kit.put(spool)
    await spool.close()
    kit.damage(directory, "UPDATE recipients SET state = 'qveued'")
    with view(directory) as looking:
        assert looking.examine().rows


@pytest.mark.parametrize("state", [b"qveued", b"parked"])
async def test_inv_58_row_that_contradicts_its_index(kit: Any, open_spool: Any, directory: Path, state: bytes) -> None:
    """The page changed on disk: the index still says queued, and touching the row is an error each time."""
    spool = await open_spool()
    bad = await kit.put(spool)
    await spool.close()
    data = (directory / "queue.db").read_bytes()
    assert data.count(b"queuedcliff") == 1
    (directory / "queue.db").write_bytes(data.replace(b"queuedcliff", state + b"cliff"))
    spool = await open_spool(create=False)
    good = await kit.put(spool, kit.rcpt("c@example.edu"))
    for _ in range(3):
        (found,) = await spool.due("cliff", 1000.0, 1) or await spool.due("cliff", 1000.0, 1)
        assert found.message.number == good.message.number
    await kit.put(spool)
    assert spool.unhealthy() is None
    quarantined = await spool.desk.find(QueueFilter(state="quarantined"))
    assert [entry.number for entry in quarantined] == [bad.recipients[0].number] or spool.findings


async def test_inv_58_inline_body_damaged_in_every_byte(kit: Any, open_spool: Any, directory: Path) -> None:
    spool = await open_spool()
    work = await kit.put(spool, body=b"Subject: x\r\n\r\n0123456789\r\n")
    (found,) = await spool.due("cliff", 1000.0, 1)
    body = work.message.inline
    connection = sqlite3.connect(directory / "queue.db")
    for place in range(len(body)):
        broken = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        for stored in (broken, body[:place]):
            connection.execute("UPDATE messages SET body = ?", (stored,))
            connection.commit()
            with pytest.raises(BodyDamaged):
                await spool.body(found.message)
    connection.execute("UPDATE messages SET body = NULL")
    connection.commit()
    with pytest.raises(BodyDamaged):
        await spool.head(found.message, 10)
    connection.execute("UPDATE messages SET body = ?", (body,))
    connection.commit()
    assert await kit.read(spool, found.message) == body
    connection.close()


def truncate(path: Path) -> None:
    os.truncate(path, len(BIG) - 1)


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(5000)
        file.write(b"\x00")


def symlink(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def directory_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def hard_link(path: Path) -> None:
    os.link(path, path.with_name("second"))


def longer(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


@pytest.mark.parametrize("harm", [Path.unlink, truncate, flip, symlink, directory_instead, fifo, hard_link, longer])
async def test_inv_58_body_file_that_is_not_what_was_written(
    kit: Any, spool: Spool, directory: Path, harm: Callable[[Path], None]
) -> None:
    work = await kit.put(spool, body=BIG)
    harm(directory / "bodies" / work.message.body_file)
    with pytest.raises(BodyDamaged):
        await spool.body(work.message)
    with pytest.raises(BodyDamaged):
        await spool.head(work.message, 10)
    await spool.settle(
        work.message, [kit.outcome(work.recipients[0].number, Disposition.QUARANTINED, note="body damaged")]
    )
    assert (await spool.desk.counts()).mail.quarantined == 1


async def test_page_that_cannot_be_read_is_passed_over(kit: Any, open_spool: Any, directory: Path) -> None:
    """A table page of recipients is destroyed; recipients on other pages are still found."""
    spool = await open_spool()
    for number in range(60):
        await kit.put(spool, kit.rcpt(f"user{number}@example.edu"))
    await spool.close()
    connection = sqlite3.connect(directory / "queue.db")
    connection.execute("PRAGMA journal_mode = DELETE")
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'recipients'").fetchone()[0]
    connection.close()
    data = bytearray((directory / "queue.db").read_bytes())
    page = memoryview(data)[(root - 1) * 4096 : root * 4096]
    assert page[0] == 5, "an interior page of a table"
    leaf = int.from_bytes(page[int.from_bytes(page[12:14], "big") :][:4], "big")
    data[(leaf - 1) * 4096 : leaf * 4096] = b"\xee" * 4096
    (directory / "queue.db").write_bytes(data)
    kit.damage(directory, "PRAGMA journal_mode = WAL")
    spool = await open_spool(create=False)
    works = await spool.due("cliff", 1000.0, 1000)
    assert 0 < len(works) < 60
    assert len(spool.findings) == 60 - len(works)
    assert len(await spool.due("cliff", 1000.0, 5)) == 5


async def test_inv_57_later_schema_is_left_alone(kit: Any, open_spool: Any, directory: Path) -> None:
    spool = await open_spool()
    await spool.close()
    kit.damage(directory, f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")
    before = (directory / "queue.db").read_bytes()
    with pytest.raises(SpoolUnavailable, match="left alone"):
        await open_spool()
    assert (directory / "queue.db").read_bytes() == before


async def test_lost_database_is_not_replaced_by_an_empty_one(kit: Any, open_spool: Any, directory: Path) -> None:
    spool = await open_spool()
    await kit.put(spool)
    await spool.close()
    (directory / "queue.db").unlink()
    with pytest.raises(SpoolUnavailable, match="is gone"):
        await open_spool()
    with pytest.raises(SpoolUnavailable, match="no spool here"):
        await open_spool(create=False)


async def test_prc9_lost_tail_is_found_and_numbers_go_on(kit: Any, open_spool: Any, directory: Path) -> None:
    spool = await open_spool()
    await kit.put(spool)
    await spool.close()
    saved = (directory / "queue.db").read_bytes()
    spool = await open_spool()
    lost = [await kit.put(spool) for _ in range(3)]
    await spool.close()
    (directory / "queue.db").write_bytes(saved)
    spool = await open_spool()
    assert "acknowledged mail" in spool.findings[0]
    assert (await kit.put(spool)).message.number > lost[-1].message.number


@example(b"1")
@example(b"{}")
@example(b"[" * 200_000)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_inv_59_journal_lines_parse_or_raise_value_error(data: bytes) -> None:
    try:
        parse_line(data)
    except ValueError:
        return


@example((1, 0.0, 0, 0, "[]", "", b"", 0))
@example((1, 0.0, 0, 0, "{}", "", b"", 0))
@given(
    st.tuples(
        st.integers(0, 1 << 62),
        st.floats(),
        st.integers(),
        st.integers(),
        st.text(),
        st.text(),
        st.binary(),
        st.integers(),
    )
)
def test_inv_59_rows_decode_or_raise_body_damaged(row: tuple[Any, ...]) -> None:
    number, at, size, own, facts, file, digest, _ = row
    for crc in (row[-1], records.message_crc(number, at, size, own, facts, file, digest)):
        try:
            records.decode_message(1, 0, (*row[:-1], crc))
        except BodyDamaged:
            continue


@example("[]", 1)
@example("1", 1)
@example("{}", 1)
@given(st.text(max_size=50), st.integers(0, 1 << 62))
def test_inv_59_recipient_rows_decode_or_raise_body_damaged(facts: str, number: int) -> None:
    crc = records.recipient_crc(number, 0, facts)
    try:
        records.decode_recipient((number, "queued", "", "", 0.0, 0, 0.0, None, 0, 0, 0, 0, "", facts, crc))
    except BodyDamaged:
        return


@pytest.mark.parametrize("place", [0, 65536, 262144, 599_999])
async def test_inv_58_a_large_body_is_verified_while_it_is_read_and_never_handed_out_whole(
    kit: Any, spool: Spool, directory: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    monkeypatch.setattr("router.spool.bodies.VERIFIED_FIRST", 100_000)
    body = bytes(range(256)) * 2344
    work = await kit.put(spool, body=body)
    assert b"".join([block async for block in await spool.body(work.message)]) == body
    with (directory / "bodies" / work.message.body_file).open("r+b") as file:
        file.seek(place)
        file.write(bytes([body[place] ^ 1]))
    given: list[bytes] = []

    async def read() -> None:
        async for block in await spool.body(work.message):
            given.append(block)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(BodyDamaged):
        await read()
    assert sum(map(len, given)) < len(body) - 65536
