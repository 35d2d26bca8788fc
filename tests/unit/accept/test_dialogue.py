"""Commands, sequence, limits: what a client hears before DATA. Over real sockets."""

import asyncio
import contextlib
import socket

import pytest
from support.smtp_site import LOOPBACK, House, Site, Start, Wire

from router.errors import BadRouteData, LookupFailed
from router.model.reply import Reply
from router.settings.schema import Limits

EHLO = """250-mx.example.edu
250-PIPELINING
250-SIZE 1000000
250-8BITMIME
250-ENHANCEDSTATUSCODES
250 DSN"""


async def test_rx5_greeting_and_ehlo_say_what_is_offered(wire: Wire) -> None:
    assert await wire.hello() == EHLO


async def test_smtputf8_and_starttls_are_announced_only_when_there(start: Start) -> None:
    site = await start(smtputf8=True)
    wire = await site.dial()
    assert "250 SMTPUTF8" in await wire.hello()


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("HELO x", "250 mx.example.edu"),
        ("HELO", "501 5.5.4"),
        ("EHLO  ", "501 5.5.4"),
        ("NOOP whatever", "250 2.0.0"),
        ("RSET", "250 2.0.0"),
        ("RSET x", "501 5.5.4"),
        ("HELP", "214 2.0.0"),
        ("EXPN staff", "502 5.5.1"),
        ("AUTH PLAIN AAAA", "502 5.5.1"),
        ("STARTTLS", "502 5.5.1"),
        ("STARTTLS x", "501 5.5.4"),
        ("XCLIENT ADDR=192.0.2.1", "550 5.7.0"),
        ("QUIT", "221 2.0.0"),
        ("QUIT x", "501 5.5.4"),
        ("MAIL FROM:<a@b.c>", "503 5.5.1"),
        ("RCPT TO:<a@b.c>", "503 5.5.1"),
        ("DATA", "503 5.5.1"),
        ("WIZ", "500 5.5.1"),
        ("", "500 5.5.1"),
        (" NOOP", "500 5.5.1"),
        ("NOOP\0", "500 5.5.2"),
        ("ÿNOOP", "500 5.5.1"),
        ("noop", "250 2.0.0"),
    ],
)
async def test_commands_by_themselves(wire: Wire, command: str, reply: str) -> None:
    assert (await wire.ask(command)).startswith(reply)


async def test_rx4_inv_71_vrfy_neither_tells_nor_echoes(wire: Wire) -> None:
    answer = await wire.ask("VRFY secret@example.edu")
    assert answer.startswith("252 2.0.0 ")
    assert "secret" not in answer


async def test_every_reply_but_the_exempt_has_an_enhanced_code(wire: Wire) -> None:
    """RX3; RFC 2034 section 4 exempts greeting, HELO, EHLO and 354."""
    await wire.hello()
    for command in ("NOOP", "MAIL FROM:<a@b.c>", "RCPT TO:<a@example.edu>", "VRFY x", "WIZ", "QUIT"):
        code, enhanced = (await wire.ask(command)).split()[:2]
        assert enhanced.split(".")[0] == code[0]


@pytest.mark.parametrize("verb", ["GET / HTTP/1.1", "POST /x HTTP/1.0", "CONNECT a:25 HTTP/1.1"])
async def test_inv_68_http_is_turned_away(wire: Wire, verb: str) -> None:
    assert (await wire.ask(verb)).startswith("221 2.7.0")
    assert await wire.rest() == b""


async def test_bdat_ends_the_connection_so_that_its_octets_are_never_commands(wire: Wire) -> None:
    await wire.hello()
    assert (await wire.ask("BDAT 30 LAST\r\nMAIL FROM:<smuggled@x.y>")).startswith("502 5.5.1")
    assert await wire.rest() == b""


async def test_a_lone_line_feed_ends_no_command(wire: Wire) -> None:
    assert (await wire.ask("EHLO x\nNOOP")).startswith("500 5.5.2")
    assert (await wire.ask("NOOP\rNOOP")).startswith("500 5.5.2")


