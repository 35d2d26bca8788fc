"""What a transaction makes of a next hop's replies, over a real socket to a scripted one."""

import asyncio
from typing import Any

import pytest

from router.deliver.connection import Timeouts
from router.errors import BodyDamaged
from router.model.parcel import ParcelRecipient

PLAIN = ("SIZE 0",)


async def deliver(make_sender: Any, permit: Any, hop: Any, parcel: Any, **options: Any) -> Any:
    return await make_sender(hop, **options).send(parcel, permit())


async def test_a_message_arrives_byte_for_byte(make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any) -> None:
    hop = await make_hop()
    gate = permit()
    (verdict,) = await make_sender(hop).send(make_parcel(body=b"A: b\r\n\r\n.dot\r\n..\r\nend"), gate)
    assert hop.messages == [b"Received: by mx.example.edu\r\nA: b\r\n\r\n..dot\r\n...\r\nend\r\n.\r\n"]
    assert (verdict.recipient, verdict.reply.code, verdict.reply.enhanced) == (1, 250, "2.0.0")
    assert verdict.reply.text == "queued as X1"
    assert verdict.reply.remote == f"localhost[127.0.0.1]:{hop.port}"
    assert verdict.reply.said_by_hop
    assert gate.stages == ["connect", "mail", "rcpt", "data", "dot"]


