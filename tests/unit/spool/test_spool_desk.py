"""The operators' desk and the view from outside."""

import json
from pathlib import Path
from typing import Any

import pytest

from router.model.outcome import Disposition
from router.spool.finding import QueueFilter
from router.spool.lock import SpoolLocked
from router.spool.offline import SpoolView, as_owner, view
from router.spool.operations import CHUNK
from router.spool.reader import _DRAINING, _DRAINING_MAILBOXES, _DUE, _HELD, _LANES, fetch_all
from router.spool.spool import Spool

BIG = bytes(range(256)) * 400


@pytest.mark.parametrize("body", [b"Subject: x\r\n\r\nhello\r\n", BIG])
async def test_removed_mail_leaves_a_copy(kit: Any, spool: Spool, directory: Path, body: bytes) -> None:
    work = await kit.put(spool, kit.rcpt("a@example.edu"), kit.rcpt("b@example.edu", held=True), body=body)
    first, second = (one.number for one in work.recipients)
    assert await spool.desk.remove([first, first], actor="root", reason="virus") == 1
    assert await spool.desk.remove([first], actor="root", reason="virus") == 0
    copy = directory / "removed" / f"{work.message.queue_id}.eml"
    assert copy.read_bytes() == body
    copy.unlink()
    assert await spool.desk.remove([second], actor="root", reason="virus") == 1
    assert copy.read_bytes() == body
    facts = json.loads((directory / "removed" / f"{work.message.queue_id}-{first}.json").read_text())
    assert facts["envelope"]["sender"] == "Sender@Example.org"
    assert [one["address"]["wire"] for one in facts["recipients"]] == ["a@example.edu"]
    assert (facts["removed"]["actor"], facts["removed"]["damage"]) == ("root", "")
    mail = (await spool.desk.counts()).mail
    assert (mail.removed, mail.balanced) == (2, True)
    assert {row.note for row in spool.journal.rows(lambda row: row.disposition == "removed", 10)} == {"root: virus"}


async def test_a_named_change_is_made_once_also_by_a_successor(kit: Any, open_spool: Any) -> None:
    """The second time nothing is changed, whatever became of the mail meanwhile, and the first count is told."""
    spool = await open_spool()
    numbers = [(await kit.put(spool, kit.rcpt("a@example.edu"))).recipients[0].number for _ in range(2)]
    assert await spool.desk.park(numbers, actor="root", reason="look", once="7@1.0") == 2
    assert await spool.desk.requeue(numbers) == 2
    await spool.close()
    spool = await open_spool()
    assert await spool.desk.park(numbers, actor="root", reason="look", once="7@1.0") == 2
    assert [one.state for one in await spool.desk.find(QueueFilter())] == ["queued", "queued"]
    assert await spool.desk.park(numbers, actor="root", reason="look", once="7@2.0") == 2, "another request"
    for number in range(150):
        assert await spool.desk.unpark(numbers[:1], once=f"{number}@3.0") == (number == 0)
    assert await spool.desk.park(numbers, actor="root", reason="look") == 1
    assert await spool.desk.unpark(numbers, once="149@3.0") == 0, "remembered"
    assert await spool.desk.unpark(numbers, once="0@3.0") == 2, "too long ago"


async def test_a_named_change_that_would_be_made_in_part_is_refused(spool: Spool) -> None:
    """The name of its first chunk would pass for all of it."""
    with pytest.raises(ValueError, match="1001 recipients"):
        await spool.desk.unpark(range(CHUNK + 1), once="7@1.0")
    assert await spool.desk.unpark(range(CHUNK), once="7@1.0") == 0
    assert await spool.desk.unpark(range(CHUNK + 1)) == 0


async def test_damaged_mail_can_be_removed_and_the_copy_says_so(kit: Any, spool: Spool, directory: Path) -> None:
    work = await kit.put(spool, body=BIG)
    (directory / "bodies" / work.message.body_file).unlink()
    number = work.recipients[0].number
    assert await spool.desk.remove([number], actor="root", reason="broken") == 1
    facts = json.loads((directory / "removed" / f"{work.message.queue_id}-{number}.json").read_text())
    assert "missing" in facts["removed"]["damage"]


