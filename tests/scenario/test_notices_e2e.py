"""
Delivery status notifications by the running relay: one when a store refuses, none where nobody wants or may have one,
and the DSN parameters of clients passed on as they came (RFC 3461, 3464).
"""

import asyncio
import smtplib
import sys
from collections.abc import Awaitable, Callable, Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from functools import partial

import pytest
from support.site import Site
from support.trio import Trio

from router.control.alarms import open_alarms
from router.ledger.arrival import Arrival
from router.ledger.behaviour import Behaviour, Refusal, Stage
from router.ledger.stores import RecordingStore
from router.model.outcome import JournalRow
from router.spool.finding import QueueEntry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Stores = dict[str, RecordingStore]
MakeSite = Callable[..., Site]
Until = Callable[..., Awaitable[None]]
Made = Callable[[], int]
"""How many notices were made since the test began."""

SENDER = "sender@outside.example"
NO_SUCH_USER = "550 5.1.1 no such user here"
CONTENT = b"Message-ID: <n1@outside.example>\r\nX-Ledger: n1\r\nSubject: hello\r\n\r\nthe body\r\n"


def refusing(pattern: str = "*", reply: str = NO_SUCH_USER) -> Behaviour:
    return Behaviour(refusals=(Refusal(pattern, reply),))


def submit(
    port: int, *recipients: str | tuple[str, str], sender: str = SENDER, mail: str = "", content: bytes = CONTENT
) -> None:
    """One message; `recipient` or `(recipient, parameters)`, and the parameters of MAIL."""
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.ehlo("notices.example")
        assert client.has_extn("dsn")
        replies = [client.docmd(f"MAIL FROM:<{sender}> {mail}".rstrip())]
        for recipient in recipients:
            address, parameters = recipient if isinstance(recipient, tuple) else (recipient, "")
            replies.append(client.docmd(f"RCPT TO:<{address}> {parameters}".rstrip()))
        replies.append(client.data(content))
        assert {code for code, _ in replies} == {250}, replies


async def offer(site: Site, *recipients: str | tuple[str, str], **keys: str) -> None:
    await asyncio.to_thread(submit, site.port, *recipients, **keys)  # type: ignore[arg-type]


