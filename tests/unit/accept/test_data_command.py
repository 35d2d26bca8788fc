"""From 354 to the reply after the dot, with every failure in between. Over real sockets."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable

import pytest
from support.smtp_site import LOOPBACK, House, Site, Start, Wire

from router.accept import receive
from router.errors import SpoolFull, SpoolUnavailable
from router.model.address import Address
from router.model.envelope import Envelope, HeaderFacts
from router.model.reply import Reply
from router.settings.schema import Limits

PassTime = Callable[[float], Awaitable[None]]
MESSAGE = "Message-ID: <1@b.c>\r\nSubject: x\r\n\r\nbody\r\n..dotted\r\n"


async def test_a_message_comes_through_as_it_was_sent(site: Site) -> None:
    wire = await site.dial()
    await wire.hello()
    await wire.ask("MAIL FROM:<S.Ender@Example.com> BODY=8BITMIME RET=HDRS ENVID=x+2By")
    await wire.ask("RCPT TO:<User@Example.EDU> NOTIFY=DELAY ORCPT=rfc822;Old@x.y")
    await wire.ask("RCPT TO:<other@example.edu>")
    await wire.ask("DATA")
    await wire.send(MESSAGE + ".\r\n")
    assert await wire.reply() == "250 2.0.0 Ok: queued as Q1"
    (kept,) = site.house.messages
    assert kept.content == MESSAGE.replace("\r\n..", "\r\n.").encode()
    assert kept.header == HeaderFacts("<1@b.c>", 0)
    assert kept.received_at == 1_700_000_000.0
    envelope, client = kept.envelope, kept.envelope.client
    assert (envelope.sender, envelope.body, envelope.ret, envelope.envid) == (
        "S.Ender@Example.com",
        "8BITMIME",
        "HDRS",
        "x+2By",
    )
    assert (client.address, client.helo, client.protocol, client.trusted) == (
        "127.0.0.1",
        "client.example.com",
        "ESMTP",
        False,
    )
    assert [(r.address.wire, r.notify, r.orcpt, r.hint) for r in kept.recipients] == [
        ("User@Example.EDU", "DELAY", "rfc822;Old@x.y", "old"),
        ("other@example.edu", "", "", "old"),
    ]
    assert site.observer.named("accepted") == [("accepted", "Q1", 2, len(kept.content))]


async def test_inv_74_the_null_sender_and_the_bare_postmaster(wire: Wire, site: Site) -> None:
    await wire.ask("HELO x")
    await wire.ask("MAIL FROM:<>")
    assert (await wire.ask("RCPT TO:<Postmaster>")).startswith("250 ")
    await wire.ask("DATA")
    await wire.send(".\r\n")
    assert (await wire.reply()).startswith("250 ")
    (kept,) = site.house.messages
    assert (kept.envelope.sender, kept.envelope.client.protocol, kept.content) == ("", "SMTP", b"")
    assert kept.recipients[0].address.wire == "Postmaster"


async def test_a_recipient_named_twice_is_spooled_once_and_the_first_stands(wire: Wire, site: Site) -> None:
    await wire.hello()
    await wire.ask("MAIL FROM:<a@b.c>")
    for command in ("u@example.edu> NOTIFY=NEVER", "u@example.edu>", "U@example.edu>"):
        assert (await wire.ask(f"RCPT TO:<{command}")).startswith("250 2.1.5")
    await wire.ask("DATA")
    await wire.send("x\r\n.\r\n")
    await wire.reply()
    assert [(r.address.wire, r.notify) for r in site.house.messages[0].recipients] == [
        ("u@example.edu", "NEVER"),
        ("U@example.edu", ""),
    ]
    assert site.house.asked == ["u@example.edu", "U@example.edu"]


async def test_many_messages_on_one_connection(wire: Wire, site: Site) -> None:
    await wire.hello()
    for number in range(1, 4):
        await wire.send("MAIL FROM:<a@b.c>\r\nRCPT TO:<u@example.edu>\r\nDATA\r\n")
        await wire.replies(3)
        await wire.send("x\r\n.\r\n")
        assert await wire.reply() == f"250 2.0.0 Ok: queued as Q{number}"
    assert len(site.house.messages) == 3


async def test_commands_may_follow_the_dot_at_once(wire: Wire, site: Site) -> None:
    await wire.to_data()
    await wire.send("x\r\n.\r\nMAIL FROM:<two@b.c>\r\nRCPT TO:<u@example.edu>\r\nQUIT\r\n")
    answers = await wire.replies(4)
    assert [answer[:9] for answer in answers] == ["250 2.0.0", "250 2.1.0", "250 2.1.5", "221 2.0.0"]
    assert await wire.rest() == b""


VARIANTS = [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r", b"\r\n\0.\r\n", b"\r.\r\n", b"\r\n.\r\r\n"]
TAIL = b"MAIL FROM:<smuggled@evil.example>\r\nRCPT TO:<u@example.edu>\r\nDATA\r\nsmuggled\r\n.\r\n"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("trusted", [False, True])
async def test_inv_63_smuggling_in_one_piece_and_cut_at_every_octet(
    start: Start, variant: bytes, trusted: bool
) -> None:
    site = await start(trusted=LOOPBACK if trusted else ())
    wire = await site.dial()
    await wire.hello()
    stream = b"one" + variant + TAIL
    for cut in range(2, 3 + len(variant) + 6):
        await wire.send("MAIL FROM:<a@b.c>\r\nRCPT TO:<u@example.edu>\r\nDATA\r\n")
        await wire.replies(3)
        await wire.send(stream[:cut])
        await asyncio.sleep(0)
        await wire.send(stream[cut:])
        answer = await wire.reply()
        clean = b"\0" in variant
        assert answer.startswith("250 " if trusted or clean else "550 5.5.2"), (variant, cut)
    assert all(kept.envelope.sender == "a@b.c" for kept in site.house.messages)
    for kept in site.house.messages:
        assert b"smuggled@evil" in kept.content
        assert not re.search(rb"(?<!\r)\n|\r(?!\n)", kept.content)


async def test_rx18_a_bare_lf_from_a_stranger_is_refused_and_the_session_goes_on(wire: Wire, site: Site) -> None:
    await wire.to_data()
    await wire.send("one\ntwo\r\n.\r\n")
    assert (await wire.reply()).startswith("550 5.5.2")
    assert site.house.bodies[0].discarded
    assert not site.house.messages
    assert (await wire.ask("MAIL FROM:<a@b.c>")).startswith("250 ")


async def test_rx10_inv_49_long_lines_are_mail(wire: Wire, site: Site) -> None:
    await wire.to_data()
    line = b"x" * 300_000
    await wire.send(line + b"\r\n.\r\n")
    assert (await wire.reply()).startswith("250 ")
    assert site.house.messages[0].content == line + b"\r\n"


async def test_rx7_rx8_inv_48_memory_is_one_block_however_long_the_line(start: Start) -> None:
    site = await start(size=100_000_000, house=House(keep=False))
    wire = await site.dial()
    await wire.to_data()
    for _ in range(200):
        await wire.send(b"x" * 100_000)
    await wire.send(b"\r\n.\r\n")
    assert (await wire.reply()).startswith("250 ")
    assert site.house.bodies[0].size == 20_000_002
    assert site.house.bodies[0].biggest <= 65536 + 4


async def test_rx13_inv_48_too_big_is_drained_and_told(start: Start) -> None:
    site = await start(size=1000, drain_limit=1_000_000)
    wire = await site.dial()
    await wire.to_data()
    await wire.send(b"x" * 100_000 + b"\r\n.\r\n")
    assert (await wire.reply()).startswith("552 5.3.4")
    assert site.house.bodies[0].discarded
    assert (await wire.ask("NOOP")).startswith("250 ")
    await wire.to_data()
    await wire.send(b"x" * 998 + b"\r\n.\r\n")
    assert (await wire.reply()).startswith("250 ")


async def test_rx13_past_the_drain_limit_the_connection_ends(start: Start) -> None:
    site = await start(size=1000, drain_limit=200_000)
    wire = await site.dial()
    await wire.to_data()
    while not site.observer.gone.is_set():
        with contextlib.suppress(ConnectionError):
            await wire.send(b"x" * 65536)
        await asyncio.sleep(0)
    assert site.observer.named("disconnected")[0][1].startswith("421 4.3.4")
    assert site.house.bodies[0].discarded


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (SpoolFull("/secret is full"), "452 4.3.1"),
        (SpoolUnavailable("secret"), "451 4.3.0"),
        (OSError(5, "secret"), "451 4.3.0"),
        (ValueError("secret"), "451 4.3.0"),
    ],
)
@pytest.mark.parametrize("where", ["write_error", "message_error"])
async def test_rx1_inv_5_inv_6_a_failing_spool_is_temporary(
    wire: Wire, site: Site, error: Exception, reply: str, where: str
) -> None:
    setattr(site.house, where, error)
    await wire.to_data()
    await wire.send(MESSAGE + ".\r\n")
    answer = await wire.reply()
    assert answer.startswith(reply)
    assert "secret" not in answer
    assert site.house.bodies[0].discarded is (where == "write_error")
    setattr(site.house, where, None)
    await wire.to_data()
    await wire.send(MESSAGE + ".\r\n")
    assert (await wire.reply()).startswith("250 ")


async def test_rx1_a_body_that_cannot_be_opened(wire: Wire, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(24, "Too many open files: /secret")

    object.__setattr__(site.services, "open_body", fail)
    await wire.hello()
    await wire.ask("MAIL FROM:<a@b.c>")
    await wire.ask("RCPT TO:<u@example.edu>")
    assert await wire.ask("DATA") == "451 4.3.0 Temporary failure, please try again later"


async def test_rx17_inv_17_a_client_that_leaves_does_not_stop_the_commit(start: Start) -> None:
    site = await start(house=House(gate=asyncio.Event()))
    wire = await site.dial()
    await wire.to_data()
    await wire.send("x\r\n.\r\n")
    await asyncio.wait_for(site.house.committing.wait(), 60)
    wire.reset()
    assert site.house.gate is not None
    site.house.gate.set()
    await asyncio.wait_for(site.observer.gone.wait(), 60)
    assert len(site.house.messages) == 1
    assert not site.house.bodies[0].discarded


async def test_rx17_a_commit_is_no_task_that_anybody_could_cancel(start: Start) -> None:
    site = await start(house=House(gate=asyncio.Event()))
    wire = await site.dial()
    await wire.to_data()
    await wire.send("x\r\n.\r\n")
    await asyncio.wait_for(site.house.committing.wait(), 60)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    for session in tuple(site.listeners.roster.sessions):
        session.cut()
    assert site.house.gate is not None
    site.house.gate.set()
    assert (await wire.reply()).startswith("250 2.0.0")
    assert (await wire.reply()).startswith("421 4.3.2")
    assert len(site.house.messages) == 1


async def test_inv_17_a_client_that_leaves_in_the_middle_leaves_nothing(wire: Wire, site: Site) -> None:
    await wire.to_data()
    await wire.send("half a mess")
    wire.reset()
    await asyncio.wait_for(site.observer.gone.wait(), 60)
    assert site.house.bodies[0].discarded
    assert not site.house.messages


async def test_a_client_may_half_close_after_quit_and_read_on(wire: Wire, site: Site) -> None:
    await wire.to_data()
    await wire.send("x\r\n.\r\nQUIT\r\n")
    wire.writer.write_eof()
    assert (await wire.rest()).decode().split("\r\n")[:-1] == ["250 2.0.0 Ok: queued as Q1", "221 2.0.0 Bye"]


async def test_inv_72_too_many_hops(start: Start) -> None:
    site = await start(limits=Limits(hop_count=3))
    wire = await site.dial()
    for hops, reply in ((3, "250 "), (4, "554 5.4.6")):
        await wire.to_data()
        await wire.send("Received: from a by b; x\r\n" * hops + "\r\n.\r\n")
        assert (await wire.reply()).startswith(reply)
    assert site.observer.named("rejected")[0][1:3] == ("END-OF-MESSAGE", "554 5.4.6 Too many hops")


async def test_rx11_silence_in_data_is_cut_off_and_told(start: Start) -> None:
    site = await start(limits=Limits(data_timeout=0.05))
    wire = await site.dial()
    await wire.to_data()
    await wire.send("x")
    assert (await wire.reply()).startswith("421 4.4.2")
    assert await wire.rest() == b""
    assert site.house.bodies[0].discarded


async def test_rx11_a_client_that_keeps_sending_is_not_cut_off(start: Start, pass_time: PassTime) -> None:
    """The deadline is for the silence: the message as a whole takes several times as long."""
    site = await start(limits=Limits(data_timeout=0.2, command_timeout=0.2))
    wire = await site.dial()
    await wire.to_data()
    for _ in range(30):
        await wire.send("a line\r\n")
        await pass_time(0.1)
    await wire.send(".\r\n")
    assert (await wire.reply()).startswith("250 ")


async def test_inv_51_below_the_minimum_rate_a_stranger_is_cut_off(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive, "_RATE_GRACE", 0.1)
    site = await start(limits=Limits(minimum_rate=100_000))
    wire = await site.dial()
    await wire.to_data()
    await wire.send("x" * 1000)
    assert (await wire.reply()).startswith("421 4.4.2")


async def test_inv_51_under_stress_strangers_get_less_time_for_their_text(start: Start, pass_time: PassTime) -> None:
    site = await start(limits=Limits(connections=10))
    wires = [await site.dial() for _ in range(10)]
    silent, slow = wires[8:]
    for wire in (silent, slow):
        await wire.to_data()
    cut_off = asyncio.ensure_future(slow.reply())
    for _ in range(20):
        if not cut_off.done():
            await slow.send("x")
            await pass_time(1.0)
    assert cut_off.done()
    assert (await cut_off).startswith("421 4.4.2")
    assert (await silent.reply()).startswith("421 4.4.2")


async def test_a_slow_commit_costs_the_client_nothing(start: Start, pass_time: PassTime) -> None:
    site = await start(house=House(gate=asyncio.Event()), limits=Limits(command_timeout=0.05, data_timeout=0.05))
    wire = await site.dial()
    await wire.to_data()
    await wire.send("x\r\n.\r\n")
    await site.house.committing.wait()
    await pass_time(0.15)  # longer than either timeout
    assert site.house.gate is not None
    site.house.gate.set()
    assert (await wire.reply()).startswith("250 ")


class Hook:
    """A filter that says what it is told to."""

    def __init__(self, **answers: Reply | Exception | float) -> None:
        self.answers = answers

    async def _say(self, name: str) -> Reply | None:
        answer = self.answers.get(name)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            return None
        return answer

    async def connect(self, client: str) -> Reply | None:
        return await self._say("connect")

    async def rcpt(self, envelope: Envelope, address: Address) -> Reply | None:
        return await self._say("rcpt")

    async def data(self, envelope: Envelope, header: HeaderFacts) -> Reply | None:
        return await self._say("data")


REFUSAL = Reply(554, "5.7.1", "Not today")


@pytest.mark.parametrize(
    ("answer", "reply"),
    [(REFUSAL, "554 5.7.1"), (RuntimeError("secret"), "451 4.3.0"), (60.0, "451 4.3.0"), (Reply(250, "", "x"), "451 ")],
)
async def test_rx1_filters_refuse_and_their_failures_are_temporary(
    start: Start, answer: Reply | Exception | float, reply: str
) -> None:
    deadline = 0.05 if isinstance(answer, float) else 60.0
    site = await start(hook=Hook(connect=answer), hook_deadline=deadline)
    assert (await (await site.dial(greeted=False)).reply()).startswith(reply)
    site = await start(hook=Hook(rcpt=answer), hook_deadline=deadline)
    wire = await site.dial()
    await wire.hello()
    await wire.ask("MAIL FROM:<a@b.c>")
    assert (await wire.ask("RCPT TO:<u@example.edu>")).startswith(reply)
    assert not site.house.asked
    site = await start(hook=Hook(data=answer), hook_deadline=deadline)
    wire = await site.dial()
    await wire.to_data()
    await wire.send("x\r\n.\r\n")
    assert (await wire.reply()).startswith(reply)
    assert not site.house.messages
    assert site.house.bodies[0].discarded
