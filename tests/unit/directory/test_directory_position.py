"""Where a poll begins, what has been told already, and LDIF: pure."""

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.directory.ldif import Modification, Verb, is_safe, line, record
from router.directory.position import Position, bound, by_server, earlier, keeps_up, parse_position, went_back
from router.directory.told import Told
from router.directory.versions import version_of
from router.model.directory import RawEntry


def csn(second: int, server: int = 0) -> str:
    return f"202601010000{second:02}.000000Z#000000#{server:03x}#000000"


def at(newest: int, **complete: int) -> Position:
    return Position("entryCSN", csn(newest), 1, {sid: csn(second, int(sid, 16)) for sid, second in complete.items()})


SERVERS = st.dictionaries(st.sampled_from(["000", "001", "00a"]), st.integers(0, 59))


@given(st.integers(0, 59), st.integers(0, 10**6), SERVERS)
def test_a_position_reads_back(newest: int, serial: int, servers: dict[str, int]) -> None:
    complete = {sid: csn(second, int(sid, 16)) for sid, second in servers.items()}
    for position in (
        Position("entryCSN", csn(newest), serial, complete),
        Position("modifyTimestamp", f"202601010000{newest:02}Z", serial),
        Position("uSNChanged", f"{newest:020}", serial),
        Position("entryCSN", "", serial, complete),
        Position("entryCSN", csn(newest), serial, complete, settled=csn(3)),
    ):
        assert parse_position(str(position)) == position


@pytest.mark.parametrize(
    "text",
    [
        "",
        "entryCSN",
        "objectClass|x|0|",
        "entryCSN|yesterday|0||",
        "uSNChanged|12x|0||",
        "modifyTimestamp|20260101000000Z|-1||",
        "entryCSN||0|000=x)(uid=*|",
        "modifyTimestamp|2026010100000²Z|0||",
        "modifyTimestamp|20260101000000Z|0||then",
        "modifyTimestamp|20260101000000Z|0|",
    ],
)
def test_what_is_no_position_is_none(text: str) -> None:
    assert parse_position(text) is None


@example("entryCSN|")
@example("uSNChanged||²||")
@example("uSNChanged||" + "9" * 5000 + "||")
@example("entryCSN||x||")
@example("entryCSN||0|a|")
@given(st.text())
def test_any_text_is_a_position_or_none(text: str) -> None:
    for one in (text, f"entryCSN|{text}|0||"):
        found = parse_position(one)
        assert found is None or parse_position(str(found)) == found


def test_some_seconds_are_asked_for_again() -> None:
    assert bound(at(10), {}) == csn(5)
    assert bound(Position("modifyTimestamp", "20260101000002Z"), {}) == "20251231235957Z"
    assert bound(Position("uSNChanged", "00000000000000004711"), {}) == "00000000000000004711"
    assert bound(Position("entryCSN", ""), {"000": csn(3)}) == ""


def test_what_is_settled_is_not_asked_for_again() -> None:
    """All of the directory may have been changed in that second."""
    assert bound(Position("entryCSN", csn(10), settled=csn(10)), {}) == csn(10)
    assert bound(Position("entryCSN", csn(12), settled=csn(10)), {}) == csn(10)
    assert bound(Position("entryCSN", csn(30), settled=csn(10)), {}) == csn(25)
    stamp = Position("modifyTimestamp", "20260101000059Z", settled="20260101000059Z")
    assert bound(stamp, {}) == "20260101000100Z"
    late = Position("entryCSN", csn(30), 1, {"000": csn(30), "001": csn(3, 1)}, settled=csn(30))
    assert bound(late, {"000": csn(30), "001": csn(9, 1)}) == csn(3, 1)


def test_a_server_keeps_up_what_it_says_or_does_not() -> None:
    assert keeps_up(csn(10), {"0.000": csn(10)})
    assert keeps_up(csn(10), {"0.000": csn(3), "0.001": csn(11, 1)})
    assert not keeps_up(csn(10), {"0.000": csn(9)})
    assert not keeps_up(csn(10), {})


def test_each_of_two_databases_keeps_up_for_itself() -> None:
    """People may have come up to second 60 while the domains, in a database of their own, are still at 0."""
    complete = {"0.001": csn(60, 1), "1.001": csn(0, 1)}
    assert not keeps_up(csn(60, 1), complete)
    assert keeps_up(csn(60, 1), complete | {"1.001": csn(60, 1)})


def test_what_a_replica_got_late_is_asked_for_from_where_it_stood() -> None:
    """It has shown a change of second 30 before one of second 12; it said so far that it is complete up to 10."""
    position = at(30, **{"000": 10})
    assert bound(position, {"000": csn(10)}) == csn(25), "it has not moved on: nothing new is complete"
    assert bound(position, {"000": csn(30)}) == csn(10)


def test_a_master_that_comes_back_brings_its_old_changes() -> None:
    position = at(50, **{"001": 50, "002": 3})
    assert bound(position, {"001": csn(50, 1), "002": csn(7, 2)}) == csn(3, 2)
    assert bound(position, {"001": csn(51, 1), "002": csn(3, 2)}) == csn(45)


