"""
The running relay at the moments that matter in a move: a hold between RCPT and the final dot, a mailbox held under all
its names, one message of which one store took its part and the other did not, and the same after a kill.
"""

import asyncio
import smtplib
from collections.abc import Awaitable, Callable

import pytest
from support.site import Site

from router.ledger.behaviour import Behaviour, Stage
from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Stores = dict[str, RecordingStore]
MakeSite = Callable[..., Site]
Until = Callable[..., Awaitable[None]]

ALICE, BOB, CAROL = "alice@example.edu", "bob@example.edu", "carol@example.edu"
DOMAINS = {
    "example.edu": {"unknown": "reject"},
    "also.example.edu": {"alias_of": "example.edu"},
    "m\u00fcnchen.example": {"alias_of": "example.edu"},
}
SPELLINGS = (
    "bob@example.edu",
    "BOB@EXAMPLE.EDU",
    "Bob+folder@Example.edu",
    "b.ob@example.edu",
    "bob@also.example.edu",
    "B.OB+x@ALSO.example.edu",
    "bob@xn--mnchen-3ya.example",
)
BODY = b"Message-ID: <one@outside.example>\r\nSubject: one\r\n\r\nhello\r\n"


def open_transaction(port: int, *recipients: str) -> smtplib.SMTP:
    """A connection with an accepted envelope, before DATA."""
    client = smtplib.SMTP("127.0.0.1", port, timeout=60)
    client.ehlo("client.example")
    assert client.docmd("MAIL FROM:<sender@outside.example>")[0] == 250
    assert {client.docmd(f"RCPT TO:<{recipient}>")[0] for recipient in recipients} == {250}
    return client


def finish(client: smtplib.SMTP) -> int:
    try:
        return client.data(BODY)[0]
    finally:
        client.close()


def states(site: Site) -> list[tuple[str, str]]:
    with site.books() as books:
        return sorted((entry.recipient, entry.state) for entry in books.queue())


def seen(store: RecordingStore) -> list[str]:
    return sorted(name for arrival in store.arrivals for name, _ in arrival.recipients)


async def test_inv_21_27_a_hold_counts_at_the_dot_and_for_every_name(
    make_site: MakeSite, stores: Stores, until: Until
) -> None:
    async with make_site(domains=DOMAINS) as site:
        await asyncio.to_thread(site.import_users, {BOB: "old b.ob@example.edu"})
        client = await asyncio.to_thread(open_transaction, site.port, BOB, ALICE)
        assert (await site.hold(BOB)).quiet
        assert await asyncio.to_thread(finish, client) == 250
        await until(lambda: states(site) == [(BOB, "held")], "the other recipient has its mail")
        again = await asyncio.to_thread(open_transaction, site.port, *SPELLINGS)
        assert await asyncio.to_thread(finish, again) == 250
        await until(lambda: len(states(site)) == 1 + len(SPELLINGS), "every spelling is in the queue")
        assert {state for _, state in states(site)} == {"held"}
        assert seen(stores["old"]) == [ALICE]
        assert (await site.release(BOB, to="new")).released
        assert await site.drained(60) == 0
        assert seen(stores["old"]) == [ALICE]
        assert len(seen(stores["new"])) == 1 + len(SPELLINGS)
        site.balance()


async def test_inv_30_what_one_store_has_taken_is_not_sent_there_again(
    make_site: MakeSite, stores: Stores, until: Until
) -> None:
    stores["new"].behaviour = Behaviour(replies={Stage.DOT: "451 4.3.0 not now"})
    async with make_site() as site:
        client = await asyncio.to_thread(open_transaction, site.port, ALICE, CAROL)
        assert await asyncio.to_thread(finish, client) == 250
        await stores["old"].arrived(1, timeout=60)
        await until(lambda: states(site) == [(CAROL, "queued")], "what the old store took is on disk")
        await asyncio.to_thread(site.kill)
        stores["new"].behaviour = Behaviour()
        refused = len(stores["new"].arrivals)
        await asyncio.to_thread(site.start)
        await stores["new"].arrived(refused + 1, timeout=60)
        assert await site.drained(60) == 0
        assert seen(stores["old"]) == [ALICE]
        assert {body.recipients for body in stores["new"].arrivals[refused:]} == {((CAROL, 250),)}
        rows = [(row.recipient, row.disposition) for row in site.journal() if row.disposition != "deferred"]
        assert sorted(rows) == [(ALICE, "delivered"), (CAROL, "delivered")]
        site.balance()
