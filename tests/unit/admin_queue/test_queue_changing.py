"""`queue flush`, `requeue`, `delete`, `park` and `unpark`: through the owner of a spool, and as its owner."""

import asyncio
import io
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from router.control import audit, requests
from router.control.requests import Request
from router.model.outcome import Disposition
from router.spool.finding import QueueFilter
from router.spool.offline import view
from router.spool.spool import Spool


def states(site: Any, number: int = 1) -> list[str]:
    with view(site.directory(number)) as opened:
        return [one.state for one in opened.find(QueueFilter())]


def asked(site: Any) -> list[Request]:
    database = site.open_database()
    try:
        return list(database.run_read(partial(requests.get, numbers=range(1, 100))))
    finally:
        database.close()


def audited(site: Any) -> list[Any]:
    database = site.open_database()
    try:
        return [one for one in database.run_read(partial(audit.rows)) if one.verb.startswith("queue")]
    finally:
        database.close()


@pytest.fixture
def two(site: Any, kit: Any) -> list[str]:
    """Two messages in spool 1: a deferred one to ann and a held one to bob."""

    async def story(spool: Spool) -> list[str]:
        first = await site.put(spool, kit.rcpt(kit.ANN))
        await site.conclude(spool, first, Disposition.DEFERRED, "come back")
        second = await site.put(spool, kit.rcpt(kit.BOB, held=True))
        return [first.message.queue_id, second.message.queue_id]

    ids: list[str] = site.fill(story)
    return ids


VERBS = [
    (["flush", "--all"], 1, ["queued", "held"]),
    (["requeue", "--all", "--reason", "mended"], 2, ["queued", "queued"]),
    (["park", "--all", "--reason", "look"], 2, ["parked", "parked"]),
    (["delete", "--all", "--yes", "--reason", "spam"], 2, []),
]


@pytest.mark.parametrize(("arguments", "count", "after"), VERBS)
def test_without_a_worker_the_command_is_the_owner(
    arguments: list[str], count: int, after: list[str], site: Any, two: list[str], sluice: Callable[..., Any]
) -> None:
    result = sluice("queue", *arguments, "--json")
    assert (result.status, result.err) == (0, "")
    assert result.document["changed"] == count
    assert result.document["as_owner"] == [1]
    assert states(site) == after
    assert asked(site) == []


@pytest.mark.parametrize(("arguments", "count", "after"), VERBS)
async def test_with_a_worker_the_change_goes_through_a_request(
    arguments: list[str], count: int, after: list[str], site: Any, two: list[str], sluice: Callable[..., Any]
) -> None:
    async with site.worker():
        result = await asyncio.to_thread(sluice, "queue", *arguments, "--json")
        assert (result.status, result.err) == (0, "")
        assert result.document["changed"] == count
        assert result.document["as_owner"] == []
        assert states(site) == after
    assert {one.state for one in asked(site)} == {"done"}


async def test_one_spool_with_a_worker_and_one_without(site: Any, two: list[str], sluice: Callable[..., Any]) -> None:
    async with site.spool(2) as spool:
        await site.put(spool)
    async with site.worker(2):
        result = await asyncio.to_thread(sluice, "queue", "park", "--all", "--reason", "look", "--json")
    assert result.document["changed"] == 3
    assert result.document["as_owner"] == [1]
    assert states(site, 1) + states(site, 2) == ["parked"] * 3


async def test_a_worker_that_does_not_answer_in_time_is_75_and_durable(
    site: Any, two: list[str], sluice: Callable[..., Any]
) -> None:
    arguments = ["queue", "delete", two[0], "--yes", "--reason", "spam", "--timeout", "0.1"]
    async with site.worker(deaf=True):
        result = await asyncio.to_thread(sluice, *arguments, "--json")
        words = await asyncio.to_thread(sluice, *arguments)
    assert result.status == words.status == 75
    assert result.document["pending"] == [{"spool": 1, "requests": 1}]
    assert "durable" in words.err
    assert [one.state for one in asked(site)] == ["new", "new"]
    assert states(site) == ["queued", "held"]


