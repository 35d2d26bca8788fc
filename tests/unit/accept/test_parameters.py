"""The grammar of MAIL and RCPT."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.accept import replies
from router.accept.parameters import MailCommand, RcptCommand, parse_mail, parse_rcpt
from router.accept.replies import Refused
from router.model.address import parse_address
from router.model.reply import Reply

SENDER = parse_address("S.Ender@Example.com")
USER = parse_address("user@example.edu")


def mail(text: str, *, utf8: bool = False) -> MailCommand:
    return parse_mail(text.encode(), utf8_offered=utf8)


def rcpt(text: str, *, utf8: bool = False) -> RcptCommand:
    return parse_rcpt(text.encode(), smtputf8=utf8)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("FROM:<S.Ender@Example.com>", MailCommand(SENDER)),
        ("from: <S.Ender@Example.com> ", MailCommand(SENDER)),
        ("FROM:<>", MailCommand(None)),
        ("FROM:<> SIZE=0", MailCommand(None)),
        ("FROM:<S.Ender@Example.com>  size=1000  body=8bitmime", MailCommand(SENDER, 1000, "8BITMIME")),
        ("FROM:<> RET=hdrs ENVID=aB+3Dc", MailCommand(None, ret="HDRS", envid="aB+3Dc")),
        ("FROM:<> AUTH=<>", MailCommand(None)),
        ("FROM:<> AUTH=e+3Dmc2@example.com SIZE=7", MailCommand(None, 7)),
        ("FROM:<@relay.example:S.Ender@Example.com>", MailCommand(SENDER)),
    ],
)
def test_mail(text: str, command: MailCommand) -> None:
    assert mail(text) == command


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("", replies.BAD_SENDER),
        ("FROM", replies.BAD_SENDER),
        ("TO:<a@b.c>", replies.BAD_SENDER),
        ("FROM:a@b.c", replies.BAD_SENDER),
        ("FROM:<", replies.BAD_SENDER),
        ("FROM:<a@b.c", replies.BAD_SENDER),
        ("FROM:<a@b.c>SIZE=1", replies.BAD_SENDER),
        ("FROM:<postmaster>", replies.BAD_SENDER),
        ("FROM:<a b@c.d>", replies.BAD_SENDER),
        ("FROM:<a@[IPv6:::1%> SIZE=1]>", replies.BAD_SENDER),
        ("FROM:<é@b.c>", replies.NEEDS_SMTPUTF8),
        ("FROM:<> SMTPUTF8", replies.UNKNOWN_PARAMETER),
        ("FROM:<> SIZE", replies.BAD_PARAMETER),
        ("FROM:<> SIZE=", replies.BAD_PARAMETER),
        ("FROM:<> SIZE=-1", replies.BAD_PARAMETER),
        ("FROM:<> SIZE=1x", replies.BAD_PARAMETER),
        ("FROM:<> SIZE=" + "9" * 21, replies.BAD_PARAMETER),
        ("FROM:<> SIZE=1 SIZE=2", replies.BAD_PARAMETER),
        ("FROM:<> =x", replies.BAD_PARAMETER),
        ("FROM:<> BODY=BINARYMIME", replies.BAD_PARAMETER),
        ("FROM:<> RET=SOME", replies.BAD_PARAMETER),
        ("FROM:<> ENVID=a+3", replies.BAD_PARAMETER),
        ("FROM:<> ENVID=" + "x" * 101, replies.BAD_PARAMETER),
        ("FROM:<> NOTIFY=NEVER", replies.UNKNOWN_PARAMETER),
        ("FROM:<> HOLDFOR=60", replies.UNKNOWN_PARAMETER),
    ],
)
def test_inv_65_inv_77_mail_refused(text: str, reply: Reply) -> None:
    with pytest.raises(Refused) as caught:
        mail(text)
    assert caught.value.reply == reply


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("TO:<user@example.edu>", RcptCommand(USER)),
        ("To: <user@example.edu>", RcptCommand(USER)),
        ("TO:<Postmaster>", RcptCommand(parse_address("Postmaster"))),
        ('TO:<"a> b"@example.edu>', RcptCommand(parse_address('"a> b"@example.edu'))),
        ("TO:<user@example.edu> NOTIFY=never", RcptCommand(USER, "NEVER")),
        ("TO:<user@example.edu> NOTIFY=success,DELAY", RcptCommand(USER, "SUCCESS,DELAY")),
        ("TO:<user@example.edu> ORCPT=rfc822;Bo+2Bb@X.y", RcptCommand(USER, "", "rfc822;Bo+2Bb@X.y")),
        ("TO:<user@example.edu> ORCPT=utf-8;b+5Cx@x.y", RcptCommand(USER, "", "utf-8;b+5Cx@x.y")),
    ],
)
def test_rcpt(text: str, command: RcptCommand) -> None:
    assert rcpt(text) == command


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("TO:<", replies.BAD_RECIPIENT),
        ("TO:<>", replies.BAD_RECIPIENT),
        ("TO:user@example.edu", replies.BAD_RECIPIENT),
        ("TO:<user@example.edu", replies.BAD_RECIPIENT),
        ("TO:<u@evil@example.edu>", replies.BAD_RECIPIENT),
        ("TO:<user@example.edu.>", replies.BAD_RECIPIENT),
        ("TO:<\\=()@[@d>", replies.BAD_RECIPIENT),
        ("TO:<é@example.edu>", replies.NEEDS_SMTPUTF8),
        ("TO:<user@example.edu> NOTIFY=NEVER,DELAY", replies.BAD_PARAMETER),
        ("TO:<user@example.edu> NOTIFY=DELAY,DELAY", replies.BAD_PARAMETER),
        ("TO:<user@example.edu> NOTIFY=", replies.BAD_PARAMETER),
        ("TO:<user@example.edu> NOTIFY", replies.BAD_PARAMETER),
        ("TO:<user@example.edu> NOTIFY=SOMETIMES", replies.BAD_PARAMETER),
        ("TO:<user@example.edu> ORCPT=user@example.edu", replies.BAD_PARAMETER),
        ("TO:<user@example.edu> ORCPT=rfc822;a+zz", replies.BAD_PARAMETER),
        ("TO:<user@example.edu> ORCPT=utf-8;é@x.y", replies.BAD_PARAMETER),
        ("TO:<user@example.edu> ORCPT=rfc822;" + "x" * 500, replies.BAD_PARAMETER),
        ("TO:<user@example.edu> SIZE=1", replies.UNKNOWN_PARAMETER),
    ],
)
def test_rx2_inv_65_inv_77_rcpt_refused(text: str, reply: Reply) -> None:
    with pytest.raises(Refused) as caught:
        rcpt(text)
    assert caught.value.reply == reply


def test_smtputf8_opens_the_address_and_the_orcpt() -> None:
    assert mail("FROM:<é@bücher.example> SMTPUTF8", utf8=True).smtputf8
    command = rcpt("TO:<é@example.edu> ORCPT=utf-8;é@x.y", utf8=True)
    assert (command.address.wire, command.orcpt) == ("é@example.edu", "utf-8;é@x.y")
    with pytest.raises(Refused):
        mail("FROM:<a@b.c> SMTPUTF8=yes", utf8=True)


def test_octets_that_are_no_utf8_need_smtputf8_too() -> None:
    with pytest.raises(Refused) as caught:
        parse_rcpt(b"TO:<\xff@example.edu>", smtputf8=True)
    assert caught.value.reply == replies.NEEDS_SMTPUTF8


@example(b"a@->", b"FROM:<", False)
@example(b"a@b> SIZE=x", b"FROM:<", False)
@example(b"a@b> =", b"TO:<", False)
@given(st.binary(max_size=60), st.sampled_from([b"", b"FROM:<", b"TO:<", b"FROM:<> ", b'TO:<"']), st.booleans())
def test_rx2_whatever_comes_is_parsed_or_refused(noise: bytes, start: bytes, utf8: bool) -> None:
    for parse in (
        lambda data: parse_mail(data, utf8_offered=utf8),
        lambda data: parse_rcpt(data, smtputf8=utf8),
    ):
        with contextlib.suppress(Refused):
            parse(start + noise)