def test_a_server_that_has_less_than_before_went_back() -> None:
    position = at(30, **{"001": 30, "002": 3})
    complete = dict(position.complete)
    assert not went_back(position, complete)
    assert went_back(position, {**complete, "001": csn(29, 1)})
    assert went_back(position, {"001": csn(30, 1)})
    assert not went_back(at(30), complete)


def test_values_that_cannot_be_reckoned_with_are_left_out() -> None:
    assert by_server((b"x", csn(1).encode(), b"\xff#1#2#3")) == {"000": csn(1)}
    assert earlier("modifyTimestamp", "", 5) == ""


def test_the_best_attribute_tells_the_version() -> None:
    attributes = {"entrycsn": (csn(1).encode(),), "usnchanged": (b"5",), "modifytimestamp": (b"20260101000000Z",)}
    assert version_of(attributes) == csn(1)
    assert version_of(attributes, ("uSNChanged",)) == "00000000000000000005"
    assert version_of({"modifytimestamp": (b"20260101000000Z",)}) == "20260101000000Z"
    assert version_of({}) == ""
    assert version_of({"usnchanged": (b"9",)}) < version_of({"usnchanged": (b"10",)})


# --- told


def raw(name: str, value: str) -> RawEntry:
    return RawEntry(name, {"mail": (value.encode(),)})


def told(memory: Told, since: str, *entries: RawEntry, cookie: str) -> list[bool]:
    memory.begin(since)
    new = [memory.new(entry) for entry in entries]
    memory.end(cookie)
    return new


def test_a_state_is_told_once_to_who_kept_the_answer() -> None:
    memory = Told()
    one, two = raw("a", "1"), raw("a", "2")
    assert told(memory, "c0", one, cookie="c1") == [True]
    assert told(memory, "c1", one, two, cookie="c2") == [False, True]
    assert told(memory, "c2", one, two, cookie="c2") == [False, False]


def test_who_asks_with_the_same_cookie_has_lost_the_answer_and_hears_it_again() -> None:
    memory = Told()
    one, two = raw("a", "1"), raw("b", "1")
    told(memory, "c0", one, cookie="c1")
    assert told(memory, "c1", one, two, cookie="c2") == [False, True]
    assert told(memory, "c1", one, two, cookie="c2") == [False, True]
    assert told(memory, "c0", one, two, cookie="c1") == [True, True]


def test_an_answer_that_was_never_finished_told_nothing() -> None:
    memory = Told()
    memory.begin("c0")
    assert memory.new(raw("a", "1"))
    assert told(memory, "c0", raw("a", "1"), cookie="c1") == [True]


def test_memory_is_bounded() -> None:
    memory = Told(kept=10)
    entries = [raw(f"e{number}", "1") for number in range(15)]
    told(memory, "c0", *entries, cookie="c1")
    again = told(memory, "c1", *entries, cookie="c2")
    assert again.count(False) == 10


def test_states_differ_by_name_attribute_value_and_their_borders() -> None:
    memory = Told()
    states = [
        RawEntry("a", {"mail": (b"1", b"2")}),
        RawEntry("a", {"mail": (b"12",)}),
        RawEntry("a", {"mail": (b"2", b"1")}),
        RawEntry("a", {"mai": (b"l1", b"2")}),
        RawEntry("a", {"mail": (b"1",), "x": (b"2",)}),
        RawEntry("am", {"ail": (b"1", b"2")}),
        RawEntry("a", {"mail": (), "x": (b"1", b"2")}),
    ]
    assert told(memory, "c0", *states, cookie="c1") == [True] * len(states)
    turned = RawEntry("a", {"x": (b"2",), "mail": (b"1",)})
    assert told(memory, "c1", turned, cookie="c1") == [False]


# --- LDIF


@pytest.mark.parametrize(
    "value", [b" a", b":a", b"<a", b"a ", b"a\nb", b"a\rb", b"a\0", b"\x1b[2J", "é".encode(), b"\xff"]
)
def test_an_unsafe_value_becomes_base64(value: bytes) -> None:
    assert line("cn", value) == f"cn:: {base64.b64encode(value).decode()}"


@given(st.binary())
def test_a_value_reads_back_and_stays_in_its_line(value: bytes) -> None:
    text = line("cn", value)
    assert len(text.splitlines()) == 1
    name, _, rest = text.partition(":")
    assert name == "cn"
    again = base64.b64decode(rest[2:]) if rest.startswith(":") else rest.removeprefix(" ").encode()
    assert again == value
    assert is_safe(value) or rest.startswith(":")


def test_a_change_record() -> None:
    changes = [
        Modification(Verb.DELETE, "mailUserStatus", (b"active",)),
        Modification(Verb.ADD, "mailUserStatus", (b"hold",)),
    ]
    assert record("uid=ann,dc=example", changes) == (
        "dn: uid=ann,dc=example\nchangetype: modify\n"
        "delete: mailUserStatus\nmailUserStatus: active\n-\nadd: mailUserStatus\nmailUserStatus: hold\n-\n"
    )


def test_a_name_with_other_letters_and_nothing_to_do() -> None:
    text = record("uid=é,dc=example", [])
    assert text == f"# nothing to change\n# dn:: {base64.b64encode('uid=é,dc=example'.encode()).decode()}\n"
