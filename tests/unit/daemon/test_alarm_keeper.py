"""Alarms close when their reason is gone, and not before."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from router.control import alarms
from router.control.database import ControlDatabase
from router.daemon.alarm_keeper import PERIOD, SILENCE, AlarmKeeper
from router.model.address import parse_address
from router.model.envelope import Client, Envelope, HeaderFacts, NewRecipient
from router.report.alarms import AlarmKind
from router.spool.options import SpoolOptions
from router.spool.spool import Spool

ALICE = "alice@example.edu"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[ControlDatabase]:
    found = ControlDatabase.open(f"sqlite:///{tmp_path / 'control.db'}", create=True)
    yield found
    found.close()


@pytest.fixture
def spools(tmp_path: Path) -> Path:
    directory = tmp_path / "spool"
    directory.mkdir(mode=0o700)
    return directory


def raised(database: ControlDatabase, kind: str, key: str, now: float) -> None:
    database.run_write(partial(alarms.raise_alarm, kind=kind, key=key, text="x", now=now))


def still_open(database: ControlDatabase) -> list[Any]:
    return [(one.kind, one.key) for one in database.run_read(alarms.open_alarms)]


async def parked_mail(directory: Path) -> tuple[Spool, str, int]:
    options = SpoolOptions(minimum_free=0, minimum_inodes=0, reserve=0)
    spool = await Spool.open(directory, 1, create=True, options=options)
    body = spool.open_body()
    await body.write(b"Subject: x\r\n\r\nx\r\n")
    new = NewRecipient(parse_address(ALICE), hint="old", mailbox=ALICE)
    work = await spool.accept(Envelope("s@outside.example", Client("127.0.0.1")), [new], body, HeaderFacts(), 1.0)
    number = work.recipients[0].number
    await spool.desk.park([number], actor="test", reason="loop")
    return spool, work.message.queue_id, number


async def test_alarm_of_a_message_lasts_while_it_is_parked(database: ControlDatabase, spools: Path) -> None:
    spool, queue_id, number = await parked_mail(spools / "0001")
    try:
        raised(database, AlarmKind.LOOP, queue_id, 1000.0)
        raised(database, AlarmKind.PROTECTED_REFUSAL, ALICE, 1000.0)
        keeper = AlarmKeeper(database, spools, lambda: 1000.0 + 2 * PERIOD)
        assert keeper.look() == 0
        await spool.desk.remove([number], actor="test", reason="done")
        assert keeper.look() == 2
        assert still_open(database) == []
    finally:
        await spool.close()


def test_fresh_alarm_is_left_alone_before_its_recipient_is_parked(database: ControlDatabase, spools: Path) -> None:
    raised(database, AlarmKind.LOOP, "000100000001", 1000.0)
    assert AlarmKeeper(database, spools, lambda: 1000.0 + PERIOD / 2).look() == 0
    assert AlarmKeeper(database, spools, lambda: 1000.0 + PERIOD + 1).look() == 1


@pytest.mark.parametrize("kind", [AlarmKind.TLS_FALLBACK, AlarmKind.FORWARD_LOOP, AlarmKind.BAD_ROUTE_DATA])
def test_repeated_kind_closes_after_silence_and_others_never(
    database: ControlDatabase, spools: Path, kind: AlarmKind
) -> None:
    raised(database, kind, "host", 1000.0)
    raised(database, AlarmKind.HOLD_OVERDUE, ALICE, 1000.0)
    assert AlarmKeeper(database, spools, lambda: 1000.0 + SILENCE - 1).look() == 0
    assert AlarmKeeper(database, spools, lambda: 1000.0 + SILENCE + 1).look() == 1
    assert still_open(database) == [("hold-overdue", ALICE)]


def test_alarm_of_a_damaged_spool_lasts_until_it_was_brought_back_or_removed(
    database: ControlDatabase, spools: Path
) -> None:
    place = spools / "0001.damaged-20260101T000000Z"
    place.mkdir()
    keeper = AlarmKeeper(database, spools, lambda: 1000.0 + PERIOD + 1)
    raised(database, AlarmKind.SPOOL_DAMAGED, place.name, 1000.0)
    assert keeper.look() == 0
    (place / "recovered").write_text('{"spool": 2, "complete": false}')
    assert keeper.look() == 0
    (place / "recovered").write_text('{"spool": 2, "complete": true}')
    assert keeper.look() == 1
    raised(database, AlarmKind.SPOOL_DAMAGED, "0002.damaged-20260101T000000Z", 1000.0)
    assert keeper.look() == 1
