"""`store`, `status` and `log` over real spools, control databases and loopback stores."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from router.admin.cli.log_rows import Following, Wanted, remote_queue_id, rows_after
from router.admin.cli.status_screen import equation
from router.admin.cli.store_pause import wait_applied
from router.control import alarms, holds, members, stores
from router.control.audit import Act
from router.control.holds import Terms
from router.control.members import Member
from router.ledger.behaviour import Behaviour, Refusal
from router.ledger.stores import RecordingStore
from router.model.outcome import Disposition
from router.spool.accounts import Totals
from router.spool.offline import view
from router.spool.spool import Spool


def write(site: Any, work: Callable[..., Any]) -> Any:
    database = site.open_database()
    try:
        return database.run_write(work)
    finally:
        database.close()


def join(site: Any, slot: int = 0, pid: int = 0, applied: int = 0) -> None:
    """A member that only stands in the database."""
    member = Member(f"inc-{slot}", "", slot, pid or os.getpid(), slot + 1, 0, site.fingerprint, time.time())
    write(site, partial(members.register, member=member))
    if applied:
        write(site, partial(members.acknowledge, incarnation=f"inc-{slot}", epoch=applied, rows=(), now=1.0))


@pytest.fixture
def told(site: Any, kit: Any) -> list[str]:
    """Spool 1: one message delivered, one deferred, one held; spool 2: one parked."""

    async def first(spool: Spool) -> list[str]:
        done = await site.put(spool, kit.rcpt(kit.ANN), message_id="<done@outside.example>")
        await site.conclude(spool, done, Disposition.DELIVERED, "Ok: queued as 77ABC12", batch="wave-1")
        late = await site.put(spool, kit.rcpt(kit.ANN), at=1500.0)
        await site.conclude(spool, late, Disposition.DEFERRED, "come back")
        kept = await site.put(spool, kit.rcpt(kit.BOB, held=True), at=1600.0)
        return [done.message.queue_id, late.message.queue_id, kept.message.queue_id]

    async def second(spool: Spool) -> str:
        work = await site.put(spool, kit.rcpt(kit.BOB, lane="zimbra"))
        await site.conclude(spool, work, Disposition.PARKED, "", note="loop")
        return str(work.message.queue_id)

    return [*site.fill(first), site.fill(second, 2)]


# --- status


def test_status_of_a_fresh_site(site: Any, sluice: Callable[..., Any]) -> None:
    join(site)
    result = sluice("status")
    assert result.status == 0
    assert "no alarms" in result.out
    assert "NO WORKER" not in result.out
    document = sluice("status", "--json").document
    assert (document["version"], document["queue"]["total"], document["balanced"]) == (1, 0, True)
    assert (document["sound"], document["running"]) == (True, True)


@pytest.mark.parametrize("members", ["none", "gone"])
def test_status_without_a_running_worker_says_so_first_and_exits_1(
    site: Any, sluice: Callable[..., Any], members: str
) -> None:
    if members == "gone":
        join(site, pid=2**22 - 1)
    result = sluice("status")
    assert result.status == 1
    assert result.out.splitlines()[0] == "NO WORKER IS RUNNING: nothing is accepted or delivered"
    document = sluice("status", "--json").document
    assert (document["sound"], document["running"]) == (False, False)


def test_a_worker_of_another_host_counts_as_running(site: Any, sluice: Callable[..., Any]) -> None:
    member = Member("inc-9", "elsewhere", 0, 2**22 - 1, 1, 0, site.fingerprint, time.time())
    write(site, partial(members.register, member=member))
    assert sluice("status").status == 0


def test_status_counts_the_queue_and_its_balance(told: list[str], sluice: Callable[..., Any]) -> None:
    document = sluice("status", "--json").document
    assert document["queue"] | {"octets": 0, "oldest_queued": "", "oldest_held": ""} == {
        "total": 3,
        "queued": 1,
        "held": 1,
        "parked": 1,
        "quarantined": 0,
        "messages": 3,
        "octets": 0,
        "oldest_queued": "",
        "oldest_held": "",
    }
    assert document["accounts"]["accepted"] == 4
    assert document["accounts"]["delivered"] == 1
    assert document["accounts"]["missing"] == 0
    assert [one["balanced"] for one in document["spools"]] == [True, True]
    assert {one["name"]: (one["queued"], one["delivered"], one["homes"]) for one in document["stores"]} == {
        "cliff": (1, 1, 1),
        "zimbra": (0, 0, 1),
    }
    assert "accepted 4 = delivered 1 + queued 1 + held 1 + parked 1" in sluice("status").out


def test_a_balance_that_fails_is_seen(site: Any, told: list[str], sluice: Callable[..., Any]) -> None:
    connection = sqlite3.connect(site.directory() / "queue.db")
    connection.execute("DELETE FROM recipients WHERE state = 'held'")
    connection.commit()
    connection.close()
    result = sluice("status")
    assert result.status == 1
    assert "DOES NOT BALANCE: spool 0001 by 1" in result.out
    document = sluice("status", "--json").document
    assert (document["balanced"], document["sound"], document["accounts"]["missing"]) == (False, False, 1)


def test_equation_shows_the_sign() -> None:
    assert equation(Totals(accepted=2, delivered=1, held=1)) == "accepted 2 = delivered 1 + held 1"
    assert equation(Totals(accepted=2, delivered=1)) == "accepted 2 ≠ delivered 1"


def test_an_open_alarm_is_exit_1_until_it_is_cleared(site: Any, sluice: Callable[..., Any]) -> None:
    join(site)
    write(site, partial(alarms.raise_alarm, kind="store-down", key="cliff", text="no \x1b[2Janswer", now=1000.0))
    result = sluice("status")
    assert result.status == 1
    assert "store-down cliff" in result.out
    assert "sluice store test" in result.out  # the remedy
    assert "\x1b" not in result.out
    assert sluice("status", "--json").document["alarms"][0]["count"] == 1
    write(site, partial(alarms.clear_alarm, kind="store-down", key="cliff", now=1001.0))
    assert sluice("status").status == 0


def test_an_alarm_with_several_problems_shows_them_on_one_line(site: Any, sluice: Callable[..., Any]) -> None:
    text = "a.yaml:2: x: unknown key\n    did you mean y?\na.yaml:9: z: is missing"
    write(site, partial(alarms.raise_alarm, kind="configuration", key="a.yaml", text=text, now=1000.0))
    joined = "configuration a.yaml: a.yaml:2: x: unknown key; did you mean y?; a.yaml:9: z: is missing ("
    told = sluice("status").out
    assert joined in told
    assert "\\n" not in told
    assert sluice("status", "--json").document["alarms"][0]["text"] == text


def test_holds_are_quiet_or_say_what_they_wait_for(site: Any, kit: Any, sluice: Callable[..., Any]) -> None:
    join(site)
    opened = partial(holds.open_hold, act=Act("op", "move", 1500.0), terms=Terms(batch="w", deadline=2000.0))
    write(site, partial(opened, key=kit.ANN))
    document = sluice("status", "--json").document
    (hold,) = document["holds"]
    assert (hold["mailbox"], hold["quiet_at"], hold["overdue"], hold["batch"]) == (kit.ANN, None, True, "w")
    assert "has not applied the hold" in " ".join(hold["waiting_for"])
    text = sluice("status").out
    assert "OVERDUE" in text
    assert "waits:" in text
    write(site, partial(members.unregister, incarnation="inc-0", now=1600.0))
    assert sluice("status", "--json").document["holds"][0]["quiet_at"] is not None
    assert "quiet" in sluice("status").out


def test_workers_that_are_gone_or_behind_are_seen(site: Any, sluice: Callable[..., Any]) -> None:
    join(site)
    join(site, slot=1, pid=2**22 - 1)
    here, gone = sluice("status", "--json").document["workers"]
    assert (here["alive"], gone["alive"]) == (True, False)
    assert here["behind"] > 0
    assert "GONE" in sluice("status").out


def test_status_without_a_control_database_shows_the_spools(
    site: Any, told: list[str], sluice: Callable[..., Any]
) -> None:
    (site.state / "control.db").unlink()
    result = sluice("status", "--json")
    assert result.status == 69
    assert result.document["queue"]["total"] == 3
    assert "control database" in result.document["unreadable"][0]


async def test_status_reads_beside_an_owner(site: Any, sluice: Callable[..., Any]) -> None:
    async with site.worker() as spool:
        await site.put(spool)
        document = (await asyncio.to_thread(sluice, "status", "--json")).document
    assert (document["queue"]["total"], document["workers"][0]["spool"]) == (1, 1)


# --- store


def test_store_list(site: Any, told: list[str], sluice: Callable[..., Any]) -> None:
    write(site, partial(stores.pause, store="zimbra", act=Act("op", "disk", 1000.0)))
    cliff, zimbra = sluice("store", "list", "--json").document["stores"]
    assert (cliff["role"], cliff["queued"], cliff["homes"], cliff["paused"]) == ("old", 1, 1, False)
    assert (zimbra["paused"], zimbra["pause_reason"], zimbra["pause_actor"]) == (True, "disk", "op")
    assert "zimbra is paused" in sluice("store", "list").out


def test_pause_and_resume_without_workers(site: Any, sluice: Callable[..., Any]) -> None:
    first = sluice("store", "pause", "cliff", "--reason", "maintenance", "--json")
    assert (first.status, first.document["paused"], first.document["changed"]) == (0, True, True)
    assert sluice("store", "pause", "cliff", "--reason", "again", "--json").document["changed"] is False
    assert sluice("store", "resume", "cliff", "--dry-run", "--json").document["would_change"] is True
    assert sluice("store", "resume", "cliff").status == 0
    assert not sluice("store", "list", "--json").document["stores"][0]["paused"]


def test_pause_needs_a_known_store_and_a_reason(sluice: Callable[..., Any]) -> None:
    assert sluice("store", "pause", "clif", "--reason", "x").status == 65
    assert sluice("store", "resume", "clif").status == 65
    assert sluice("store", "pause", "cliff").status == 64
    assert sluice("store", "pause", "cliff", "--reason", "").status == 64


async def test_pause_returns_when_workers_have_applied_it(site: Any, sluice: Callable[..., Any]) -> None:
    async with site.worker():
        result = await asyncio.to_thread(sluice, "store", "pause", "cliff", "--reason", "x", "--json")
    assert (result.status, result.document["waiting_for"]) == (0, [])


def test_pause_that_a_worker_has_not_applied_is_75_and_names_it(site: Any, sluice: Callable[..., Any]) -> None:
    join(site, pid=4711)
    result = sluice("store", "pause", "cliff", "--reason", "x", "--timeout", "0.05")
    assert result.status == 75
    assert "pid 4711" in result.err
    assert sluice("store", "list", "--json").document["stores"][0]["paused"] is True


def test_waiting_ends_as_soon_as_all_have_applied(site: Any) -> None:
    join(site)
    database = site.open_database()
    naps = []

    def nap(_seconds: float) -> None:
        naps.append(1)
        write(site, partial(members.acknowledge, incarnation="inc-0", epoch=99, rows=(), now=1.0))

    try:
        assert wait_applied(database, 99, 60.0, sleep=nap) == []
    finally:
        database.close()
    assert naps == [1]


async def test_store_test_speaks_to_the_store(site: Any, kit: Any, sluice: Callable[..., Any]) -> None:
    async with RecordingStore("cliff") as store:
        site.configure(store.port)
        good = await asyncio.to_thread(sluice, "store", "test", "cliff", "--rcpt", kit.ANN, "--json")
        assert await asyncio.to_thread(sluice, "store", "test", "cliff")
        store.behaviour = Behaviour(refusals=(Refusal("ann@*", "550 5.1.1 nobody \x07here"),))
        bad = await asyncio.to_thread(sluice, "store", "test", "cliff", "--rcpt", kit.ANN)
        told = (await asyncio.to_thread(sluice, "store", "test", "cliff", "--rcpt", kit.ANN, "--json")).document
        assert store.arrivals == []
    (found,) = good.document["tests"]
    assert (good.status, found["ok"], found["rcpt_code"]) == (0, True, 250)
    assert "PIPELINING" in found["offers"]
    assert bad.status == 1
    assert "recipient not accepted: 550 5.1.1 nobody" in bad.out
    assert " ok " not in bad.out
    assert "\x07" not in bad.out
    assert not told["tests"][0]["ok"]
    assert told["tests"][0]["failed"].startswith("recipient not accepted: 550 5.1.1 nobody")


def test_store_test_of_a_store_that_is_down(sluice: Callable[..., Any]) -> None:
    result = sluice("store", "test", "zimbra", "--json")
    assert result.status == 1
    assert result.document["tests"][0]["failed"].startswith("connect to 127.0.0.1")
    assert sluice("store", "test").status == 64
    assert sluice("store", "test", "nosuch").status == 65


# --- log


def test_log_by_queue_id_tells_the_reply_and_the_next_hops_id(told: list[str], sluice: Callable[..., Any]) -> None:
    (row,) = sluice("log", told[0], "--json").records
    assert row["status"] == "delivered"
    assert row["reply"].endswith("Ok: queued as 77ABC12")
    assert (row["remote"], row["remote_queue_id"], row["batch"]) == ("old[127.0.0.1]:25", "77ABC12", "wave-1")
    text = sluice("log", told[0]).out
    assert "their-id=77ABC12" in text
    assert "relay=old[127.0.0.1]:25" in text


def test_log_by_address_goes_over_all_spools_and_ends_with_what_waits(
    kit: Any, told: list[str], sluice: Callable[..., Any]
) -> None:
    rows = sluice("log", kit.BOB, "--json").records
    assert [(one["queue_id"], one["status"]) for one in rows] == [
        (told[2], "held"),
        (told[3], "parked"),
        (told[2], "held"),
        (told[3], "parked"),
    ]
    assert [one["number"] > 0 for one in rows] == [True, True, False, False]
    rows = sluice("log", "ANN@example.edu", "--json").records
    assert [(one["queue_id"], one["status"]) for one in rows] == [(told[0], "delivered"), (told[1], "queued")]
    assert "come back" in rows[1]["reply"]


def test_log_by_message_id(told: list[str], sluice: Callable[..., Any]) -> None:
    for name in ("<done@outside.example>", "done@outside.example"):
        assert [one["queue_id"] for one in sluice("log", name, "--json").records] == [told[0]]


def test_log_without_a_name_shows_the_newest(told: list[str], sluice: Callable[..., Any]) -> None:
    rows = sluice("log", "--json").records
    assert [one["at"] for one in rows] == sorted(one["at"] for one in rows)
    assert len(rows) == 3
    assert sluice("log", "--json", "-n", "1").records == rows[-1:]
    assert sluice("log", "--since", "1h", "--json").records == []


def test_log_of_the_unknown(told: list[str], sluice: Callable[..., Any]) -> None:
    assert sluice("log", "nobody@example.edu").status == 1
    assert sluice("log", "000100FFFFFF").status == 1
    assert sluice("log", "--since", "yesterday").status == 64
    assert sluice("log", told[1]).status == 0  # queued, nothing in the journal


def test_a_removal_has_no_reply_and_names_who_and_why(told: list[str], sluice: Callable[..., Any]) -> None:
    sluice("queue", "delete", told[1], "--yes", "--reason", "spam")
    (row,) = sluice("log", told[1], "--json").records
    assert (row["status"], row["reply"]) == ("removed", "")
    assert row["note"].endswith(": spam")
    assert "()" not in sluice("log", told[1]).out


def test_log_reads_monthly_files_too(site: Any, told: list[str], sluice: Callable[..., Any]) -> None:
    async def move(spool: Spool) -> int:
        return await spool.move_journal()

    before = sluice("log", "--json").records
    assert site.fill(move) > 0
    assert list((site.directory() / "journal").glob("*.jsonl"))
    assert sluice("log", "--json").records == before


async def test_following_tells_what_is_new_and_only_once(site: Any, kit: Any) -> None:
    async with site.spool() as spool:
        old = await site.put(spool)
        await site.conclude(spool, old, Disposition.DELIVERED, "old")
        with view(site.directory()) as opened:
            following = Following([opened], Wanted(kit.ANN))
            assert [row.queue_id for row in following.before(10)] == [old.message.queue_id]
            assert following.look() == []
            new, other = await site.put(spool), await site.put(spool, kit.rcpt(kit.BOB))
            await site.conclude(spool, other, Disposition.DELIVERED, "other")
            await site.conclude(spool, new, Disposition.DELIVERED, "new")
            await spool.move_journal()
            assert [row.queue_id for row in following.look()] == [new.message.queue_id]
            assert following.look() == []
            assert len(rows_after(opened, 0)) == 3


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        ("250 2.0.0 Ok: queued as 77ABC12", "77ABC12"),
        ("250 2.0.0 Ok: queued as 4XyZ3k1Q2Rz9Kx.", "4XyZ3k1Q2Rz9Kx"),
        ("250 OK id=1qAbCd-0001Ef-2G", "1qAbCd-0001Ef-2G"),
        ("250 2.0.0 g1ABCDEFG012345 Message accepted for delivery", "g1ABCDEFG012345"),
        ("250 2.6.0 <x@y> [InternalId=4711, Hostname=a] Queued mail for delivery", "4711"),
        ("250 2.0.0 <ann@example.edu> 2Pd8LDmVZ2VvGgAA0J78UA Saved", "2Pd8LDmVZ2VvGgAA0J78UA"),
        ("250 2.0.0 thank you", ""),
        ("", ""),
    ],
)
def test_the_next_hops_queue_id(reply: str, name: str) -> None:
    assert remote_queue_id(reply) == name