async def test_inv_65_a_command_line_is_512_octets(wire: Wire) -> None:
    await wire.hello()
    assert (await wire.ask("NOOP " + "x" * 505)).startswith("250 ")
    assert (await wire.ask("NOOP " + "x" * 506)).startswith("500 5.5.2")
    assert (await wire.ask("MAIL FROM:<a@b.c> ENVID=" + "x" * 100 + " AUTH=" + "y" * 450)).startswith("250 ")
    assert (await wire.ask("RCPT TO:<a@example.edu> ORCPT=rfc822;" + "x" * 490)).startswith("250 ")


async def test_rx14_one_client_does_not_change_the_limits_of_another(site: Site) -> None:
    first, second = await site.dial(), await site.dial()
    for _ in range(5):
        await first.hello()
    await second.ask("HELO x")
    assert (await second.ask("MAIL FROM:<a@b.c> ENVID=" + "x" * 100 + " AUTH=" + "y" * 450)).startswith("500 5.5.2")


async def test_inv_48_a_command_line_without_end_closes_the_connection(wire: Wire) -> None:
    await wire.send(b"x" * 20_000)
    assert (await wire.reply()).startswith("500 5.5.2")
    assert await wire.rest() == b""


async def test_a_pipelined_group_is_answered_in_order_and_in_one_piece(site: Site) -> None:
    wire = await site.dial()
    await wire.hello()
    await wire.send(
        "RSET\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<one@example.edu>\r\nRCPT TO:<x@other.org>\r\n"
        "RCPT TO:<two@example.edu>\r\nDATA\r\n"
    )
    block = await wire.reader.read(65536)
    assert [line[:9] for line in block.decode().splitlines()] == [
        "250 2.0.0",
        "250 2.1.0",
        "250 2.1.5",
        "554 5.7.1",
        "250 2.1.5",
        "354 End d",
    ]


async def test_rx20_commands_may_arrive_octet_by_octet(wire: Wire) -> None:
    for octet in b"NOOP\r\n":
        await wire.send(bytes([octet]))
    assert (await wire.reply()).startswith("250 ")


@pytest.mark.parametrize("command", ["EHLO x", "HELO x", "DATA"])
async def test_inv_64_nothing_may_be_sent_ahead_of_these(site: Site, command: str) -> None:
    wire = await site.dial()
    await wire.hello()
    await wire.ask("MAIL FROM:<a@b.c>")
    await wire.ask("RCPT TO:<a@example.edu>")
    assert (await wire.ask(f"{command}\r\nMAIL FROM:<smuggled@b.c>")).startswith("554 5.5.0")
    assert await wire.rest() == b""
    assert not site.house.messages


async def test_inv_64_talking_before_the_greeting(site: Site) -> None:
    with socket.create_connection(site.address) as early:
        # In the kernel's queue before the event loop has even accepted.
        early.sendall(b"EHLO early\r\n")
        early.setblocking(False)
        wire = Wire(*await asyncio.open_connection(sock=early))
        assert (await wire.reply()).startswith("554 5.5.0")
        assert await wire.rest() == b""
        wire.close()


async def test_nested_mail_and_rset(wire: Wire) -> None:
    await wire.hello()
    assert (await wire.ask("MAIL FROM:<a@b.c>")).startswith("250 2.1.0")
    assert (await wire.ask("MAIL FROM:<a@b.c>")).startswith("503 5.5.1")
    await wire.ask("RSET")
    assert (await wire.ask("RCPT TO:<a@example.edu>")).startswith("503 5.5.1")
    assert (await wire.ask("MAIL FROM:<>")).startswith("250 2.1.0")
    await wire.hello()
    assert (await wire.ask("RCPT TO:<a@example.edu>")).startswith("503 5.5.1")


async def test_rx13_inv_48_a_declared_size_over_the_limit_is_refused_at_mail(wire: Wire) -> None:
    await wire.hello()
    assert (await wire.ask("MAIL FROM:<a@b.c> SIZE=1000001")).startswith("552 5.3.4")
    assert (await wire.ask("MAIL FROM:<a@b.c> SIZE=1000000")).startswith("250 ")


async def test_inv_46_an_unhealthy_spool_refuses_mail(start: Start) -> None:
    site = await start(house=House(mail_refusal=Reply(452, "4.3.1", "Insufficient system storage")))
    wire = await site.dial()
    await wire.hello()
    assert await wire.ask("MAIL FROM:<a@b.c>") == "452 4.3.1 Insufficient system storage"


