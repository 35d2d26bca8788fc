"""Recording stores: what they record, and each of their faults."""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.ledger.arrival import Arrival, Tape, find_tag, split_trace
from router.ledger.behaviour import Behaviour, Refusal, Stage
from router.ledger.load import stuffed
from router.ledger.stores import RecordingStore, StoreProcess, read_arrivals
from router.ledger.unstuff import Unstuffer

Connect = Callable[[int], Awaitable[Any]]
TRACE = b"Received: from a (b [1.2.3.4])\r\n\tby mx (Sluice) with ESMTP id Q1;\r\n\tSun, 22 Nov 2026 01:02:03 +0000\r\n"
CONTENT = b"X-Ledger: run-1\r\nSubject: x\r\n\r\n.dot\r\n..\r\nend\r\n"


async def transact(client: Any, *recipients: str, content: bytes = CONTENT, greet: str = "EHLO me") -> str:
    await client.say(greet)
    await client.say("MAIL FROM:<s@example.net> SIZE=10")
    for recipient in recipients:
        await client.say(f"RCPT TO:<{recipient}> NOTIFY=NEVER")
    await client.say("DATA")
    client.writer.write(stuffed(content))
    return str(await client.reply())


@pytest.mark.slow
async def test_a_message_is_recorded_without_the_trace_field(connect: Connect) -> None:
    async with RecordingStore("old", keep_bodies=True) as store:
        client = await connect(store.port)
        assert (await transact(client, "a@x", "b@x", content=TRACE + CONTENT)).startswith("250")
        [arrival] = store.arrivals
    assert arrival.recipients == (("a@x", 250), ("b@x", 250))
    assert (arrival.store, arrival.sender, arrival.tag) == ("old", "s@example.net", "run-1")
    assert arrival.digest == sha256(CONTENT).hexdigest()
    assert arrival.trace == TRACE.decode().removesuffix("\r\n")
    assert arrival.body == TRACE + CONTENT
    assert arrival.parameters == ("SIZE=10", "NOTIFY=NEVER", "NOTIFY=NEVER")
    assert arrival.began <= arrival.at
    assert list(store.attempts) == ["a@x", "b@x"]


