"""Sessions, failover, reuse, and calling a delivery back before its dot."""

import asyncio
import socket
import struct
from dataclasses import replace
from typing import Any

import pytest

from router.deliver.connection import Endpoint, Timeouts
from router.deliver.pool import PoolLimits
from router.deliver.resolve import ResolveFailed
from router.deliver.sender import LaneSender
from router.model.reply import HopReply


async def test_sessions_are_reused(make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any) -> None:
    hop = await make_hop()
    sender = make_sender(hop)
    verdicts = [(await sender.send(make_parcel(), permit()))[0] for _ in range(5)]
    assert all(v.reply.positive for v in verdicts)
    assert hop.connections == 1
    assert b"RSET" not in hop.commands
    assert verdicts[0].delays[0] > 0
    assert verdicts[1].delays[0] == 0


@pytest.mark.parametrize("limits", [PoolLimits(messages=2), PoolLimits(age=0.0), PoolLimits(idle=0.0)])
async def test_sessions_end_at_their_limits(
    limits: PoolLimits, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop()
    sender = make_sender(hop, limits=limits)
    for _ in range(4):
        await sender.send(make_parcel(), permit())
    assert hop.connections == (2 if limits.messages == 2 else 4)


async def test_idle_sessions_are_closed_with_quit(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop()
    await make_sender(hop, limits=PoolLimits(idle=0.05)).send(make_parcel(), permit())
    await asyncio.wait_for(hop.at("quit").wait(), 60)
    assert hop.resets == 0


async def test_close_says_quit(make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any) -> None:
    hop = await make_hop()
    sender = make_sender(hop)
    await sender.send(make_parcel(), permit())
    await sender.close()
    assert hop.commands[-1] == b"QUIT"


@pytest.mark.parametrize("ending", ["421 4.4.2 idle too long", "CLOSE", "RST"])
async def test_a_reused_session_that_ends_costs_no_attempt(
    ending: str, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(mail=["250 ok", ending, "250 ok"])
    sender = make_sender(hop)
    await sender.send(make_parcel(), permit())
    (verdict,) = await sender.send(make_parcel(), permit())
    assert verdict.reply.positive
    assert not verdict.no_attempt
    assert hop.connections == 2
    assert len(hop.messages) == 2


async def test_tx10_no_session_is_reused_after_an_error(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(dot=["451 4.3.0 later", "250 ok"])
    sender = make_sender(hop)
    await sender.send(make_parcel(), permit())
    await sender.send(make_parcel(), permit())
    assert hop.connections == 2


async def test_unsolicited_words_between_messages_are_paired_with_nothing(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop()
    sender = make_sender(hop)
    await sender.send(make_parcel(), permit())
    (writer,) = hop.writers
    writer.write(b"250 2.0.0 you are welcome\r\n")
    await writer.drain()
    await asyncio.wait_for(hop.at("gone").wait(), 60)
    hop.knobs["mail"] = "550 5.7.1 no"
    (verdict,) = await sender.send(make_parcel(), permit())
    assert verdict.reply.code == 550
    assert hop.connections == 2


async def test_hosts_are_tried_in_order(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any, no_host: Endpoint
) -> None:
    busy = await make_hop(connect="421 4.3.2 too busy")
    never = await make_hop(connect="554 5.7.1 go away")
    good = await make_hop()
    (verdict,) = await make_sender(no_host, busy, never, good).send(make_parcel(), permit())
    assert verdict.reply.positive
    assert not verdict.unreachable
    assert (busy.connections, never.connections, good.connections) == (1, 1, 1)


async def test_a_host_that_failed_lately_is_tried_last(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    busy = await make_hop(connect="421 4.3.2 too busy")
    good = await make_hop()
    sender = make_sender(busy, good, limits=PoolLimits(messages=1))
    for _ in range(3):
        await sender.send(make_parcel(), permit())
    assert (busy.connections, good.connections) == (1, 3)


async def test_no_host_is_unreachable_and_temporary(
    make_sender: Any, make_parcel: Any, permit: Any, no_host: Endpoint
) -> None:
    verdicts = await make_sender(no_host).send(make_parcel("a@b.c", "b@b.c"), permit())
    assert [(v.reply.code, v.reply.enhanced, v.unreachable) for v in verdicts] == [(451, "4.4.1", True)] * 2
    assert not verdicts[0].reply.said_by_hop
    assert str(no_host) in verdicts[0].reply.text


@pytest.mark.parametrize("greeting", ["554 5.7.1 no", "421 4.3.2 busy", "220", "CLOSE", "RST", "HALF", "HANG"])
@pytest.mark.parametrize("step", ["connect", "ehlo"])
async def test_inv_43_nothing_said_before_mail_is_permanent(
    greeting: str, step: str, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(**{step: greeting}, helo="554 no")
    short = Timeouts(*[60.0 if greeting == "220" else 0.2] * 11)
    (verdict,) = await make_sender(hop, timeouts=short).send(make_parcel(), permit())
    if greeting == "220":  # a bare code is a reply like any other
        assert verdict.reply.positive
        return
    assert 400 <= verdict.reply.code < 500
    assert verdict.unreachable


@pytest.mark.parametrize("step", ["connect", "ehlo", "mail", "rcpt", "data", "dot"])
@pytest.mark.parametrize("action", ["ENDLESS", "DRIBBLE", "HANG"])
async def test_inv_43_a_hop_that_never_comes_to_an_end(
    step: str, action: str, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(**{step: action})
    field = {"connect": "greeting", "ehlo": "hello"}.get(step, step)
    short = replace(Timeouts(*[60.0] * 11), rset=0.3, quit=0.3, **{field: 0.3})
    gate = permit()
    verdicts = await asyncio.wait_for(make_sender(hop, timeouts=short).send(make_parcel(), gate), 30)
    assert 400 <= verdicts[0].reply.code < 500
    assert verdicts[0].in_doubt is (step == "dot")


@pytest.mark.parametrize("step", ["connect", "ehlo", "mail", "rcpt", "data", "dot", "quit"])
@pytest.mark.parametrize("action", ["CLOSE", "RST", "HALF"])
async def test_inv_43_an_early_end_at_each_stage(
    step: str, action: str, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(**{step: action})
    sender = make_sender(hop)
    (verdict,) = await sender.send(make_parcel(), permit())
    await sender.close()
    if step == "quit":
        assert verdict.reply.positive
        return
    assert verdict.reply.code == 451
    assert verdict.in_doubt is (step == "dot")
    assert verdict.unreachable is (step in {"connect", "ehlo"})


async def test_a_host_too_busy_for_mail_lets_the_lane_rest(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(mail="421 4.3.2 too busy")
    (verdict,) = await make_sender(hop).send(make_parcel(), permit())
    assert (verdict.reply.code, verdict.unreachable, verdict.reply.said_by_hop) == (421, True, True)


async def test_helo_where_ehlo_is_unknown(make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any) -> None:
    hop = await make_hop(ehlo="502 5.5.1 what")
    (verdict,) = await make_sender(hop).send(make_parcel(), permit())
    assert verdict.reply.positive
    assert hop.commands[:3] == [b"EHLO mx.example.edu", b"HELO mx.example.edu", b"MAIL FROM:<s@example.org>"]


@pytest.mark.parametrize("step", ["connect", "ehlo"])
async def test_inv_42_a_host_with_our_own_name_is_a_loop(
    step: str, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    alarms: list[tuple[str, str, str]] = []
    hop = await make_hop(**{step: "220 MX.example.edu ESMTP" if step == "connect" else "250 MX.Example.EDU hi"})
    sender = make_sender(hop, alarm=lambda *words: alarms.append(words))
    (verdict,) = await sender.send(make_parcel(), permit())
    assert (verdict.reply.code, verdict.reply.enhanced) == (451, "4.4.6")
    assert [kind for kind, _, _ in alarms] == ["next-hop-is-us"]
    assert not any(c.startswith(b"MAIL") for c in hop.commands)


async def test_nowhere_to_go(make_parcel: Any, permit: Any, make_sender: Any) -> None:
    class Nowhere:
        async def endpoints(self) -> Any:
            raise ResolveFailed(HopReply(556, "5.1.10", "null MX", said_by_hop=False))

    made = make_sender()
    sender = LaneSender(Nowhere(), made._connector)
    (verdict,) = await sender.send(make_parcel(), permit())
    assert (verdict.reply.code, verdict.unreachable) == (556, False)


async def test_a_gate_that_says_no_keeps_the_dot_back(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(rcpt=["550 5.1.1 no", "250 ok"])
    verdicts = await make_sender(hop).send(make_parcel("a@b.c", "b@b.c"), permit(allow=False))
    assert [(v.reply.code, v.no_attempt) for v in verdicts] == [(550, False), (451, True)]
    await asyncio.wait_for(hop.at("reset").wait(), 60)
    assert hop.messages == []


@pytest.mark.parametrize("step", ["connect", "ehlo", "mail", "rcpt", "data"])
async def test_barrier_6_a_hold_ends_a_delivery_at_every_stage_before_the_dot(
    step: str, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(**{step: "HANG"})
    gate = permit()
    sending = asyncio.create_task(make_sender(hop).send(make_parcel("a@b.c", "b@b.c"), gate))
    await asyncio.wait_for(hop.at(step).wait(), 60)
    gate.abort()
    verdicts = await asyncio.wait_for(sending, 30)
    assert [(v.no_attempt, v.reply.code, v.in_doubt) for v in verdicts] == [(True, 451, False)] * 2
    assert gate.asked == 0


async def test_barrier_6_a_hold_ends_a_delivery_in_the_middle_of_its_data(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop()
    gate = permit()
    stop, go_on = asyncio.Event(), asyncio.Event()

    async def blocks() -> Any:
        yield b"Subject: half\r\n"
        stop.set()
        await go_on.wait()
        yield b"rest\r\n"

    sender = make_sender(hop)
    sending = asyncio.create_task(sender.send(make_parcel(stream=True, blocks=blocks), gate))
    await stop.wait()
    gate.abort()
    go_on.set()
    (verdict,) = await asyncio.wait_for(sending, 30)
    assert verdict.no_attempt
    await asyncio.wait_for(hop.at("reset").wait(), 60)
    assert hop.messages == []


async def test_barrier_6_a_delivery_waiting_for_a_free_session_can_be_called_back(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(mail="HANG")
    sender = make_sender(hop, max_connections=1)
    first, second = permit(), permit()
    tasks = [asyncio.create_task(sender.send(make_parcel(), gate)) for gate in (first, second)]
    await asyncio.wait_for(hop.at("mail").wait(), 60)
    second.abort()
    assert (await asyncio.wait_for(tasks[1], 30))[0].no_attempt
    first.abort()
    assert (await asyncio.wait_for(tasks[0], 30))[0].no_attempt
    assert hop.connections == 1


async def test_barrier_6_after_the_dot_nothing_is_aborted(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(dot="HANG")
    gate = permit()
    sender = make_sender(hop, timeouts=replace(Timeouts(), dot=1.0))
    sending = asyncio.create_task(sender.send(make_parcel(), gate))
    await asyncio.wait_for(hop.at("dot").wait(), 60)
    gate.abort()
    (verdict,) = await asyncio.wait_for(sending, 30)
    assert (verdict.no_attempt, verdict.in_doubt) == (False, True)


async def test_a_late_call_back_does_not_hurt_the_next_message(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(rcpt=["550 5.1.1 no", "250 ok"])
    sender, gate = make_sender(hop), permit()
    await sender.send(make_parcel(), gate)
    gate.abort()
    (verdict,) = await sender.send(make_parcel(), permit())
    assert verdict.reply.positive
    assert hop.connections == 1


async def test_cancelling_the_task_drops_the_connection(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(rcpt="HANG")
    sending = asyncio.create_task(make_sender(hop).send(make_parcel(), permit()))
    await asyncio.wait_for(hop.at("rcpt").wait(), 60)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


async def test_barrier_8_sockets_linger_for_zero_seconds_until_quit_and_are_not_inherited(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop()
    sender = make_sender(hop)
    await sender.send(make_parcel(), permit())
    (connection,) = sender._pool._idle
    sock = connection.protocol._socket
    assert not sock.get_inheritable()
    assert struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) == (1, 0)
    quitting = asyncio.create_task(connection.quit(60.0))
    await asyncio.sleep(0)
    assert struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) == (0, 0)
    await quitting


async def test_no_more_sessions_than_allowed(make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any) -> None:
    hop = await make_hop()
    sender = make_sender(hop, max_connections=3)
    done = await asyncio.gather(*(sender.send(make_parcel(), permit()) for _ in range(30)))
    assert all(v.reply.positive for (v,) in done)
    assert hop.connections == 3
    assert len(hop.messages) == 30


@pytest.mark.slow
async def test_tx3_a_message_may_take_longer_than_any_deadline(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    """No deadline covers the whole upload; only silence does harm."""
    hop = await make_hop()

    async def blocks() -> Any:
        for _ in range(6):
            yield b"x" * 100 + b"\r\n"
            await asyncio.sleep(0.1)

    short = Timeouts(*[0.3] * 11)
    for _ in range(10):  # a pause of the machine is silence
        parcel = make_parcel(stream=True, blocks=blocks, size=612 + 29)
        (verdict,) = await make_sender(hop, timeouts=short).send(parcel, permit())
        if verdict.reply.positive:
            break
    assert verdict.reply.positive


async def test_tx3_a_hop_that_stops_reading_runs_into_the_deadline_of_one_block(
    make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 x\r\n")
        await reader.readline()
        writer.write(b"250 x\r\n")
        for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            await reader.readline()
            writer.write(reply)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await over.wait()
        writer.transport.abort()

    over = asyncio.Event()
    server = await asyncio.start_server(stuck, "127.0.0.1", 0)
    endpoint = Endpoint("stuck.example", "127.0.0.1", server.sockets[0].getsockname()[1])

    async def endless() -> Any:
        while True:
            yield b"x" * 65534 + b"\r\n"

    gate = permit()
    sender = make_sender(endpoint, timeouts=Timeouts(block=0.3))
    (verdict,) = await asyncio.wait_for(sender.send(make_parcel(stream=True, blocks=endless), gate), 60)
    over.set()
    server.close()
    assert (verdict.reply.enhanced, verdict.in_doubt, gate.asked) == ("4.4.2", False, 0)
    assert "timed out while sending the message" in verdict.reply.text


async def test_a_peer_that_takes_everything_does_not_keep_the_loop(
    make_hop: Any, make_sender: Any, permit: Any
) -> None:
    hop = await make_hop()
    connection = await make_sender(hop)._connector.open(hop.endpoint(), permit().stage)
    others = asyncio.Event()
    asyncio.get_running_loop().call_soon(others.set)
    await connection.protocol.drain(60.0)
    assert others.is_set()
    await connection.quit(60.0)