async def test_inv_69_strangers_relay_nothing_and_trusted_hosts_anything(start: Start) -> None:
    stranger, store = await start(), await start(trusted=LOOPBACK)
    for site, answer in ((stranger, "554 5.7.1"), (store, "250 2.1.5")):
        wire = await site.dial()
        await wire.hello()
        await wire.ask("MAIL FROM:<a@b.c>")
        assert (await wire.ask("RCPT TO:<a@other.org>")).startswith(answer)


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (LookupFailed("ldap://secret is down"), "451 4.4.3"),
        (BadRouteData("two entries"), "451 4.3.5"),
        (OSError(28, "No space left on device: /secret"), "451 4.3.0"),
        (TimeoutError(), "451 4.3.0"),
        (RuntimeError("secret"), "451 4.3.0"),
    ],
)
async def test_rx1_inv_35_whatever_fails_at_rcpt_is_temporary(site: Site, error: Exception, reply: str) -> None:
    site.house.answers["user@example.edu"] = error
    wire = await site.dial()
    await wire.hello()
    await wire.ask("MAIL FROM:<a@b.c>")
    answer = await wire.ask("RCPT TO:<user@example.edu>")
    assert answer.startswith(reply)
    assert "secret" not in answer
    assert (await wire.ask("DATA")).startswith("451 ")
    assert (await wire.ask("RCPT TO:<other@example.edu>")).startswith("250 ")


async def test_inv_32_data_without_a_valid_recipient(site: Site) -> None:
    site.house.answers["no@example.edu"] = Reply(550, "5.1.1", "User unknown")
    wire = await site.dial()
    await wire.hello()
    await wire.ask("MAIL FROM:<a@b.c>")
    assert (await wire.ask("DATA")).startswith("503 5.5.1")
    assert await wire.ask("RCPT TO:<no@example.edu>") == "550 5.1.1 User unknown"
    assert (await wire.ask("DATA")).startswith("554 5.5.1")


async def test_a_positive_refusal_makes_no_sense_and_is_temporary(site: Site) -> None:
    site.house.answers["odd@example.edu"] = Reply(250, "2.1.5", "fine")
    wire = await site.dial()
    await wire.hello()
    await wire.ask("MAIL FROM:<a@b.c>")
    assert (await wire.ask("RCPT TO:<odd@example.edu>")).startswith("451 ")


async def test_a_reply_with_a_line_break_stays_one_line(site: Site) -> None:
    site.house.answers["odd@example.edu"] = Reply(550, "5.1.1", "a\r\n250 2.0.0 é")
    wire = await site.dial()
    await wire.hello()
    await wire.ask("MAIL FROM:<a@b.c>")
    assert await wire.ask("RCPT TO:<odd@example.edu>") == "550 5.1.1 a??250 2.0.0 ?"


async def test_rx12_inv_33_recipients_are_counted(start: Start) -> None:
    site = await start(limits=Limits(recipients=100), trusted=LOOPBACK)
    wire = await site.dial()
    await wire.hello()
    await wire.send("MAIL FROM:<a@b.c>\r\n" + "".join(f"RCPT TO:<u{i}@example.edu>\r\n" for i in range(101)))
    answers = await wire.replies(102)
    assert all(answer.startswith("250 ") for answer in answers[:-1])
    assert answers[-1].startswith("452 4.5.3")
    assert (await wire.ask("RCPT TO:<u5@example.edu>")).startswith("250 2.1.5")


async def test_rx12_inv_52_too_many_errors(start: Start) -> None:
    site = await start(limits=Limits(errors=3))
    wire = await site.dial()
    await wire.send("WIZ\r\n" * 5)
    answers = await wire.replies(4)
    assert [answer[:9] for answer in answers] == ["500 5.5.1"] * 3 + ["421 4.7.0"]
    assert await wire.rest() == b""


async def test_rx12_inv_52_junk_commands_become_errors(start: Start) -> None:
    site = await start(limits=Limits(errors=3, junk_commands=10))
    wire = await site.dial()
    await wire.send("NOOP\r\n" * 20)
    answers = await wire.replies(14)
    assert answers[-2].startswith("250 ")
    assert answers[-1].startswith("421 4.7.0")


async def test_rx12_inv_52_saying_hello_again_is_junk_too(start: Start) -> None:
    site = await start(limits=Limits(errors=3, junk_commands=10))
    wire = await site.dial()
    answers = [await wire.hello() for _ in range(14)]
    assert answers[-2].endswith("250 DSN")
    assert answers[-1].startswith("421 4.7.0")