async def test_a_pipelined_group_is_answered_in_order(connect: Connect) -> None:
    async with RecordingStore("old", behaviour=Behaviour(refusals=(Refusal("b@*", "550 5.1.1 no"),))) as store:
        client = await connect(store.port)
        client.writer.write(b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<a@x>\r\nRCPT TO:<B@x>\r\nDATA\r\n")
        codes = [(await client.reply())[:3] for _ in range(5)]
        client.writer.write(stuffed(CONTENT) + b"QUIT\r\n")
        codes += [(await client.reply())[:3] for _ in range(2)]
        assert codes == ["250", "250", "250", "550", "354", "250", "221"]
        assert store.arrivals[0].recipients == (("a@x", 250),)
        assert await client.reader.read() == b""


async def test_lmtp_answers_for_each_recipient(connect: Connect) -> None:
    behaviour = Behaviour(dot_refusals=(Refusal("b@x", "452 4.2.2 full"),))
    async with RecordingStore("old", lmtp=True, behaviour=behaviour) as store:
        client = await connect(store.port)
        assert (await transact(client, "a@x", "b@x", greet="LHLO me")).startswith("250")
        assert (await client.reply()).startswith("452")
        assert store.arrivals[0].recipients == (("a@x", 250), ("b@x", 452))


async def test_drop_after_the_dot_is_recorded_as_unanswered(connect: Connect) -> None:
    async with RecordingStore("old", behaviour=Behaviour(drop_after_dot=1)) as store:
        client = await connect(store.port)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await transact(client, "a@x")
        await store.arrived(1)
        assert store.arrivals[0].recipients == (("a@x", 0),)
        assert (await transact(await connect(store.port), "a@x")).startswith("250")
        assert store.arrivals[1].recipients == (("a@x", 250),)


async def test_drop_before_the_dot_records_nothing(connect: Connect) -> None:
    async with RecordingStore("old", behaviour=Behaviour(drop_before_dot=1)) as store:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await transact(await connect(store.port), "a@x")
        assert (await transact(await connect(store.port), "a@x")).startswith("250")
        assert len(store.arrivals) == 1


async def test_a_hanging_dot_is_unanswered_when_the_client_leaves(connect: Connect) -> None:
    async with RecordingStore("old", behaviour=Behaviour(hang=frozenset({Stage.DOT}))) as store:
        client = await connect(store.port)
        running = asyncio.ensure_future(transact(client, "a@x"))
        for _ in range(40):  # turns of the loop, for both sides: a time might pass in one pause of the machine
            await asyncio.sleep(0.005)
        assert not running.done()
        running.cancel()
        assert store.arrivals == []
        await client.close()
        await store.arrived(1)
        assert store.arrivals[0].recipients == (("a@x", 0),)


async def test_a_hang_ends_when_it_is_lifted(connect: Connect) -> None:
    async with RecordingStore("old", behaviour=Behaviour(hang=frozenset({Stage.MAIL}))) as store:
        client = await connect(store.port)
        running = asyncio.ensure_future(transact(client, "a@x"))
        done, _ = await asyncio.wait([running], timeout=0.1)
        assert not done
        store.behaviour = Behaviour()
        assert (await running).startswith("250")


async def test_a_delay_holds_back_what_follows(connect: Connect) -> None:
    async with RecordingStore("old", behaviour=Behaviour(delays={Stage.RCPT: 0.05})) as store:
        client = await connect(store.port)
        began = asyncio.get_running_loop().time()
        assert (await transact(client, "a@x", "b@x")).startswith("250")
        assert asyncio.get_running_loop().time() - began >= 0.1


async def test_greylisting_refuses_each_pair_at_first(connect: Connect) -> None:
    async with RecordingStore("old", behaviour=Behaviour(transient_first=1)) as store:
        client = await connect(store.port)
        await client.say("EHLO me")
        await client.say("MAIL FROM:<s@x>")
        replies = [(await client.say(f"RCPT TO:<{name}@x>"))[:3] for name in ("a", "a", "b")]
        assert replies == ["451", "250", "451"]


async def test_fixed_replies_and_what_is_announced(connect: Connect) -> None:
    behaviour = Behaviour(replies={Stage.DOT: "452 4.3.1 full"}, pipelining=False, dsn=False)
    async with RecordingStore("old", behaviour=behaviour) as store:
        client = await connect(store.port)
        greeting = await client.say("EHLO me")
        assert "PIPELINING" not in greeting
        assert "DSN" not in greeting
        assert (await transact(client, "a@x")).startswith("452")
        assert store.arrivals[0].recipients == (("a@x", 452),)


async def test_stop_cuts_connections_and_start_takes_the_port_again(connect: Connect) -> None:
    store = RecordingStore("old")
    port = await store.start()
    client = await connect(port)
    assert store.open_connections == 1
    await store.stop()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await client.reply()
    assert await store.start(port) == port
    assert (await transact(await connect(port), "a@x")).startswith("250")
    await store.stop()
    await store.stop()


@pytest.mark.slow
async def test_a_store_process_records_to_its_file(connect: Connect, tmp_path: Path) -> None:
    store = StoreProcess("new", tmp_path / "new.jsonl", keep_bodies=True)
    port = await asyncio.to_thread(store.start)
    try:
        assert (await transact(await connect(port), "a@x", content=TRACE + CONTENT)).startswith("250")
        [arrival] = store.arrivals()
        assert (arrival.store, arrival.tag, arrival.body) == ("new", "run-1", TRACE + CONTENT)
        refusing = Behaviour(refusals=(Refusal("*", "550 5.1.1 no"),), hang=frozenset(), delays={Stage.DOT: 0.01})
        await asyncio.to_thread(store.behave, refusing)
        client = await connect(port)
        await client.say("EHLO me")
        await client.say("MAIL FROM:<s@x>")
        assert (await client.say("RCPT TO:<a@x>")).startswith("550")
    finally:
        await asyncio.to_thread(store.stop)
    assert store.pid == 0
    with pytest.raises(RuntimeError):
        store.behave(Behaviour())


def test_a_record_survives_its_file() -> None:
    arrival = Arrival("old", 1.5, 2.5, "", (("a@x", 0),), "t", "d", 9, "Received: x", ("", "NOTIFY=NEVER"), b"\xff\r\n")
    assert Arrival.from_json(arrival.to_json()) == arrival


def test_a_record_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    records = tmp_path / "records"
    assert read_arrivals(records) == []
    line = Arrival("old", 1.0, 2.0, "", (("a@x", 250),), "t", "d", 9).to_json()
    records.write_text(f"{line}\n{line[:20]}")
    assert len(read_arrivals(records)) == 1


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(),
        Behaviour(
            {Stage.DOT: 1.0},
            frozenset({Stage.RCPT}),
            {Stage.MAIL: "451 x"},
            (Refusal("a*", "550 x"),),
            drop_after_dot=-1,
        ),
    ],
)
def test_behaviour_travels_as_text(behaviour: Behaviour) -> None:
    assert Behaviour.from_json(behaviour.to_json()) == behaviour


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([b".", b"..", b"\r", b"\n", b"\r\n", b"a", b"Received:", b" ", b"\r\n.\r\n"]), max_size=30
    ),
    st.integers(1, 7),
)
def test_unstuffing_is_exact_however_it_is_cut(pieces: list[bytes], step: int) -> None:
    content = b"".join(pieces)
    if content and not content.endswith(b"\r\n"):
        content += b"\r\n"
    wire = stuffed(content) + b"QUIT\r\n"
    reader = Unstuffer()
    out = b""
    for start in range(0, len(wire), step):
        assert not reader.done or start > 0
        piece = wire[start : start + step]
        if reader.done:
            reader.rest += piece
        else:
            out += reader.feed(piece)
    assert reader.done
    assert out == content
    assert reader.rest == b"QUIT\r\n"


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_a_large_message_has_the_same_digest_in_any_pieces(step: int) -> None:
    content = CONTENT + b"0123456789\r\n" * (20_000 if step > 1 else 500)
    tape = Tape()
    whole = TRACE + content
    for start in range(0, len(whole), step):
        tape.feed(whole[start : start + step])
    assert tape.finish() == (sha256(content).hexdigest(), None)
    assert (tape.tag, tape.size) == ("run-1", len(whole))


@pytest.mark.parametrize(
    "content",
    [b"", b"Received: from other by other\r\nA: b\r\n", b"Subject: (Sluice)\r\n", b"Received: by mx (Sluice)"],
)
def test_only_our_own_whole_trace_field_is_taken_off(content: bytes) -> None:
    assert split_trace(content) == (b"", content)


def test_a_trace_field_ends_where_the_next_field_begins() -> None:
    assert split_trace(TRACE + TRACE + CONTENT) == (TRACE, TRACE + CONTENT)


@pytest.mark.parametrize("content", [b"", b"A: b\r\n\r\nX-Ledger: no\r\n", b"Not-X-Ledger: no\r\n\r\n"])
def test_a_tag_is_only_found_in_the_header(content: bytes) -> None:
    assert find_tag(content) == ""
