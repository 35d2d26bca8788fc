"""A recipient that is forwarded: exchanged for others in one transaction, once, under numbers that were never used."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import BodyDamaged
from router.model.address import parse_address
from router.model.envelope import Client, Envelope, HeaderFacts, NewRecipient, QueuedMessage, QueuedRecipient
from router.model.outcome import Disposition, Outcome
from router.model.parcel import Report
from router.model.reply import HopReply
from router.spool import records
from router.spool.accepting import Accept, StoredBody
from router.spool.batch import Batch, Numbers, Releases
from router.spool.numbering import LAST_PLACE, message_of, place_of
from router.spool.schema import create, open_writer
from router.spool.settling import Settle
from router.spool.spool import Spool

ALICE, BOB, CAROL = (f"{name}@example.edu" for name in ("alice", "bob", "carol"))
DONE = HopReply(250, "2.0.0", "done")


def child(text: str, *via: str, **more: Any) -> NewRecipient:
    return NewRecipient(parse_address(text), via=via or (ALICE,), **more)


def forward(number: int, *opens: NewRecipient, at: float = 200.0) -> Outcome:
    return Outcome(number, Disposition.FORWARDED, at, DONE, mailbox=ALICE, opens=opens, counted=False, note="as others")


async def test_recipient_is_exchanged_for_others(kit: Any, open_spool: Any) -> None:
    spool = await open_spool()
    work = await kit.put(spool, kit.rcpt(ALICE))
    opens = (
        child("Bob@Example.EDU", through=("a@b",), kept=(ALICE,), orcpt="rfc822;a"),
        child(ALICE, mailbox=ALICE, kept=(ALICE,)),
    )
    settled = await spool.settle(work.message, [forward(work.recipients[0].number, *opens)])
    assert (settled.applied, settled.removed) == (1, False)
    assert settled.opened is not None
    assert settled.opened.message == work.message
    await spool.close()
    spool = await open_spool(create=False)
    (found,) = await spool.due("", 200.0, 10)
    assert found.recipients == settled.opened.recipients
    bob, alice = found.recipients
    assert (bob.address.wire, bob.via, bob.kept, bob.orcpt) == ("Bob@Example.EDU", (ALICE,), (ALICE,), "rfc822;a")
    assert (bob.clock_start, bob.due, bob.attempts, bob.mailbox) == (100.0, 200.0, 0, "")
    assert alice.mailbox == ALICE
    counts = (await spool.desk.counts()).mail
    assert (counts.accepted, counts.opened, counts.forwarded, counts.queued) == (1, 2, 1, 2)
    assert counts.balanced
    assert [row.disposition for row in spool.journal.rows(lambda _row: True, 9)] == ["forwarded"]
    assert b"hello" in await kit.read(spool, found.message)


async def test_settled_again_nothing_is_opened_twice(kit: Any, spool: Spool) -> None:
    work = await kit.put(spool, kit.rcpt(ALICE))
    outcome = forward(work.recipients[0].number, child(BOB), child(CAROL))
    report = Report(Envelope("", Client("::1")), NewRecipient(parse_address("s@x.org")), b"dsn")
    first = await spool.settle(work.message, [outcome], report)
    again = await spool.settle(work.message, [outcome], report)
    assert first.opened is not None
    assert (again.applied, again.opened, again.report) == (0, None, None)
    counts = await spool.desk.counts()
    assert (counts.mail.opened, counts.mail.queued, counts.own.accepted) == (2, 2, 1)
    closed = [kit.outcome(one.number, Disposition.DELIVERED) for one in first.opened.recipients]
    done = await spool.settle(work.message, closed)
    assert done.removed
    late = await spool.settle(work.message, [outcome])
    assert (late.applied, late.opened) == (0, None)
    assert (await spool.desk.counts()).mail.balanced


async def test_message_stays_until_the_last_that_was_opened_has_gone(kit: Any, spool: Spool, directory: Path) -> None:
    work = await kit.put(spool, kit.rcpt(ALICE), kit.rcpt(CAROL))
    alice, carol = (one.number for one in work.recipients)
    settled = await spool.settle(work.message, [forward(alice, child(BOB)), kit.outcome(carol, Disposition.DELIVERED)])
    assert not settled.removed
    assert settled.opened is not None
    (bob,) = settled.opened.recipients
    assert (await spool.settle(work.message, [kit.outcome(bob.number, Disposition.DELIVERED)])).removed
    assert kit.column(directory, "SELECT id FROM messages") == []
    assert kit.column(directory, "SELECT message FROM expanded") == []


async def test_numbers_are_not_given_out_again(kit: Any, open_spool: Any) -> None:
    spool = await open_spool()
    work = await kit.put(spool, kit.rcpt(ALICE), kit.rcpt(BOB), kit.rcpt(CAROL))
    seen = {one.number for one in work.recipients}
    for recipient in work.recipients[:2]:
        settled = await spool.settle(
            work.message, [forward(recipient.number, child("x@y.example"), child("z@y.example"))]
        )
        numbers = {one.number for one in settled.opened.recipients}
        assert not numbers & seen
        assert {message_of(number) for number in numbers} == {work.message.number}
        seen |= numbers
        await spool.settle(work.message, [kit.outcome(number, Disposition.DELIVERED) for number in numbers])
        await spool.close()
        spool = await open_spool(create=False)
    settled = await spool.settle(work.message, [forward(work.recipients[2].number, child("x@y.example"))])
    (last,) = settled.opened.recipients
    assert last.number not in seen
    other = await spool.settle(work.message, [forward(last.number, child(BOB, ALICE, CAROL))])
    assert other.opened.recipients[0].number not in seen | {last.number}


@pytest.mark.slow
async def test_message_without_numbers_left_keeps_what_it_has(kit: Any, spool: Spool) -> None:
    work = await kit.put(spool, kit.rcpt(ALICE))
    number = work.recipients[0].number
    many = [child(f"u{at}@example.edu") for at in range(LAST_PLACE // 2 + 2)]
    with pytest.raises(ValueError, match="recipients more"):
        await spool.settle(work.message, [forward(number, *many)])
    counts = (await spool.desk.counts()).mail
    assert (counts.queued, counts.opened, counts.forwarded) == (1, 0, 0)
    settled = await spool.settle(work.message, [forward(number, *many[:-1])])
    assert settled.opened is not None
    assert place_of(settled.opened.recipients[-1].number) == LAST_PLACE


async def test_notice_that_is_forwarded_is_counted_with_ours(kit: Any, spool: Spool) -> None:
    work = await kit.put(spool, kit.rcpt(ALICE))
    report = Report(Envelope("", Client("::1")), NewRecipient(parse_address(ALICE)), b"dsn")
    settled = await spool.settle(work.message, [kit.outcome(work.recipients[0].number, Disposition.DELIVERED)], report)
    assert settled.report is not None
    notice = settled.report
    await spool.settle(notice.message, [forward(notice.recipients[0].number, child(BOB))])
    counts = await spool.desk.counts()
    assert (counts.own.opened, counts.own.queued, counts.mail.opened) == (1, 1, 0)
    assert counts.own.balanced
    assert counts.mail.balanced


async def test_copy_of_released_mail_is_still_released(kit: Any, spool: Spool) -> None:
    work = await kit.put(spool, kit.rcpt(ALICE, held=True))
    await spool.release([ALICE], 150.0)
    settled = await spool.settle(
        work.message, [forward(work.recipients[0].number, child(BOB), child(ALICE, mailbox=ALICE, draining=True))]
    )
    assert settled.opened is not None
    (draining,) = await spool.draining(ALICE, 10)
    assert draining.recipients == settled.opened.recipients[1:]
    assert draining.recipients[0].clock_start == 150.0


async def test_verdict_from_before_a_release_does_not_undo_it_for_what_was_opened(kit: Any, spool: Spool) -> None:
    """What is opened counts as read now: it is no older than the releases that have committed."""
    work = await kit.put(spool, kit.rcpt(ALICE))
    await spool.release([BOB], 150.0)
    settled = await spool.settle(work.message, [forward(work.recipients[0].number, child(BOB))])
    assert settled.opened is not None
    bob = settled.opened.recipients[0].number
    await spool.settle(settled.opened.message, [kit.outcome(bob, Disposition.HELD, mailbox=BOB)])
    assert await spool.held_mailboxes() == [BOB]
    await spool.release([BOB], 250.0)
    await spool.settle(settled.opened.message, [kit.outcome(bob, Disposition.HELD, mailbox=BOB)])
    assert await spool.held_mailboxes() == []


async def test_those_forwarded_for_count_as_queued_mailboxes(kit: Any, spool: Spool) -> None:
    """After an unclean end a delivery for them may be under way (barrier rule 8)."""
    work = await kit.put(spool, kit.rcpt(ALICE))
    settled = await spool.settle(work.message, [forward(work.recipients[0].number, child(BOB, CAROL, ALICE))])
    assert settled.opened is not None
    bob = settled.opened.recipients[0].number
    await spool.settle(work.message, [kit.outcome(bob, Disposition.DEFERRED, mailbox=BOB, due=900.0)])
    assert sorted(await spool.queued_mailboxes()) == [ALICE, BOB, CAROL]


async def test_spool_of_a_former_version_learns_to_forward(kit: Any, open_spool: Any, directory: Path) -> None:
    spool = await open_spool()
    work = await kit.put(spool, kit.rcpt(ALICE))
    gone = await kit.put(spool, kit.rcpt(ALICE))
    await spool.settle(gone.message, [kit.outcome(gone.recipients[0].number, Disposition.DELIVERED)])
    await spool.close()
    kit.damage(directory, "DROP TABLE expanded")
    spool = await open_spool(create=False)
    assert (await spool.settle(work.message, [forward(work.recipients[0].number, child(BOB))])).opened is not None
    await spool.close()
    kit.damage(directory, "INSERT INTO expanded VALUES (?, 40000)", gone.message.number)
    await open_spool(create=False)
    assert kit.column(directory, "SELECT message FROM expanded") == [work.message.number]


async def test_damaged_row_is_not_called_forwarded(kit: Any, open_spool: Any, directory: Path) -> None:
    spool = await open_spool()
    work = await kit.put(spool, kit.rcpt(ALICE, lane="badlane"))
    await spool.close()
    data = (directory / "queue.db").read_bytes()
    old = b"queuedbadlane" + ALICE.encode()
    assert data.count(old) == 1
    (directory / "queue.db").write_bytes(data.replace(old, b"queuedbadlane" + b"zlice@example.edu"))
    spool = await open_spool(create=False)
    (found,) = await spool.due("badlane", 1000.0, 10)
    settled = await spool.settle(found.message, [forward(work.recipients[0].number, child(BOB))])
    assert settled.opened is None
    assert [row.disposition for row in spool.journal.rows(lambda _row: True, 10)] == ["quarantined"]
    assert (await spool.desk.counts()).mail.opened == 0


async def test_damaged_page_does_not_hide_whose_mail_is_queued(kit: Any, open_spool: Any, directory: Path) -> None:
    """A worker asks for them when it takes a spool over: it must start, and take the rest for in doubt."""
    spool = await open_spool()
    lost = await kit.put(spool, kit.rcpt(ALICE))
    way = [f"m{n}-{'x' * 150}@example.edu" for n in range(3)]
    await spool.settle(
        lost.message, [forward(lost.recipients[0].number, *(child(f"lost{n}@y.example", *way) for n in range(60)))]
    )
    kept = await kit.put(spool, kit.rcpt(CAROL))
    await spool.settle(kept.message, [forward(kept.recipients[0].number, child(BOB, "on.the.way@example.edu"))])
    await spool.close()
    page = next(
        at
        for at in range(0, (directory / "queue.db").stat().st_size, 4096)
        if (directory / "queue.db").read_bytes()[at : at + 4096].count(b'["lost') > 5
        and (directory / "queue.db").read_bytes()[at] == 13
        and way[0].encode() in (directory / "queue.db").read_bytes()[at : at + 4096]
    )
    data = bytearray((directory / "queue.db").read_bytes())
    data[page : page + 8] = b"\xff" * 8
    (directory / "queue.db").write_bytes(data)
    spool = await open_spool(create=False)
    found = await spool.queued_mailboxes()
    assert "on.the.way@example.edu" in found
    assert "" in found, "somebody's mail cannot be read"


async def test_mail_for_nobody_known_yet_is_somebodys(kit: Any, spool: Spool) -> None:
    work = await kit.put(spool, kit.rcpt(ALICE, mailbox=""), kit.rcpt(CAROL, mailbox=CAROL))
    assert await spool.queued_mailboxes() == ["", CAROL]
    settled = await spool.settle(work.message, [forward(work.recipients[0].number, child(ALICE, mailbox=ALICE))])
    assert settled.opened is not None
    assert sorted(await spool.queued_mailboxes()) == [ALICE, CAROL]


async def test_places_of_messages_that_are_gone_are_forgotten_in_time(kit: Any, spool: Spool, directory: Path) -> None:
    """Whoever leaves last: a worker that runs for a year must not keep a row for each message."""
    work = await kit.put(spool, kit.rcpt(ALICE), kit.rcpt(CAROL))
    alice, carol = (one.number for one in work.recipients)
    opened = (await spool.settle(work.message, [forward(alice, child(BOB))])).opened
    assert opened is not None
    await spool.settle(work.message, [kit.outcome(opened.recipients[0].number, Disposition.DELIVERED)])
    await spool._upkeep.purge()
    assert kit.column(directory, "SELECT message FROM expanded") == [work.message.number]
    await spool.settle(work.message, [kit.outcome(carol, Disposition.DELIVERED)])
    await spool._upkeep.purge()
    assert kit.column(directory, "SELECT message FROM expanded") == []


NAMES = st.lists(st.text(max_size=9), max_size=3)


@given(st.lists(st.text(max_size=9), min_size=1, max_size=4), NAMES, NAMES)
def test_way_of_a_recipient_comes_back_from_its_row(via: list[str], kept: list[str], through: list[str]) -> None:
    new = replace(child(BOB), via=tuple(via), kept=tuple(kept), through=tuple(through))
    facts = records.encode_recipient(new)
    row = (1, "queued", "", "", 0.0, 0, 0.0, None, 0, 0, 0, 0, "", facts, records.recipient_crc(1, 0, facts))
    found = records.decode_recipient(row)
    assert (found.via, found.kept, found.through) == (tuple(via), tuple(kept), tuple(through))
    assert records.decode_via(facts) == tuple(via)


@pytest.mark.parametrize("more", ["", ',["a@b"],[],[]'])
def test_row_of_a_former_version_has_no_way(more: str) -> None:
    facts = f'["b@c","b","c","",""{more}]'
    row = (1, "queued", "", "", 0.0, 0, 0.0, None, 0, 0, 0, 0, "", facts, records.recipient_crc(1, 0, facts))
    assert records.decode_recipient(row).via == (("a@b",) if more else ())
    assert records.decode_via(facts) == (("a@b",) if more else ())
    broken = facts.replace('""', '"",1', 1)
    bad = (*row[:-2], broken, records.recipient_crc(1, 0, broken))
    with pytest.raises(BodyDamaged):
        records.decode_recipient(bad)


# --- careful transactions do the same ---------------------------------------------------------------------------------

STEP = st.tuples(st.integers(0, 9), st.integers(0, 3), st.sampled_from([Disposition.DELIVERED, Disposition.DEFERRED]))


class _Database:
    """One spool's database under operations that are applied by hand, several to a transaction."""

    def __init__(self, path: Path, *, careful: bool) -> None:
        create(path, 1, 0.0)
        self.connection = open_writer(path, 1)
        self.careful = careful
        self.numbers = Numbers()

    def apply(self, operations: Sequence[Any]) -> list[Any]:
        self.connection.execute("BEGIN IMMEDIATE")
        batch = Batch(self.connection, self.numbers, Releases(), careful=self.careful)
        batch.read_ahead([number for one in operations for number in getattr(one, "leaving", ())])
        results = [one.apply(batch) for one in operations]
        batch.flush()
        self.connection.execute("COMMIT")
        self.numbers = batch.numbers
        return results

    def dump(self) -> list[list[tuple[Any, ...]]]:
        tables = ("messages", "recipients", "journal", "tally", "expanded")
        return [sorted(self.connection.execute(f"SELECT * FROM {name}").fetchall()) for name in tables]  # noqa: S608

    def balanced(self) -> bool:
        counted = "SELECT coalesce(sum(count), 0) FROM tally WHERE what IN (SELECT value FROM json_each(?))"
        come = self.connection.execute(counted, ('["accepted", "opened"]',)).fetchone()[0]
        gone = self.connection.execute(counted, ('["delivered", "forwarded"]',)).fetchone()[0]
        here = self.connection.execute("SELECT count(*) FROM recipients").fetchone()[0]
        return bool(come == here + gone)