async def test_a_large_damaged_body_is_copied_to_its_last_octet(
    kit: Any, spool: Spool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.spool.bodies.VERIFIED_FIRST", 1000)
    work = await kit.put(spool, body=BIG)
    broken = b"\xff" + BIG[1:]
    (directory / "bodies" / work.message.body_file).write_bytes(broken)
    number = work.recipients[0].number
    assert await spool.desk.remove([number], actor="root", reason="broken") == 1
    assert (directory / "removed" / f"{work.message.queue_id}.eml").read_bytes() == broken
    facts = json.loads((directory / "removed" / f"{work.message.queue_id}-{number}.json").read_text())
    assert "checksum" in facts["removed"]["damage"]


async def test_failing_copy_removes_nothing(kit: Any, spool: Spool, directory: Path) -> None:
    work = await kit.put(spool)
    (directory / "removed").rmdir()
    with pytest.raises(Exception, match="No such file"):
        await spool.desk.remove([work.recipients[0].number], actor="root", reason="x")
    assert (await spool.desk.counts()).mail.queued == 1


async def test_park_unpark_requeue_and_flush(kit: Any, spool: Spool) -> None:
    work = await kit.put(
        spool, kit.rcpt("a@example.edu"), kit.rcpt("b@example.edu"), kit.rcpt("h@example.edu", held=True)
    )
    numbers = [one.number for one in work.recipients]
    later = [kit.outcome(number, Disposition.DEFERRED, due=9e9, lane="cliff") for number in numbers[:2]]
    await spool.settle(work.message, later)
    assert await spool.desk.flush(QueueFilter(recipient="b@example.edu")) == 1
    assert [one.number for found in await spool.due("cliff", 8e9, 10) for one in found.recipients] == [numbers[1]]
    assert await spool.desk.park(numbers, actor="root", reason="look") == 3
    assert await spool.desk.park(numbers, actor="root", reason="look") == 0
    assert (await spool.desk.counts()).mail.parked == 3
    assert await spool.desk.unpark([*numbers, 1 << 40]) == 3
    assert (await spool.desk.counts()).mail.queued == 3
    assert await spool.desk.requeue([1 << 40]) == 0
    ((one, *_),) = [found.recipients for found in await spool.due("cliff", 8e9, 10)]
    assert one.attempts == 0
    assert one.clock_start > 1e9


async def test_find_pages_through_more_than_a_window(kit: Any, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.spool.finding._WINDOW", 3)
    for number in range(10):
        await kit.put(spool, kit.rcpt(f"u{number}@example.edu"))
    assert len(await spool.desk.find(QueueFilter())) == 10
    assert [entry.recipient for entry in await spool.desk.find(QueueFilter(recipient="u7@example.edu"))] == [
        "u7@example.edu"
    ]
    monkeypatch.setattr("router.spool.desk.CHUNK", 3)
    assert await spool.desk.flush(QueueFilter()) == 0


async def test_view_beside_a_running_worker_and_without_one(kit: Any, open_spool: Any, directory: Path) -> None:
    spool = await open_spool()
    work = await kit.put(spool, body=BIG)
    small = await kit.put(spool)
    await spool.settle(small.message, [kit.outcome(small.recipients[0].number, Disposition.HELD)])
    with pytest.raises(SpoolLocked):
        async with as_owner(directory, 1):
            pass
    for running in (True, False):
        if not running:
            await spool.close()
        with view(directory) as looking:
            assert looking.number == 1
            assert len(looking.find(QueueFilter())) == 2
            assert looking.counts().mail.balanced
            assert looking.stats().messages == 2
            assert looking.remembered() == ("", 0)
            assert len(looking.journal.rows(lambda _row: True, 10)) == 1
            found = looking.message(work.message.number)
            assert found is not None
            assert looking.body(found) == BIG
            assert looking.message(999) is None
            assert looking.examine().sound
    async with as_owner(directory, 1, kit.QUIET) as owner:
        assert len(await owner.due("cliff", 1000.0, 10)) == 1
    with pytest.raises(Exception, match="no-such"):
        SpoolView(directory / "no-such")


async def test_stats_tell_ages_and_sizes(kit: Any, spool: Spool) -> None:
    await kit.put(spool, at=50.0, body=b"x" * 10)
    await kit.put(spool, kit.rcpt("h@example.edu", held=True), at=40.0, body=b"x" * 20)
    stats = await spool.desk.stats()
    assert (stats.messages, stats.octets, stats.oldest_queued, stats.oldest_held) == (2, 30, 50.0, 40.0)


async def test_hot_queries_use_their_indices_and_sort_nothing(spool: Spool) -> None:
    expected = [
        (_DUE, ("x", 0, 1), "recipients_due"),
        (_LANES, (), "recipients_due"),
        (_HELD, (), "recipients_mailbox"),
        (_DRAINING, ("x", 1), "recipients_draining"),
        (_DRAINING_MAILBOXES, (), "recipients_draining"),
    ]
    for query, values, index in expected:
        rows: list[Any] = spool._reader.call(fetch_all, "EXPLAIN QUERY PLAN " + query, *values)
        plan = [row[3] for row in rows]
        touching = [step for step in plan if "recipients" in step]
        assert touching, plan
        assert all(index in step for step in touching), plan
        assert not any("TEMP B-TREE" in step for step in plan), plan