async def sluice(site: Site, *words: str) -> tuple[int, str]:
    """A command, in a process of its own as an operator has it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "router", "--config", str(site.config), *words,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


def queue(site: Site) -> list[QueueEntry]:
    with site.books() as books:
        return books.queue()


def notices_made(site: Site) -> int:
    """Messages of our own ever made: committed with the outcome they tell of, so there is nothing to wait for."""
    with site.books() as books:
        return sum(counts.own.accepted for counts in books.counts())


@pytest.fixture
def made(site: Site) -> Made:
    before = notices_made(site)
    return lambda: notices_made(site) - before


def journal(site: Site, trio: Trio) -> list[JournalRow]:
    """What became of mail to these people."""
    return [row for row in site.journal() if row.recipient in {trio.alice, trio.bob, trio.carol}]


def alarms(site: Site) -> set[str]:
    return {alarm.kind for alarm in site.office.database.run_read(open_alarms)}


async def only_notice(site: Site, stores: Stores, made: Made) -> tuple[EmailMessage, Arrival]:
    """The one notice that left, once everything is settled; the outbound host is the store of the lists."""
    assert await site.drained(60) == 0
    [arrival] = stores["lists"].arrivals
    assert arrival.body is not None
    notice = message_from_bytes(arrival.body.removeprefix(arrival.trace.encode() + b"\r\n"), policy=policy.default)
    assert isinstance(notice, EmailMessage)
    assert made() == 1
    site.balance()
    return notice, arrival


def parts(notice: EmailMessage) -> tuple[EmailMessage, Sequence[EmailMessage], EmailMessage]:
    """The words, the blocks of fields, and the original, of a report as RFC 6522 has it."""
    assert notice.get_content_type() == "multipart/report"
    assert notice.get_param("report-type") == "delivery-status"
    assert notice.defects == []
    words, status, original = notice.iter_parts()
    assert isinstance(words, EmailMessage)
    assert isinstance(status, EmailMessage)
    assert isinstance(original, EmailMessage)
    assert words.get_content_type() == "text/plain"
    assert status.get_content_type() == "message/delivery-status"
    return words, [block for block in status.iter_parts() if isinstance(block, EmailMessage)], original


@pytest.fixture(scope="module")
def lasting(lasting_site: Callable[..., Site]) -> Site:
    return lasting_site()


@pytest.fixture
def stores(stores: Stores) -> Stores:
    for store in stores.values():
        store.keep_bodies = True
    return stores


# --- failures -----------------------------------------------------------------------------------------------------


async def test_refusal_of_a_store_becomes_one_notice_with_everything_that_it_should_have(
    site: Site, trio: Trio, stores: Stores, made: Made
) -> None:
    stores["old"].behaviour = refusing()
    await offer(
        site,
        (trio.alice, "NOTIFY=FAILURE,DELAY ORCPT=rfc822;al+2Bice@elsewhere.example"),
        trio.bob,
        trio.carol,
        mail="RET=HDRS ENVID=QQ+3D314",
    )
    notice, arrival = await only_notice(site, stores, made)
    assert arrival.sender == ""
    assert arrival.recipients == ((SENDER, 250),)
    assert notice["From"].addresses[0].username == "MAILER-DAEMON"
    assert notice["To"].addresses[0].addr_spec == SENDER
    assert notice["Auto-Submitted"] == "auto-replied"
    assert notice["MIME-Version"] == "1.0"
    assert parsedate_to_datetime(str(notice["Date"]))
    assert notice["In-Reply-To"] == "<n1@outside.example>"

    words, [about, *blocks], original = parts(notice)
    assert "no such user here" in words.get_content()
    assert about["Reporting-MTA"] == "dns; mx.example.edu"
    assert about["Original-Envelope-Id"] == "QQ=314"
    assert parsedate_to_datetime(str(about["Arrival-Date"]))
    assert [block["Final-Recipient"] for block in blocks] == [
        f"rfc822; {trio.alice}",
        f"rfc822; {trio.bob}",
    ]
    assert [block["Original-Recipient"] for block in blocks] == ["rfc822; al+ice@elsewhere.example", None]
    for block in blocks:
        assert block["Action"] == "failed"
        assert block["Status"] == "5.1.1"
        assert block["Diagnostic-Code"] == f"smtp; {NO_SUCH_USER}"
        assert str(block["Remote-MTA"]).startswith("dns; ")
        assert parsedate_to_datetime(str(block["Last-Attempt-Date"]))
    assert original.get_content_type() == "text/rfc822-headers"
    assert "<n1@outside.example>" in original.get_content()
    assert "the body" not in original.get_content()
    assert [row.disposition for row in journal(site, trio) if row.recipient == trio.carol] == ["delivered"]


async def test_the_whole_message_goes_back_when_asked_for(site: Site, trio: Trio, stores: Stores, made: Made) -> None:
    stores["old"].behaviour = Behaviour(replies={Stage.DOT: "554 5.6.0 not this one"})
    await offer(site, trio.alice, mail="RET=FULL")
    notice, _ = await only_notice(site, stores, made)
    _, [_, block], original = parts(notice)
    assert block["Status"] == "5.6.0"
    assert original.get_content_type() == "message/rfc822"
    assert "the body" in original.as_string()


async def test_mail_that_cannot_be_delivered_for_its_whole_lifetime_is_returned_once(
    make_site: MakeSite, stores: Stores
) -> None:
    stores["old"].behaviour = Behaviour(replies={Stage.RCPT: "451 4.2.1 not today"})
    async with make_site(settings={"retry": {"lifetime": "2s"}}) as site:
        await offer(site, "alice@example.edu")
        notice, _ = await only_notice(site, stores, partial(notices_made, site))
        _, [_, block], _ = parts(notice)
        assert block["Action"] == "failed"
        assert block["Status"] == "5.4.7"
        assert block["Diagnostic-Code"] == "smtp; 451 4.2.1 not today"
        assert stores["old"].arrivals == []


async def test_delay_is_told_once_and_the_mail_still_arrives(make_site: MakeSite, stores: Stores, until: Until) -> None:
    stores["old"].behaviour = Behaviour(replies={Stage.RCPT: "451 4.2.1 not yet"})
    async with make_site(settings={"retry": {"delay_notice": "1s"}}) as site:
        await offer(site, "alice@example.edu")
        await until(lambda: notices_made(site), "the sender is told of the delay")
        tried = len(stores["old"].attempts)
        await until(lambda: len(stores["old"].attempts) >= tried + 3, "it is tried several times more")
        stores["old"].behaviour = Behaviour()
        notice, _ = await only_notice(site, stores, partial(notices_made, site))
        _, [_, block], _ = parts(notice)
        assert block["Action"] == "delayed"
        assert block["Status"] == "4.2.1"
        assert parsedate_to_datetime(str(block["Will-Retry-Until"]))
        assert len(stores["old"].arrivals) == 1


# --- no notices ---------------------------------------------------------------------------------------------------


async def test_notify_never_is_obeyed_and_is_a_matter_of_each_recipient(
    site: Site, trio: Trio, stores: Stores, made: Made
) -> None:
    stores["old"].behaviour = refusing()
    await offer(site, (trio.alice, "NOTIFY=NEVER"))
    assert await site.drained(60) == 0
    assert made() == 0
    await offer(site, (trio.alice, "NOTIFY=NEVER"), (trio.bob, "NOTIFY=FAILURE"))
    notice, _ = await only_notice(site, stores, made)
    _, [_, *blocks], _ = parts(notice)
    assert [block["Final-Recipient"] for block in blocks] == [f"rfc822; {trio.bob}"]
    assert [row.disposition for row in journal(site, trio) if row.sender] == ["returned"] * 3


async def test_null_sender_is_told_nothing_and_the_mail_is_parked(
    site: Site, trio: Trio, stores: Stores, made: Made, until: Until
) -> None:
    stores["old"].behaviour = refusing()
    await offer(site, trio.alice, sender="")
    await until(lambda: [entry.state for entry in queue(site)] == ["parked"], "the mail is parked")
    assert made() == 0
    site.balance()
    assert stores["lists"].arrivals == []


async def test_notice_that_is_refused_is_not_answered_by_another(
    site: Site, trio: Trio, stores: Stores, made: Made, until: Until
) -> None:
    stores["old"].behaviour = refusing()
    stores["lists"].behaviour = refusing()
    await offer(site, trio.alice)
    await until(lambda: [(entry.own, entry.state) for entry in queue(site)] == [(True, "parked")], "it is parked")
    assert made() == 1
    site.balance()


async def test_refusal_about_a_mailbox_just_moved_is_parked_with_an_alarm_and_delivered_when_repaired(
    site: Site, trio: Trio, stores: Stores, made: Made, until: Until
) -> None:
    stores["new"].behaviour = refusing()
    assert (await site.hold(trio.alice)).quiet
    await offer(site, trio.alice)
    await site.release(trio.alice, to="new")
    await until(lambda: [entry.state for entry in queue(site)] == ["parked"], "the mail is parked")
    await until(lambda: "protected-refusal" in alarms(site), "there is an alarm")
    assert made() == 0
    assert stores["old"].arrivals == []

    # The same store about somebody who was not moved: the sender is told.
    await offer(site, trio.carol)
    await stores["lists"].arrived(1, timeout=60)
    await until(lambda: [entry.recipient for entry in queue(site)] == [trio.alice], "alice's alone waits")
    assert made() == 1

    stores["new"].behaviour = Behaviour()
    code, said = await sluice(site, "queue", "requeue", "--mailbox", trio.alice, "--reason", "repaired")
    assert code == 0, said
    assert await site.drained(60) == 0
    assert [arrival.recipients for arrival in stores["new"].arrivals] == [((trio.alice, 250),)]
    assert made() == 1
    site.balance()


# --- success, and passing on --------------------------------------------------------------------------------------


async def test_success_is_reported_as_relayed_where_the_store_has_no_dsn(
    site: Site, trio: Trio, stores: Stores, made: Made
) -> None:
    stores["old"].behaviour = Behaviour(dsn=False)
    await offer(
        site,
        (trio.alice, "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;alice@elsewhere.example"),
        (trio.bob, "NOTIFY=FAILURE"),
        mail="ENVID=abc RET=FULL",
    )
    notice, _ = await only_notice(site, stores, made)
    _, [about, *blocks], original = parts(notice)
    assert about["Original-Envelope-Id"] == "abc"
    [block] = blocks
    assert block["Action"] == "relayed"
    assert str(block["Status"]).startswith("2.")
    assert block["Original-Recipient"] == "rfc822; alice@elsewhere.example"
    assert original.get_content_type() == "text/rfc822-headers"
    [arrival] = stores["old"].arrivals
    assert not any("NOTIFY" in parameters or "ENVID" in parameters for parameters in arrival.parameters)


async def test_parameters_reach_a_store_with_dsn_as_they_came_and_it_is_its_turn_to_report(
    site: Site, trio: Trio, stores: Stores, made: Made
) -> None:
    orcpt = "ORCPT=X-odd-type;aL+2Bi+3Dce!#$%&'*-/?^_`{|}~@Elsewhere.Example"
    await offer(
        site,
        (trio.alice, f"NOTIFY=SUCCESS,FAILURE,DELAY {orcpt}"),
        (trio.bob, "NOTIFY=NEVER"),
        mail="RET=HDRS ENVID=QQ+3D314-aBc+2B BODY=8BITMIME",
    )
    assert await site.drained(60) == 0
    assert made() == 0
    [arrival] = stores["old"].arrivals
    mail, *recipients = arrival.parameters
    assert {"RET=HDRS", "ENVID=QQ+3D314-aBc+2B", "BODY=8BITMIME"} <= set(mail.split())
    assert dict(zip((to for to, _ in arrival.recipients), recipients, strict=True)) == {
        trio.alice: f"NOTIFY=SUCCESS,FAILURE,DELAY {orcpt}",
        trio.bob: "NOTIFY=NEVER",
    }


async def test_parameters_survive_a_hold_and_a_restart(site: Site, trio: Trio, stores: Stores) -> None:
    assert (await site.hold(trio.alice)).quiet
    await offer(site, (trio.alice, "NOTIFY=DELAY ORCPT=rfc822;a+2Bb@c.example"), mail="ENVID=e1 RET=FULL")
    await asyncio.to_thread(site.stop)
    await asyncio.to_thread(site.start)
    await site.release(trio.alice, to="new")
    assert await site.drained(60) == 0
    [arrival] = stores["new"].arrivals
    assert {"ENVID=e1", "RET=FULL"} <= set(arrival.parameters[0].split())
    assert arrival.parameters[1:] == ("NOTIFY=DELAY ORCPT=rfc822;a+2Bb@c.example",)