def _accept(people: Sequence[str]) -> Accept:
    new = [NewRecipient(parse_address(one), mailbox=one) for one in people]
    body = StoredBody(2, b"x\n")
    return Accept(1, Envelope("s@x.org", Client("")), new, body, HeaderFacts(), 100.0)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.lists(st.lists(STEP, min_size=1, max_size=4), min_size=1, max_size=6), st.booleans())
def test_careful_and_collected_transactions_end_alike(
    tmp_path_factory: pytest.TempPathFactory, people: int, rounds: list[list[Any]], together: bool
) -> None:
    base = tmp_path_factory.mktemp("both")
    both = [_Database(base / f"{careful}.db", careful=careful) for careful in (False, True)]
    works = [one.apply([_accept([f"u{at}@example.edu" for at in range(people)])])[0] for one in both]
    message: QueuedMessage = works[0].message
    known: list[QueuedRecipient] = list(works[0].recipients)
    used = {one.number for one in known}
    for steps in rounds:
        outcomes = []
        for at, opens, disposition in steps:
            one = known[at % len(known)]  # also one that is gone already, and one twice
            if opens:
                outcomes.append(
                    forward(one.number, *(child(f"t{place}@x.org", *one.via, "m") for place in range(opens)))
                )
            else:
                outcomes.append(Outcome(one.number, disposition, 200.0, DONE))
        each = [outcomes] if together else [[outcome] for outcome in outcomes]
        first, second = (one.apply([Settle(1, message, part) for part in each]) for one in both)
        assert [done.opened for done in first] == [done.opened for done in second]
        assert [(done.applied, done.removed) for done in first] == [(done.applied, done.removed) for done in second]
        fresh = [recipient for done in first if done.opened for recipient in done.opened.recipients]
        assert not used & {one.number for one in fresh}
        assert len({one.number for one in fresh}) == len(fresh)
        used |= {one.number for one in fresh}
        known += fresh
        assert both[0].dump() == both[1].dump()
        assert both[0].balanced()
    for one in both:
        one.connection.close()