async def test_a_request_that_fails_is_told_and_exits_1(
    site: Any, two: list[str], sluice: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> int:
        raise OSError("disk on fire")

    async with site.worker() as spool:
        monkeypatch.setattr(spool.desk, "requeue", fails)
        result = await asyncio.to_thread(sluice, "queue", "requeue", "--all", "--json")
    assert result.status == 1
    assert "spool 0001" in result.document["errors"][0]


def test_nothing_acts_on_everything_by_accident(site: Any, two: list[str], sluice: Callable[..., Any]) -> None:
    for arguments in (["flush"], ["requeue"], ["park", "--reason", "x"], ["delete", "--reason", "x", "--yes"]):
        result = sluice("queue", *arguments)
        assert result.status == 64
        assert "--all" in result.err
    assert states(site) == ["queued", "held"]
    assert audited(site) == []


def test_an_empty_list_of_ids_is_not_everything(
    site: Any, two: list[str], sluice: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert sluice("queue", "delete", "-", "--reason", "x", "--yes").status == 0
    assert states(site) == ["queued", "held"]


def test_delete_needs_a_reason_and_a_yes(site: Any, two: list[str], sluice: Callable[..., Any]) -> None:
    assert sluice("queue", "delete", two[0], "--yes").status == 64
    assert sluice("queue", "delete", two[0], "--yes", "--reason", " ").status == 64
    refused = sluice("queue", "delete", two[0], "--reason", "spam")
    assert refused.status == 64
    assert "--yes" in refused.err
    assert states(site) == ["queued", "held"]


@pytest.mark.parametrize(
    ("answer", "arguments", "left"), [("n\n", [], 2), ("y\n", [], 1), ("yes\n", ["--all"], 2), ("all\n", ["--all"], 0)]
)
def test_on_a_terminal_delete_asks(
    answer: str, arguments: list[str], left: int, site: Any, two: list[str],
    sluice: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    typed = io.StringIO(answer)
    monkeypatch.setattr(typed, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", typed)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _="": typed.readline().rstrip("\n"))
    chosen = arguments or [two[0]]
    result = sluice("queue", "delete", "--reason", "spam", *chosen)
    assert result.status == (130 if left == 2 else 0)
    assert len(states(site)) == left


def test_delete_keeps_a_copy_and_says_where(site: Any, kit: Any, two: list[str], sluice: Callable[..., Any]) -> None:
    result = sluice("queue", "delete", two[0], "--yes", "--reason", "spam")
    kept = site.directory() / "removed"
    assert str(kept) in result.out
    assert (kept / f"{two[0]}.eml").read_bytes() == kit.BODY
    (envelope,) = [json.loads(path.read_text()) for path in kept.glob("*.json")]
    assert envelope["removed"]["reason"] == "spam"


def test_the_audit_names_actor_reason_and_extent(site: Any, two: list[str], sluice: Callable[..., Any]) -> None:
    sluice("queue", "park", two[1], "--reason", "a look")
    (row,) = audited(site)
    assert (row.verb, row.key, row.reason) == ("queue park", two[1], "a look")
    assert row.actor not in {"", "unknown"}
    assert row.before == {"messages": 1, "recipients": 1, "ids": [two[1]]}
    assert row.after == {"state": "parked"}


def test_the_audit_says_what_the_mail_becomes(site: Any, two: list[str], sluice: Callable[..., Any]) -> None:
    sluice("queue", "park", "--mailbox", "bob@example.edu", "--reason", "look")
    sluice("queue", "unpark", "--all", "--reason", "seen")
    sluice("queue", "requeue", "--state", "queued", "--reason", "again")
    sluice("queue", "flush", "--all")
    sluice("queue", "delete", "--all", "--yes", "--reason", "spam")
    rows = {one.verb.removeprefix("queue "): (one.before, one.after) for one in audited(site)}
    assert rows == {
        "park": ({"messages": 1, "recipients": 1, "mailbox": "bob@example.edu"}, {"state": "parked"}),
        "unpark": ({"messages": 1, "recipients": 1, "state": "parked"}, {"state": "queued"}),
        "requeue": ({"messages": 2, "recipients": 2, "state": "queued"}, {"state": "queued"}),
        "flush": ({"messages": 2, "recipients": 2, "state": "queued"}, {"state": "queued", "due": "now"}),
        "delete": ({"messages": 2, "recipients": 2}, {"state": "removed"}),
    }


def test_a_dry_run_changes_nothing(site: Any, two: list[str], sluice: Callable[..., Any]) -> None:
    result = sluice("queue", "delete", "--all", "--reason", "x", "--dry-run", "--json")
    assert (result.status, result.document["recipients"], result.document["changed"]) == (0, 2, 0)
    assert states(site) == ["queued", "held"]
    assert audited(site) == []


def test_unpark_takes_parked_mail_only(site: Any, two: list[str], sluice: Callable[..., Any]) -> None:
    sluice("queue", "park", two[0], "--reason", "look")
    assert sluice("queue", "unpark", "--all", "--json").document["changed"] == 1
    assert states(site) == ["queued", "held"]
    assert sluice("queue", "unpark", "--all", "--state", "held").status == 64


def test_flush_makes_due_and_leaves_attempts(site: Any, two: list[str], sluice: Callable[..., Any]) -> None:
    assert sluice("queue", "flush", "--store", "cliff", "--json").document["changed"] == 1
    (entry,) = sluice("queue", "list", "--json", two[0]).records
    assert entry["queue_name"] == "active"
    assert entry["recipients"][0]["attempts"] == 1
    assert sluice("queue", "flush", "--state", "held").status == 64


async def test_a_flush_wakes_the_lanes_by_name(site: Any, two: list[str], sluice: Callable[..., Any]) -> None:
    async with site.worker():
        await asyncio.to_thread(sluice, "queue", "flush", "--all")
    assert [one.payload for one in asked(site)] == [
        {"filter": {"state": "queued", "lane": "cliff"}},
        {"filter": {"state": "queued"}},
    ]


def test_a_change_may_be_asked_for_twice(site: Any, two: list[str], sluice: Callable[..., Any]) -> None:
    for changed in (1, 0):
        result = sluice("queue", "park", two[0], "--reason", "look", "--json")
        assert (result.status, result.document["changed"]) == (0, changed)
    gone = ["queue", "delete", two[0], "--yes", "--reason", "x", "--json"]
    assert [sluice(*gone).document["changed"] for _ in range(2)] == [1, 0]


def test_without_a_control_database_the_owner_can_still_act(
    site: Any, two: list[str], sluice: Callable[..., Any]
) -> None:
    (site.state / "control.db").unlink()
    assert sluice("queue", "requeue", "--all").status == 0
    assert states(site) == ["queued", "queued"]


async def test_without_a_control_database_a_worker_cannot_be_asked(
    site: Any, two: list[str], sluice: Callable[..., Any]
) -> None:
    async with site.spool():
        (site.state / "control.db").unlink()
        result = await asyncio.to_thread(sluice, "queue", "requeue", "--all")
    assert result.status == 69
    assert "in use by process" in result.err
    assert states(site) == ["queued", "held"]


async def test_mail_that_arrives_after_the_count_is_left_alone(site: Any, kit: Any, two: list[str]) -> None:
    from router.admin.cli.queue_change import Change, carry_out, measure  # noqa: PLC0415 - the parts, for once
    from router.admin.cli.queue_select import Selection, spool_places  # noqa: PLC0415

    places = spool_places(site.state)
    extent = measure(places, Selection())
    async with site.spool() as spool:
        await site.put(spool, kit.rcpt(kit.ANN))
    change = Change("park", Selection(), audit.Act("op", "look", 1.0))
    done = await asyncio.to_thread(carry_out, places, change, extent, None, 1.0)
    assert (extent.recipients, done.count) == (2, 2)
    assert states(site) == ["parked", "parked", "queued"]


def test_another_account_may_not_act_as_owner(
    site: Any, two: list[str], sluice: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    result = sluice("queue", "requeue", "--all")
    assert result.status == 77
    assert "runuser -u" in result.err
    assert states(site) == ["queued", "held"]


async def test_another_account_may_ask_a_worker(
    site: Any, two: list[str], sluice: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site.worker():
        monkeypatch.setattr("os.geteuid", lambda: 12345)
        result = await asyncio.to_thread(sluice, "queue", "requeue", "--all", "--json")
        monkeypatch.undo()
    assert (result.status, result.document["changed"]) == (0, 2)


def test_the_lock_is_given_up_after_a_change(site: Any, two: list[str], sluice: Callable[..., Any]) -> None:
    for _ in range(2):
        assert sluice("queue", "requeue", "--all", "--json").document["as_owner"] == [1]
