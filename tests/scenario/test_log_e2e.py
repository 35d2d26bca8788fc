"""
The delivery log of real traffic: pflogsumm counts in it what happened, and as JSON it says the same.

One message to each fate: delivered, put off and then delivered, refused at RCPT and at the dot, held and then
delivered, returned with a notice.
"""

import asyncio
import json
import re
import smtplib
import subprocess
from collections import Counter
from collections.abc import Callable

import pytest
from support.site import Site

from router.ledger.behaviour import Behaviour, Refusal
from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Stores = dict[str, RecordingStore]
MakeSite = Callable[..., Site]

PFLOGSUMM = "/usr/sbin/pflogsumm"
ALICE, BOB, CAROL = "alice@example.edu", "bob@example.edu", "carol@example.edu"
SENDER = "sender@outside.example"
FATES = {
    "received": 6,
    "delivered": 8,
    "deferred": 1,
    "bounced": 1,
    "rejected": 3,
    "held": 2,
    "forwarded": 0,
    "discarded": 0,
}
"""Of 6 messages of clients, two of them for two recipients; the notice about the one returned is delivered too."""


def submit(port: int, tag: str, *recipients: str, hops: int = 0) -> list[int]:
    """Codes of each RCPT and, if one was accepted, of the dot."""
    content = b"Received: by hop.example; Mon, 1 Jan 2024 00:00:00 +0000\r\n" * hops
    content += f"Message-ID: <{tag}@outside.example>\r\nX-Ledger: {tag}\r\n\r\nhello\r\n".encode()
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.ehlo("log.example")
        client.docmd(f"MAIL FROM:<{SENDER}>")
        codes = [client.docmd(f"RCPT TO:<{recipient}>")[0] for recipient in recipients]
        return [*codes, client.data(content)[0]] if 250 in codes else codes


async def traffic(site: Site, stores: Stores) -> None:
    """Every fate; at rest when it returns."""

    async def offer(tag: str, *recipients: str, hops: int = 0) -> list[int]:
        return await asyncio.to_thread(submit, site.port, tag, *recipients, hops=hops)

    assert await offer("plain", ALICE, CAROL) == [250, 250, 250]
    assert await offer("unknown", "nobody@example.edu", "x@elsewhere.example") == [550, 554]
    assert await offer("hops", ALICE, hops=51) == [250, 554]
    assert await site.drained(60) == 0

    stores["old"].behaviour = Behaviour(transient_first=1)
    assert await offer("later", BOB) == [250, 250]
    assert await site.drained(60) == 0

    stores["old"].behaviour = Behaviour(refusals=(Refusal(ALICE, "550 5.1.1 no such user, sorry"),))
    assert await offer("returned", ALICE, BOB) == [250, 250, 250]
    assert await site.drained(60) == 0

    stores["old"].behaviour = Behaviour()
    assert (await site.hold(BOB)).quiet
    assert await offer("held-1", BOB) == [250, 250]
    assert await offer("held-2", BOB) == [250, 250]
    assert await offer("beside", CAROL) == [250, 250]
    await site.release(BOB, to="new")
    assert await site.drained(60) == 0
    site.balance()


async def logged(make_site: MakeSite, stores: Stores, form: str) -> tuple[str, Counter[str]]:
    """The relay's whole log after it has stopped, and the journal's count of each disposition."""
    async with make_site(workers=2, settings={"log": {"format": form}}) as site:
        await traffic(site, stores)
        assert await asyncio.to_thread(site.stop) == 0
        dispositions = Counter(row.disposition for row in site.journal())
        return await asyncio.to_thread(site.relay.log.read_text), dispositions


async def test_pflogsumm_counts_what_happened(make_site: MakeSite, stores: Stores) -> None:
    text, dispositions = await logged(make_site, stores, "postfix")
    tells_the_story(text)
    summary = await asyncio.to_thread(
        subprocess.run,
        [PFLOGSUMM, "--syslog_name=sluice"], input=text, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert summary.stderr == ""
    found = re.findall(r"^ +(\d+)[ kmg]  (\w[\w ]*\w)", summary.stdout, re.MULTILINE)
    totals = {name: int(count) for count, name in found}
    assert {name: totals.get(name) for name in FATES} == FATES, summary.stdout
    assert totals["delivered"] == dispositions["delivered"]
    assert totals["bounced"] == dispositions["returned"]
    assert re.search(r"^ +1 +deferred +\(1 +deferrals\)$", summary.stdout, re.MULTILINE)
    assert "no such user, sorry" in summary.stdout
    assert "reject: END-OF-MESSAGE from unknown[127.0.0.1]: 554 5.4.6 Too many hops; " in text
    assert "Relay access denied" in summary.stdout


def tells_the_story(text: str) -> None:
    """A queue-id leads through everything that became of a message."""
    [queue_id] = re.findall(r"sluice/cleanup\[\d+\]: (\w+): message-id=<later@outside.example>", text)
    story: list[tuple[str, str]] = re.findall(rf" sluice/(\w+)\[\d+\]: {queue_id}: (.*)", text)
    assert [program for program, _ in story[:5]] == ["smtpd", "cleanup", "qmgr", "smtp", "smtp"]
    words = [line for _, line in story]
    assert words[0] == "client=unknown[127.0.0.1]"
    assert re.fullmatch(rf"from=<{SENDER}>, size=\d+, nrcpt=1 \(queue active\)", words[2])
    assert f"to=<{BOB}>, " in words[3]
    assert "dsn=4.7.1, status=deferred (host 127.0.0.1" in words[3]
    assert "said: 451 4.7.1 come back later)" in words[3]
    assert "dsn=2.0.0, status=sent (250 2.0.0 taken)" in words[4]


async def test_log_as_json_says_the_same(make_site: MakeSite, stores: Stores) -> None:
    text, dispositions = await logged(make_site, stores, "json")
    records = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    events = Counter(record["event"] for record in records)
    assert sum(record["event"] == "received" and "client" in record for record in records) == FATES["received"]
    assert events["reject"] == FATES["rejected"]
    assert events["delivered"] == FATES["delivered"] == dispositions["delivered"]
    assert events["deferred"] == 1
    assert events["returned"] == 1
    held = [record for record in records if record["event"] == "received" and record.get("held")]
    assert [record["held"] for record in held] == [[BOB], [BOB]]
    assert {record["status"] for record in records if "status" in record} == {"sent", "deferred", "bounced"}
    assert all(record["process"] == "sluice" for record in records)