async def test_rx12_inv_33_the_same_recipient_again_and_again_comes_to_an_end(start: Start) -> None:
    site = await start(limits=Limits(recipients=100))
    wire = await site.dial()
    await wire.hello()
    await wire.send("MAIL FROM:<a@b.c>\r\n" + "RCPT TO:<u@example.edu>\r\n" * 1500)
    codes = [answer[:3] for answer in await wire.replies(1103)]
    assert codes == ["250"] * 102 + ["452"] * 1000 + ["421"]


async def test_trusted_hosts_and_relays_are_not_limited(start: Start) -> None:
    limits = Limits(errors=3, junk_commands=5, connections_per_client=1)
    for site in (await start(limits=limits, trusted=LOOPBACK), await start(limits=limits, relays=LOOPBACK)):
        wire = await site.dial()
        await site.dial()
        await wire.send("NOOP\r\n" * 10 + "WIZ\r\n" * 10)
        answers = await wire.replies(20)
        assert all(answer[:3] in {"250", "500"} for answer in answers)


async def test_inv_52_connections_are_counted_per_client_and_in_all(start: Start) -> None:
    site = await start(limits=Limits(connections_per_client=2))
    first = await site.dial()
    await site.dial()
    third = await site.dial(greeted=False)
    assert (await third.reply()).startswith("421 4.7.0")
    assert (await first.ask("QUIT")).startswith("221 ")
    await first.rest()
    await site.dial()
    full = await start(limits=Limits(connections=1))
    await full.dial()
    assert (await (await full.dial(greeted=False)).reply()).startswith("421 4.3.2")


async def test_rx11_inv_51_a_silent_client_hears_421(start: Start) -> None:
    site = await start(limits=Limits(command_timeout=0.05))
    wire = await site.dial()
    assert (await wire.reply()).startswith("421 4.4.2")
    assert await wire.rest() == b""


async def test_inv_51_the_deadline_is_for_the_line_not_for_the_octet(start: Start) -> None:
    site = await start(limits=Limits(command_timeout=0.2))
    wire = await site.dial()
    while not site.observer.gone.is_set():
        with contextlib.suppress(ConnectionError):
            await wire.send(b"x")
        await asyncio.sleep(0.01)  # the dribble itself
    # The reply may be lost to the octets that cross it, so the observer is asked.
    assert site.observer.named("disconnected")[0][1].startswith("421 4.4.2")


async def test_inv_65_eight_bit_addresses(start: Start) -> None:
    site = await start(smtputf8=True)
    wire = await site.dial()
    await wire.hello()
    assert (await wire.ask("MAIL FROM:<é@b.c>")).startswith("553 5.6.7")
    assert (await wire.ask("MAIL FROM:<a@b.c>")).startswith("250 ")
    assert (await wire.ask("RCPT TO:<é@example.edu>")).startswith("553 5.6.7")
    await wire.ask("RSET")
    assert (await wire.ask("MAIL FROM:<é@b.c> SMTPUTF8")).startswith("250 ")
    assert (await wire.ask("RCPT TO:<é@example.edu>")).startswith("250 ")


async def test_inv_66_inv_80_what_the_observer_hears_is_sanitised(site: Site) -> None:
    wire = await site.dial()
    await wire.ask("EHLO evil(\x1b)" + "x" * 300)
    await wire.ask("MAIL FROM:<a@b.c>")
    await wire.ask("RCPT TO:<evil\x1b[31m@example.edu>")
    kind, stage, reply, sender, recipient, helo = site.observer.named("rejected")[0]
    assert (kind, stage, reply[:9], sender) == ("rejected", "RCPT", "501 5.1.3", "a@b.c")
    assert recipient == "evil?[31m@example.edu"
    assert helo.startswith("evil???xxx")
    assert len(helo) == 255


async def test_an_observer_that_fails_changes_no_reply(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("secret")

    for name in ("connected", "rejected", "accepted", "disconnected"):
        monkeypatch.setattr(site.observer, name, broken)
    wire = await site.dial()
    await wire.to_data()
    await wire.send("x\r\n.\r\n")
    assert await wire.reply() == "250 2.0.0 Ok: queued as Q1"
    assert (await wire.ask("WIZ")).startswith("500 ")
