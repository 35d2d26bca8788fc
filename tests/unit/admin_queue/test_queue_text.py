"""The queue as text and JSON: pure functions."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.admin.cli.queue_change import filter_json, lane_filters
from router.admin.cli.queue_format import HEADING, Listed, Sums, Windows, as_json, as_mailq, messages, queue_name
from router.admin.cli.queue_select import BadSelection, Selection, queue_ids
from router.admin.cli.queue_shape import EDGES, MAX_KEYS, OTHERS, Shape, as_text, bucket, key_of
from router.daemon.requests import queue_filter
from router.model.mailbox import Hold
from router.spool.finding import QueueEntry, QueueFilter

ENTRY = QueueEntry(
    number=65536, queue_id="000100000001", state="queued", recipient="Ann@example.edu", sender="s@example.org",
    lane="cliff", mailbox="ann@example.edu", received_at=1000.7, size=2048, due=5000.0, attempts=3, clock_start=1000.0,
    draining=False, possible_duplicate=False, own=False, reason="451 4.3.0 come back", message_id="<m@x>",
)  # fmt: skip
HELD = replace(ENTRY, number=65537, state="held", recipient="bob@example.edu", mailbox="bob@example.edu", reason="")
WINDOWS = Windows({"bob@example.edu": Hold(7, 900.0, 3, batch="wave-1", deadline=9000.0)}, now=2000.0)


def test_json_has_postfix_names_and_ours() -> None:
    assert as_json(Listed((ENTRY, HELD)), WINDOWS) == {
        "queue_name": "deferred",
        "queue_id": "000100000001",
        "arrival_time": 1000,
        "message_size": 2048,
        "forced_expire": False,
        "sender": "s@example.org",
        "recipients": [
            {
                "address": "Ann@example.edu",
                "delay_reason": "451 4.3.0 come back",
                "route": "cliff",
                "state": "queued",
                "mailbox": "ann@example.edu",
                "batch": "",
                "hold": None,
                "hold_until": None,
                "due": 5000.0,
                "attempts": 3,
                "possible_duplicate": False,
            },
            {
                "address": "bob@example.edu",
                "route": "cliff",
                "state": "held",
                "mailbox": "bob@example.edu",
                "batch": "wave-1",
                "hold": 7,
                "hold_until": 9000.0,
                "due": None,
                "attempts": 3,
                "possible_duplicate": False,
            },
        ],
        "message_id": "<m@x>",
        "own": False,
    }


def test_the_null_sender_has_postfix_name() -> None:
    listed = Listed((replace(ENTRY, sender=""),))
    assert as_json(listed, WINDOWS)["sender"] == "MAILER-DAEMON"
    assert next(as_mailq(listed, WINDOWS)).endswith(" MAILER-DAEMON")


@pytest.mark.parametrize(
    ("entries", "name"),
    [
        ((ENTRY,), "deferred"),
        ((replace(ENTRY, due=2000.0),), "active"),
        ((replace(ENTRY, draining=True),), "active"),
        ((HELD,), "hold"),
        ((replace(HELD, state="parked"), replace(HELD, state="quarantined")), "hold"),
        ((HELD, ENTRY), "deferred"),
    ],
)
def test_queue_names(entries: tuple[QueueEntry, ...], name: str) -> None:
    assert queue_name(Listed(entries), WINDOWS.now) == name


def test_mailq_layout_has_columns_where_postfix_has_them() -> None:
    lines = list(as_mailq(Listed((ENTRY,)), WINDOWS))
    assert HEADING.index("-Sender") == lines[0].index("s@example.org") == lines[2].index("Ann@")
    assert lines[0].split()[:2] == ["000100000001", "2048"]
    assert lines[1].strip() == "(451 4.3.0 come back)"
    assert lines[3] == ""


def test_mailq_marks_held_mail_and_names_the_window() -> None:
    lines = list(as_mailq(Listed((HELD,)), WINDOWS))
    assert lines[0].startswith("000100000001! ")
    assert "held for bob@example.edu, hold 7, batch wave-1, until" in lines[1]


def test_mailq_tells_a_reason_once_for_its_recipients() -> None:
    lines = list(as_mailq(Listed((ENTRY, replace(ENTRY, recipient="b@x.example"))), WINDOWS))
    assert sum("come back" in line for line in lines) == 1


def test_closing_line_counts_messages_as_mailq_does() -> None:
    sums = Sums()
    assert sums.closing_line() == "Mail queue is empty"
    sums.add(Listed((ENTRY,)))
    assert sums.closing_line() == "-- 2 Kbytes in 1 Request."
    sums.add(Listed((replace(ENTRY, size=1),)))
    assert sums.closing_line() == "-- 3 Kbytes in 2 Requests."


def test_entries_are_gathered_by_message() -> None:
    other = replace(ENTRY, queue_id="000100000002")
    assert [len(one.entries) for one in messages([ENTRY, HELD, other])] == [2, 1]


@given(st.floats(min_value=-10, max_value=1e9))
def test_every_age_is_in_the_bucket_that_its_edges_say(seconds: float) -> None:
    place = bucket(seconds)
    assert place == len(EDGES) or seconds < EDGES[place] * 60
    assert place == 0 or seconds >= EDGES[place - 1] * 60


def test_shape_counts_by_key_and_stays_bounded() -> None:
    shape = Shape("mailbox", now=1000.0 + 400)
    shape.add(replace(ENTRY, mailbox=f"m{number}@x.example") for number in range(MAX_KEYS + 5))
    assert len(shape.rows) == MAX_KEYS + 1
    assert sum(shape.rows[OTHERS]) == 5
    assert sum(shape.total()) == MAX_KEYS + 5
    assert shape.total()[1] == MAX_KEYS + 5  # 400 s is below 10 minutes and not below 5


def test_shape_as_text_begins_with_the_total() -> None:
    shape = Shape("store", now=2000.0)
    shape.add([ENTRY, HELD, replace(ENTRY, lane="")])
    lines = list(as_text(shape, limit=1))
    assert lines[1].split()[:2] == ["TOTAL", "3"]
    assert lines[2].split()[:2] == ["(held)", "1"]
    assert len(lines) == 3


@pytest.mark.parametrize("lane", ["", "cliff"])
@pytest.mark.parametrize("state", ["held", "parked", "quarantined"])
def test_what_waits_for_no_store_has_a_row_of_its_own(state: str, lane: str) -> None:
    entry = replace(ENTRY, state=state, lane=lane)
    assert key_of(entry, "store") == f"({state})"
    assert key_of(entry, "state") == state
    assert key_of(replace(ENTRY, lane=lane), "store") == (lane or "(not routed yet)")


def test_queue_ids_take_marks_and_repetitions() -> None:
    assert queue_ids(["000100000001!", "00010000000a", "000100000001"]) == ("000100000001", "00010000000A")


@pytest.mark.parametrize("text", ["ALL", "4Xy1", "0001", "000100000000"])
def test_what_is_no_queue_id_is_refused(text: str) -> None:
    with pytest.raises(BadSelection):
        queue_ids([text])


def test_only_a_selection_without_conditions_is_everything() -> None:
    assert Selection().everything
    assert not Selection(QueueFilter(sender="")).everything
    assert not Selection(ids=("000100000001",)).everything
    assert not Selection(mailboxes=frozenset()).everything


def test_a_filter_survives_the_way_through_a_request() -> None:
    wanted = QueueFilter(queue_id="000100000001", lane="cliff", sender="", older_than=12.5, reason="full")
    assert queue_filter(filter_json(wanted)) == wanted
    assert filter_json(QueueFilter()) == {}


def test_a_flush_of_all_names_each_lane_so_that_its_rest_ends() -> None:
    assert [one.lane for one in lane_filters(["", "cliff", "zimbra"], QueueFilter())] == ["cliff", "zimbra", None]
    assert lane_filters(["cliff"], QueueFilter(lane="zimbra")) == [QueueFilter(lane="zimbra")]