@pytest.mark.parametrize("code", [200, 250, 251, 252])
@pytest.mark.parametrize("step", ["rcpt", "dot"])
async def test_tx1_inv_15_any_2xx_is_success(
    code: int, step: str, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(**{step: f"{code} fine"})
    (verdict,) = await deliver(make_sender, permit, hop, make_parcel())
    assert verdict.reply.positive
    assert len(hop.messages) == 1


@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "dot"])
@pytest.mark.parametrize(
    "nonsense",
    ["-50 no", "999 x", "hello", "550-no\r\n250 ok", "250-ok\r\n550 no", "150 wait", "399 more", "", "2500 ok"],
)
async def test_tx1_inv_15_nonsense_is_temporary_and_ends_the_connection(
    step: str, nonsense: str, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    if (step, nonsense) == ("data", "399 more"):
        nonsense = "250 eh"  # a 3xx is what DATA waits for
    hop = await make_hop(**{step: nonsense or "\r\n"})
    sender = make_sender(hop)
    (verdict,) = await sender.send(make_parcel(), permit())
    assert 400 <= verdict.reply.code < 500
    assert verdict.reply.enhanced == "4.5.0"
    assert not verdict.reply.said_by_hop
    assert verdict.in_doubt is (step == "dot")
    await sender.send(make_parcel(), permit())
    assert hop.connections >= 2


@pytest.mark.parametrize("offers", [PLAIN, ("PIPELINING", "SIZE 0")])
async def test_inv_31_each_recipient_has_its_own_result(
    offers: Any, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(rcpt=["250 ok", "450 4.2.0 busy", "550 5.1.1 nobody", "452 4.5.3 too many"], offers=offers)
    verdicts = await deliver(make_sender, permit, hop, make_parcel("a@b.c", "b@b.c", "c@b.c", "d@b.c"))
    assert [v.reply.code for v in verdicts] == [250, 450, 550, 452]
    assert [v.split for v in verdicts] == [False, False, False, True]
    assert [v.recipient for v in verdicts] == [1, 2, 3, 4]


async def test_452_for_the_first_recipient_is_a_deferral(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(rcpt=["452 4.2.2 full", "250 ok"])
    first, second = await deliver(make_sender, permit, hop, make_parcel("a@b.c", "b@b.c"))
    assert (first.reply.code, first.split) == (452, False)
    assert second.reply.positive


@pytest.mark.parametrize("offers", [PLAIN, ("PIPELINING", "SIZE 0")])
async def test_tx8_inv_31_results_before_a_421_are_kept(
    offers: Any, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(rcpt=["550 5.1.1 nobody", "250 ok", "421 4.3.2 going down", "250 ok"], offers=offers)
    verdicts = await deliver(make_sender, permit, hop, make_parcel("a@b.c", "b@b.c", "c@b.c", "d@b.c"))
    assert [v.reply.code for v in verdicts] == [550, 421, 421, 421]
    assert hop.messages == []


@pytest.mark.parametrize("action", ["CLOSE", "RST", "HALF"])
async def test_tx8_results_before_a_drop_are_kept(
    action: str, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(rcpt=["550 5.1.1 nobody", "250 ok", action])
    verdicts = await deliver(make_sender, permit, hop, make_parcel("a@b.c", "b@b.c", "c@b.c"))
    # An RST may overtake what was sent before it; a result that did arrive is never taken back.
    assert verdicts[0].reply.code == 550 or action == "RST"
    assert [v.reply.code for v in verdicts[1:]] == [451, 451]
    assert not any(v.in_doubt for v in verdicts)


@pytest.mark.parametrize("offers", [PLAIN, ("PIPELINING", "SIZE 0")])
async def test_inv_32_all_refused_then_the_session_is_reused(
    offers: Any, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(rcpt=["550 5.1.1 no", "250 ok"], offers=offers)
    sender = make_sender(hop)
    (refused,) = await sender.send(make_parcel(), permit())
    (taken,) = await sender.send(make_parcel(), permit())
    assert (refused.reply.code, taken.reply.code) == (550, 250)
    assert b"RSET" in hop.commands
    assert hop.connections == 1
    assert len(hop.messages) == 1
    if offers is PLAIN:
        assert hop.commands.count(b"DATA") == 1


async def test_tx13_lone_dot_when_354_comes_though_all_were_refused(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(rcpt="550 5.1.1 no", data="354 go on", dot="554 5.5.1 no recipients")
    gate = permit()
    (verdict,) = await make_sender(hop).send(make_parcel(), gate)
    assert verdict.reply.code == 550
    assert hop.messages == [b".\r\n"]
    assert hop.commands[-1] == b"RSET"
    assert gate.asked == 0


async def test_mail_refused_speaks_for_all(make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any) -> None:
    hop = await make_hop(mail="552 5.3.4 too big", rcpt="503 5.5.1 MAIL first")
    verdicts = await deliver(make_sender, permit, hop, make_parcel("a@b.c", "b@b.c"))
    assert [(v.reply.code, v.reply.enhanced) for v in verdicts] == [(552, "5.3.4")] * 2


async def test_data_refused_speaks_for_the_accepted(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(rcpt=["550 5.1.1 no", "250 ok"], data="451 4.3.0 not now")
    verdicts = await deliver(make_sender, permit, hop, make_parcel("a@b.c", "b@b.c"))
    assert [v.reply.code for v in verdicts] == [550, 451]
    assert not any(v.in_doubt for v in verdicts)


@pytest.mark.parametrize("offers", [PLAIN, ("PIPELINING", "SIZE 0")])
@pytest.mark.parametrize("people", [51, 230])
async def test_many_recipients_in_groups(
    people: int, offers: Any, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(offers=offers)
    verdicts = await deliver(make_sender, permit, hop, make_parcel(*[f"u{n}@b.c" for n in range(people)]))
    assert all(v.reply.positive for v in verdicts)
    assert [c for c in hop.commands if c.startswith(b"RCPT")] == [b"RCPT TO:<u%d@b.c>" % n for n in range(people)]
    assert len(hop.messages) == 1


@pytest.mark.parametrize("action", ["CLOSE", "RST", "HALF", "HANG"])
async def test_tx9_inv_14_no_reply_after_the_dot_is_in_doubt(
    action: str, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(rcpt=["250 ok", "550 5.1.1 no"], dot=action)
    timeouts = Timeouts(dot=1.0 if action == "HANG" else 60.0)
    verdicts = await deliver(make_sender, permit, hop, make_parcel("a@b.c", "b@b.c"), timeouts=timeouts)
    assert [(v.reply.code, v.in_doubt) for v in verdicts] == [(451, True), (550, False)]
    assert len(hop.messages) == 1


@pytest.mark.parametrize(("reply", "code"), [("451 4.3.0 later", 451), ("554 5.6.0 no", 554), ("421 4.3.2 bye", 421)])
async def test_a_reply_to_the_dot_is_never_in_doubt(
    reply: str, code: int, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(dot=reply)
    (verdict,) = await deliver(make_sender, permit, hop, make_parcel())
    assert (verdict.reply.code, verdict.in_doubt, verdict.reply.said_by_hop) == (code, False, True)


async def test_inv_43_reply_before_the_end_of_data_is_out_of_turn(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(body="552 5.3.4 enough")
    gate = permit()
    (verdict,) = await make_sender(hop).send(make_parcel(body=b"x" * 78 + b"\r\n", stream=True, blocks=slow), gate)
    assert (verdict.reply.code, verdict.in_doubt) == (451, False)
    assert "552 5.3.4 enough" in verdict.reply.text
    assert gate.asked == 0


async def slow() -> Any:
    while True:
        yield b"x" * 70000 + b"\r\n"
        await asyncio.sleep(0)


async def test_tx2_a_large_message_is_streamed(make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any) -> None:
    hop = await make_hop()
    body = (b"." + b"x" * 77 + b"\r\n") * 20000
    (verdict,) = await deliver(make_sender, permit, hop, make_parcel(body=body, stream=True))
    assert verdict.reply.positive
    (message,) = hop.messages
    prefix, end = b"Received: by mx.example.edu\r\n", b".\r\n"
    assert message == prefix + body.replace(b"\r\n.", b"\r\n..").replace(b".", b"..", 1) + end


async def test_a_body_shorter_than_promised_is_not_delivered(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop()
    with pytest.raises(BodyDamaged):
        await deliver(make_sender, permit, hop, make_parcel(stream=True, size=9999))
    assert hop.messages == []


async def test_a_body_that_cannot_be_read_is_not_delivered(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    async def broken() -> Any:
        yield b"Subject: half\r\n"
        raise BodyDamaged("checksum")

    hop = await make_hop()
    with pytest.raises(BodyDamaged):
        await deliver(make_sender, permit, hop, make_parcel(stream=True, blocks=broken))
    assert hop.messages == []


async def test_tx5_addresses_go_out_as_they_are(make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any) -> None:
    wires = ('"a@b.c"@d.e', "a:b@d.e", '"x> y<"@d.e', "UsEr+Ext@D.e", "x,y@d.e", '"q\\"q"@d.e')
    hop = await make_hop()
    verdicts = await deliver(make_sender, permit, hop, make_parcel(*wires))
    assert all(v.reply.positive for v in verdicts)
    assert [c for c in hop.commands if c.startswith(b"RCPT")] == [f"RCPT TO:<{w}>".encode() for w in wires]


@pytest.mark.parametrize(
    "wire", ["a@b.c> NOTIFY=NEVER", "a@b.c\r\nRCPT TO:<x@y.z>", "a b@c.d", "a@b.c\x00", "<a@b.c", '"a@b.c']
)
async def test_tx5_an_address_that_breaks_its_brackets_is_not_sent(
    wire: str, make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop()
    bad, good = await deliver(make_sender, permit, hop, make_parcel(wire, "good@b.c"))
    assert (bad.reply.code, bad.reply.said_by_hop) == (451, False)
    assert good.reply.positive
    assert [c for c in hop.commands if c.startswith(b"RCPT")] == [b"RCPT TO:<good@b.c>"]


async def test_tx6_inv_74_null_sender(make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any) -> None:
    hop = await make_hop(offers=("PIPELINING",))
    (verdict,) = await deliver(make_sender, permit, hop, make_parcel(sender=""))
    assert verdict.reply.positive
    assert b"MAIL FROM:<>" in hop.commands


async def test_tx7_dsn_parameters_are_each_recipients_own(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    people = (
        ParcelRecipient(1, "a@b.c", notify="SUCCESS,DELAY", orcpt="rfc822;old+2Ba@b.c"),
        ParcelRecipient(2, "b@b.c", notify="NEVER"),
        ParcelRecipient(3, "c@b.c", notify="FAILURE X=Y"),
    )
    hop = await make_hop()
    parcel = make_parcel(people=people, ret="HDRS", envid="id+201", body_type="8BITMIME", smtputf8=True)
    verdicts = await deliver(make_sender, permit, hop, parcel)
    assert not any(v.relayed for v in verdicts)
    assert hop.commands[1:5] == [
        b"MAIL FROM:<s@example.org> SIZE=%d BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=id+201" % parcel.size,
        b"RCPT TO:<a@b.c> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;old+2Ba@b.c",
        b"RCPT TO:<b@b.c> NOTIFY=NEVER",
        b"RCPT TO:<c@b.c>",
    ]


async def test_a_hop_without_dsn_makes_success_relayed(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    people = (ParcelRecipient(1, "a@b.c", notify="SUCCESS"), ParcelRecipient(2, "b@b.c", notify="FAILURE"))
    hop = await make_hop(offers=())
    verdicts = await deliver(make_sender, permit, hop, make_parcel(people=people, ret="FULL", envid="e"))
    assert [v.relayed for v in verdicts] == [True, False]
    assert hop.commands[1:3] == [b"MAIL FROM:<s@example.org>", b"RCPT TO:<a@b.c>"]


async def test_tx12_inv_45_eight_bits_are_sent_as_they_are(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(offers=("PIPELINING",))
    parcel = make_parcel(body="ü\r\n".encode("latin-1"), body_type="8BITMIME")
    (verdict,) = await deliver(make_sender, permit, hop, parcel)
    assert verdict.reply.positive
    assert b"MAIL FROM:<s@example.org>" in hop.commands
    assert b"\xfc\r\n.\r\n" in hop.messages[0]


async def test_inv_45_smtputf8_needed_and_not_offered(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(offers=("PIPELINING",))
    bad, good = await deliver(make_sender, permit, hop, make_parcel("ü@b.c", "u@b.c"))
    assert (bad.reply.code, bad.reply.enhanced, bad.reply.said_by_hop) == (553, "5.6.7", False)
    assert good.reply.positive
    (whole,) = await deliver(make_sender, permit, hop, make_parcel(smtputf8=True))
    assert (whole.reply.code, whole.reply.enhanced) == (553, "5.6.7")


async def test_inv_45_ascii_message_to_an_internationalised_address_asks_for_smtputf8(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    """A forward may lead there: RFC 6531 3.4 wants the parameter for the address alone, and servers refuse without."""
    hop = await make_hop()
    parcel = make_parcel("ü@b.c", "u@b.c")
    assert [verdict.reply.positive for verdict in await deliver(make_sender, permit, hop, parcel)] == [True, True]
    assert b" SMTPUTF8" in hop.commands[1]
    hop = await make_hop()
    await deliver(make_sender, permit, hop, make_parcel("u@b.c"))
    assert b" SMTPUTF8" not in hop.commands[1]


async def test_inv_45_a_message_larger_than_the_hop_takes(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(offers=("SIZE 60",))
    sender = make_sender(hop)
    (big,) = await sender.send(make_parcel(body=b"x" * 60 + b"\r\n"), permit())
    (small,) = await sender.send(make_parcel(body=b"x\r\n"), permit())
    assert (big.reply.code, big.reply.enhanced, big.reply.said_by_hop) == (552, "5.3.4", False)
    assert small.reply.positive
    assert hop.connections == 1


async def test_tx11_reply_text_is_one_printable_line(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(rcpt="550-5.1.1 a\x1b[2J\x00\r\n550 5.1.1 b\u202e\rc\udcff " + "z" * 2000)
    (verdict,) = await deliver(make_sender, permit, hop, make_parcel())
    assert verdict.reply.enhanced == "5.1.1"
    assert verdict.reply.text.startswith(r"a\x1b[2J\x00 b\u202e c\xff zzz")
    assert verdict.reply.text.isprintable()
    assert len(verdict.reply.text) == 500


async def test_inv_34_lmtp_one_reply_for_each_accepted_recipient(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(
        lmtp=True, rcpt=["250 ok", "550 5.1.1 no", "250 ok"], dot=["250 2.1.5 stored", "452 4.2.2 full"]
    )
    sender = make_sender(hop, protocol="lmtp")
    verdicts = await sender.send(make_parcel("a@b.c", "b@b.c", "c@b.c"), permit())
    assert [v.reply.code for v in verdicts] == [250, 550, 452]
    assert not any(v.split for v in verdicts)
    assert hop.commands[0] == b"LHLO mx.example.edu"


async def test_lmtp_ended_between_the_replies_leaves_the_rest_in_doubt(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(lmtp=True, dot=["250 2.1.5 stored", "CLOSE"])
    verdicts = await make_sender(hop, protocol="lmtp").send(make_parcel("a@b.c", "b@b.c", "c@b.c"), permit())
    assert [(v.reply.code, v.in_doubt) for v in verdicts] == [(250, False), (451, True), (451, True)]


async def test_inv_45_whole_eight_bit_mail_is_not_given_to_a_hop_without_it(
    make_hop: Any, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    hop = await make_hop(offers=("PIPELINING",))
    sender = make_sender(hop, whole_eight_bit=True)
    eight = make_parcel(body="ü\r\n".encode("latin-1"), body_type="8BITMIME")
    (refused,) = await sender.send(eight, permit())
    assert (refused.reply.code, refused.reply.enhanced, refused.reply.said_by_hop) == (554, "5.6.3", False)
    (seven,) = await sender.send(make_parcel(), permit())
    assert seven.reply.positive
    assert len(hop.messages) == 1
