"""The ports: what goes in comes out, in order, and the accounts balance."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from router.model.envelope import Client, Envelope, RecipientState
from router.model.outcome import Disposition
from router.model.parcel import Report
from router.spool.finding import QueueFilter
from router.spool.spool import Spool

BIG = b"Subject: big\r\n\r\n" + bytes(range(256)) * 1000


async def states(spool: Spool) -> dict[str, int]:
    mail = (await spool.desk.counts()).mail
    assert mail.balanced
    return {name: value for name in mail.__slots__ if (value := getattr(mail, name)) and name != "accepted"}


async def test_accepted_message_comes_back_whole(kit: Any, open_spool: Any) -> None:
    spool = await open_spool()
    work = await kit.put(spool, kit.rcpt("A@example.edu"), kit.rcpt("held@example.edu", held=True), at=123.5)
    assert work.message.inline is not None
    assert [one.state for one in work.recipients] == [RecipientState.QUEUED, RecipientState.HELD]
    await spool.close()
    again = await open_spool(create=False)
    (found,) = await again.due("cliff", 200.0, 10)
    assert found.message == work.message
    assert found.message.inline is None
    assert found.recipients == work.recipients[:1]
    assert found.message.envelope == kit.ENVELOPE
    assert found.message.header == kit.HEADER
    assert await kit.read(again, found.message) == work.message.inline
    assert await again.head(found.message, 7) == b"Subject"
    assert again.clean_start


async def test_large_body_goes_to_a_file_and_with_the_last_recipient(kit: Any, spool: Spool, directory: Path) -> None:
    work = await kit.put(spool, kit.rcpt("a@example.edu"), kit.rcpt("b@example.edu"), body=BIG)
    assert work.message.inline is None
    path = directory / "bodies" / work.message.body_file
    assert path.read_bytes() == BIG
    assert path.stat().st_mode & 0o777 == 0o600
    blocks = [block async for block in await spool.body(work.message)]
    assert b"".join(blocks) == BIG
    assert max(map(len, blocks)) <= 65536
    assert await spool.head(work.message, 12) == BIG[:12]
    await spool.settle(work.message, [kit.outcome(work.recipients[0].number, Disposition.DELIVERED)])
    assert path.exists()
    await spool.settle(work.message, [kit.outcome(work.recipients[1].number, Disposition.DELIVERED)])
    await spool.close()
    assert not path.exists()
    assert kit.column(directory, "SELECT count(*) FROM messages") == [0]


async def test_discarded_bodies_leave_nothing(kit: Any, spool: Spool, directory: Path) -> None:
    body = spool.open_body()
    for _ in range(10):
        await body.write(b"x" * 65536)
    assert list((directory / "bodies").iterdir())
    await body.discard()
    await body.discard()
    await spool.close()
    assert not list((directory / "bodies").iterdir())


async def test_due_is_ordered_bounded_and_grouped(kit: Any, spool: Spool) -> None:
    late = await kit.put(spool, at=300.0)
    first = await kit.put(spool, kit.rcpt("a@example.edu"), kit.rcpt("b@example.edu"), at=100.0)
    await kit.put(spool, kit.rcpt("c@example.edu", lane="zimbra"), at=50.0)
    assert [work.message.number for work in await spool.due("cliff", 1000.0, 10)] == [
        first.message.number,
        late.message.number,
    ]
    (one,) = await spool.due("cliff", 1000.0, 1)
    assert [recipient.address.wire for recipient in one.recipients] == ["a@example.edu"]
    assert [work.message.number for work in await spool.due("cliff", 200.0, 10)] == [first.message.number]
    assert await spool.lanes(0.0) == [("cliff", 100.0), ("zimbra", 50.0)]


async def test_outcomes_move_recipients_and_the_accounts(kit: Any, spool: Spool) -> None:
    dispositions = [
        Disposition.DELIVERED,
        Disposition.RETURNED,
        Disposition.MERGED,
        Disposition.FORWARDED,
        Disposition.HELD,
        Disposition.PARKED,
        Disposition.QUARANTINED,
        Disposition.DEFERRED,
    ]
    work = await kit.put(spool, *(kit.rcpt(f"u{number}@example.edu") for number in range(9)))
    outcomes = [
        kit.outcome(one.number, disposition, lane="zimbra", batch="b1", due=900.0)
        for one, disposition in zip(work.recipients, dispositions, strict=False)
    ]
    await spool.settle(work.message, outcomes)
    await spool.settle(work.message, outcomes[:4])
    assert await states(spool) == dict.fromkeys([*dispositions[:-1], "queued"], 1) | {"queued": 2}
    rows = spool.journal.rows(lambda _row: True, 100)
    assert [row.disposition for row in rows] == dispositions[:-1]
    assert {row.attempts for row in rows[:4]} == {1}
    assert rows[0].reply == "250 2.0.0 taken"
    counts = await spool.desk.counts()
    assert {(share.name, share.state, share.count) for share in counts.by_batch} == {
        ("b1", disposition, 1) for disposition in dispositions[:4]
    }
    assert counts.mail.accepted == 9


async def test_deferral_keeps_what_was_learnt(kit: Any, spool: Spool) -> None:
    work = await kit.put(spool)
    number = work.recipients[0].number
    more = {"due": 500.0, "lane": "zimbra", "mailbox": "a@example.edu", "in_doubt": True, "delay_notified": True}
    await spool.settle(work.message, [kit.outcome(number, Disposition.DEFERRED, unknown_since=150.0, **more)])
    assert await spool.due("cliff", 1000.0, 10) == []
    assert await spool.due("zimbra", 499.0, 10) == []
    await spool.settle(
        work.message, [kit.outcome(number, Disposition.DEFERRED, due=600.0, lane="zimbra", counted=False)]
    )
    ((one,),) = [found.recipients for found in await spool.due("zimbra", 1000.0, 10)]
    assert (one.due, one.attempts, one.possible_duplicate, one.delay_notified) == (600.0, 1, True, True)
    assert one.unknown_since is None
    assert one.mailbox == "a@example.edu"
    assert one.reason == "451 4.3.0 come back"


async def test_report_is_queued_with_the_outcome_and_only_once(kit: Any, spool: Spool) -> None:
    work = await kit.put(spool)
    report = Report(Envelope("", Client("127.0.0.1")), kit.rcpt("sender@example.org", lane="", mailbox=""), b"DSN\r\n")
    outcomes = [kit.outcome(work.recipients[0].number, Disposition.RETURNED)]
    await spool.settle(work.message, outcomes, report)
    await spool.settle(work.message, outcomes, report)
    (dsn,) = await spool.due("", 1000.0, 10)
    assert dsn.message.envelope.sender == ""
    assert await kit.read(spool, dsn.message) == b"DSN\r\n"
    counts = await spool.desk.counts()
    assert (counts.mail.accepted, counts.mail.returned, counts.own.accepted, counts.own.queued) == (1, 1, 1, 1)
    assert counts.own.balanced


async def test_outcome_for_another_message_changes_nothing(kit: Any, spool: Spool) -> None:
    one, two = await kit.put(spool), await kit.put(spool)
    with pytest.raises(ValueError, match="is not of message"):
        await spool.settle(one.message, [kit.outcome(two.recipients[0].number, Disposition.DELIVERED)])
    assert await states(spool) == {"queued": 2}


async def test_wake_and_mailboxes(kit: Any, spool: Spool) -> None:
    work = await kit.put(
        spool, kit.rcpt("b@example.edu"), kit.rcpt("a@example.edu"), kit.rcpt("h@example.edu", held=True)
    )
    outcomes = [kit.outcome(one.number, Disposition.DEFERRED, due=9000.0, lane="cliff") for one in work.recipients[:2]]
    await spool.settle(work.message, outcomes)
    assert await spool.due("cliff", 1000.0, 10) == []
    assert await spool.wake("cliff", 1000.0) == 2
    assert await spool.wake("cliff", 1000.0) == 0
    assert len((await spool.due("cliff", 1000.0, 10))[0].recipients) == 2
    assert await spool.held_mailboxes() == ["h@example.edu"]
    assert await spool.queued_mailboxes() == ["a@example.edu", "b@example.edu"]


async def test_kept_messages_outlive_their_recipients(kit: Any, open_spool: Any, directory: Path) -> None:
    spool = await open_spool(options=replace(kit.QUIET, keep=1000.0))
    work = await kit.put(spool, body=BIG, at=100.0)
    await spool.settle(work.message, [kit.outcome(work.recipients[0].number, Disposition.DELIVERED, at=200.0)])
    assert await kit.read(spool, work.message) == BIG
    assert (await spool.desk.stats()).messages == 1
    assert await spool._upkeep.purge() == 1
    assert (await spool.desk.stats()).messages == 0
    await spool.close()
    assert not list((directory / "bodies").iterdir())


async def test_epochs_are_remembered_and_never_go_back(open_spool: Any) -> None:
    spool = await open_spool()
    assert await spool.remembered() == ("", 0)
    assert await spool.remember("u1", 5) == ("u1", 5)
    assert await spool.remember("u1", 3) == ("u1", 5)
    assert await spool.remember("u2", 9) == ("u1", 5)
    await spool.close()
    again = await open_spool()
    assert await again.remembered() == ("u1", 5)
    assert await again.remember("u2", 1, force=True) == ("u2", 1)


async def test_any_text_survives(kit: Any, spool: Spool) -> None:
    """Lone surrogates, line ends and NUL in what a client said come back unchanged, and stay one journal line."""
    odd = "x\udcff\r\n\x00\u2028y"
    envelope = replace(kit.ENVELOPE, sender=odd, envid=odd)
    recipient = replace(kit.rcpt("a@example.edu"), orcpt=odd)
    writer = spool.open_body()
    await writer.write(b"x\r\n")
    work = await spool.accept(envelope, [recipient], writer, replace(kit.HEADER, message_id=odd), 1.0)
    (found,) = await spool.due("cliff", 2.0, 1)
    assert (found.message, found.recipients) == (work.message, work.recipients)
    await spool.settle(found.message, [kit.outcome(found.recipients[0].number, Disposition.DELIVERED, note=odd)])
    await spool.move_journal()
    (row,) = spool.journal.rows(lambda _row: True, 10)
    assert (row.sender, row.note) == (odd, odd)


async def test_find_uses_every_condition(kit: Any, spool: Spool) -> None:
    work = await kit.put(spool, kit.rcpt("A@Example.edu"), kit.rcpt("b@other.edu", lane="zimbra"), at=100.0)
    await kit.put(spool, kit.rcpt("c@example.edu", held=True), at=300.0)
    await spool.settle(work.message, [kit.outcome(work.recipients[1].number, Disposition.PARKED, note="loop found")])

    async def found(**conditions: Any) -> list[str]:
        return [entry.recipient for entry in await spool.desk.find(QueueFilter(**conditions))]

    assert await found() == ["A@Example.edu", "b@other.edu", "c@example.edu"]
    assert await found(limit=1, after=work.recipients[0].number) == ["b@other.edu"]
    assert await found(mailbox="a@example.edu") == ["A@Example.edu"]
    assert await found(lane="zimbra") == ["b@other.edu"]
    assert await found(state="held") == ["c@example.edu"]
    assert await found(reason="LOOP") == ["b@other.edu"]
    assert await found(older_than=200.0, recipient="@example.edu") == ["A@Example.edu"]
    assert await found(recipient="a@example.edu", sender="sender@example.org") == ["A@Example.edu"]
    assert await found(queue_id=work.message.queue_id) == ["A@Example.edu", "b@other.edu"]
    assert await found(queue_id="no such id") == []
    assert await found(sender="") == []
