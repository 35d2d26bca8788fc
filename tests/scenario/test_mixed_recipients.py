"""
One message to an old, a held, a new, a list, an unknown and a foreign recipient: each has its own reply and its own
fate, there is one 250 for the message, and the held recipient alone waits (promises 1 and 2).
"""

import asyncio
import re
import smtplib
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest
from support.site import Site
from support.trio import Trio

from router.ledger.book import Ledger
from router.ledger.load import Fate, Load
from router.ledger.stores import RecordingStore
from router.ledger.traffic import Plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Stores = dict[str, RecordingStore]
MakeSite = Callable[..., Site]
Until = Callable[..., Awaitable[None]]

OLD, HELD, NEW = "alice@example.edu", "bob@example.edu", "carol@example.edu"
LIST, UNKNOWN, FOREIGN = "announce@example.edu", "nobody@example.edu", "somebody@elsewhere.example"
EVERYBODY = (OLD, HELD, NEW, LIST, UNKNOWN, FOREIGN)
LISTS = [{"store": "lists", "manager": "majordomo", "addresses": [LIST]}]


def dialogue(port: int, recipients: Sequence[str], *, pipelined: bool) -> list[str]:
    """The replies to MAIL, each RCPT, DATA and the dot."""
    commands = ["MAIL FROM:<sender@outside.example>", *(f"RCPT TO:<{address}>" for address in recipients), "DATA"]
    replies = []
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.ehlo("mixed.example")
        if pipelined:
            client.send("".join(f"{command}\r\n" for command in commands))
        for command in commands:
            code, text = client.getreply() if pipelined else client.docmd(command)
            replies.append(f"{code} {text.decode()}")
        client.send(b"Message-ID: <mixed@outside.example>\r\nX-Ledger: mixed\r\n\r\nto all of you\r\n.\r\n")
        code, text = client.getreply()
        replies.append(f"{code} {text.decode()}")
    return replies


def seen(store: RecordingStore) -> list[str]:
    return sorted(name for arrival in store.arrivals for name, _ in arrival.recipients)


def waiting(site: Site) -> dict[str, str]:
    with site.books() as books:
        return {entry.recipient: entry.state for entry in books.queue()}


@pytest.fixture(scope="module")
def lasting(lasting_site: Callable[..., Site]) -> Site:
    return lasting_site(lists=LISTS)


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("target", ["new", None])
async def test_each_recipient_has_its_reply_and_its_fate(
    pipelined: bool, target: str | None, site: Site, trio: Trio, stores: Stores, until: Until
) -> None:
    old, held, new = trio.alice, trio.bob, trio.carol
    before = len(site.journal())
    assert (await site.hold(held)).quiet
    replies = await asyncio.to_thread(
        dialogue, site.port, (old, held, new, LIST, UNKNOWN, FOREIGN), pipelined=pipelined
    )
    assert [re.match(r"\d{3}( \d\.\d\.\d)?", reply).group() for reply in replies] == [  # type: ignore[union-attr]
        "250 2.1.0",
        "250 2.1.5",
        "250 2.1.5",
        "250 2.1.5",
        "250 2.1.5",
        "550 5.1.1",
        "554 5.7.1",
        "354",
        "250 2.0.0",
    ]
    assert replies[6] == "554 5.7.1 Relay access denied"
    assert replies[1] == replies[2], "nobody may learn from a reply that mail is held"

    await until(lambda: waiting(site) == {held: "held"}, "the held recipient alone waits")
    assert seen(stores["old"]) == [old]
    assert seen(stores["new"]) == [new]
    assert seen(stores["lists"]) == [LIST]
    site.balance()

    await site.release(held, to=target)
    assert await site.drained(60) == 0
    assert seen(stores["old"]) == ([old] if target else [old, held])
    assert seen(stores["new"]) == ([held, new] if target else [new])
    assert seen(stores["lists"]) == [LIST]
    site.balance()
    rows = [(row.recipient, row.disposition) for row in site.journal()[before:] if row.disposition != "held"]
    assert sorted(rows) == sorted((address, "delivered") for address in (old, held, new, LIST))


async def test_mixed_traffic_while_one_is_held_balances(make_site: MakeSite, stores: Stores, until: Until) -> None:
    began = [0.0]

    def allowed(recipient: str, at: float) -> set[str]:
        homes = {OLD: {"old"}, NEW: {"new"}, LIST: {"lists"}}
        return homes.get(recipient, {"new"} if began[0] and at >= began[0] else set())

    ledger = Ledger(allowed=allowed)
    async with make_site(lists=LISTS, workers=2) as site:
        assert (await site.hold(HELD)).quiet
        opened = time.monotonic()
        plan = Plan(["s@outside.example", ""], EVERYBODY, recipients_per_message=(6, 6, 3, 2), run="mixed")
        load = Load("127.0.0.1", site.port, plan)
        submissions = await load.run(60)
        ledger.submitted(submissions)
        for submission in submissions:
            for recipient, fate in zip(submission.recipients, submission.fates, strict=True):
                refused = recipient in {UNKNOWN, FOREIGN}
                assert fate in ({Fate.REFUSED} if refused else {Fate.ACKNOWLEDGED, Fate.NOT_SENT}), submission
        await until(lambda: set(waiting(site).items()) == {(HELD, "held")}, "the held recipient alone waits")

        began[0] = time.monotonic()
        ledger.window(HELD, opened, began[0])
        await site.release(HELD, to="new")
        assert await site.drained(60) == 0
        site.balance()
        for store in stores.values():
            ledger.arrived(store.arrivals)
        site.tell(ledger)
    verdict = ledger.check()
    assert verdict.ok, verdict.report()
    assert verdict.balance.delivered == verdict.balance.accepted > 100
