"""
Loops through the running relay (promise 8): a message goes to a store at most once for a mailbox, and is parked when
it comes back to go there again; mail that lists and users of the stores send through us is no loop.

The stores speak from 127.0.0.2, which is trusted; what they send back is what they got, octet for octet.
"""

import asyncio
import smtplib
from collections.abc import Awaitable, Callable
from itertools import product

import pytest
from support.site import Site
from support.trio import Trio

from router.control.alarms import open_alarms
from router.ledger.arrival import Arrival
from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Stores = dict[str, RecordingStore]
Until = Callable[..., Awaitable[None]]

TRUSTED = "127.0.0.2"
LIST = "announce@example.edu"
CONTENT = b"Message-ID: <l1@outside.example>\r\nX-Ledger: l1\r\nSubject: round and round\r\n\r\nhello\r\n"
HOP = b"Received: by hop.example; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
RELAYED_BY_STORE = b"Received: from mx.example.edu by old.example.edu; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
SETTINGS = {"trusted_networks": [f"{TRUSTED}/32"]}
LISTS = [{"store": "lists", "manager": "majordomo", "addresses": [LIST]}]


def submit(port: int, content: bytes, recipients: tuple[str, ...], sender: str, source: str) -> list[tuple[int, bytes]]:
    """The replies to MAIL, each RCPT, and the dot."""
    with smtplib.SMTP("127.0.0.1", port, timeout=60, source_address=(source, 0)) as client:
        client.ehlo("loops.example")
        replies = [client.docmd(f"MAIL FROM:<{sender}>")]
        replies += [client.docmd(f"RCPT TO:<{recipient}>") for recipient in recipients]
        return [*replies, client.data(content)]


async def offer(
    site: Site, content: bytes, *recipients: str, sender: str = "sender@outside.example", source: str = "127.0.0.1"
) -> None:
    replies = await asyncio.to_thread(submit, site.port, content, recipients, sender, source)
    assert {code for code, _ in replies} == {250}, replies


async def send_back(site: Site, arrival: Arrival, *recipients: str, sender: str = "", on_top: bytes = b"") -> None:
    """A store sends what it got once more."""
    assert arrival.body is not None
    await offer(site, on_top + arrival.body, *recipients, sender=sender or arrival.sender, source=TRUSTED)


async def first(store: RecordingStore, count: int = 1) -> Arrival:
    await store.arrived(count, timeout=60)
    return store.arrivals[count - 1]


def seen(store: RecordingStore) -> list[str]:
    return sorted(name for arrival in store.arrivals for name, _ in arrival.recipients)


def waiting(site: Site) -> list[tuple[str, str, str]]:
    with site.books() as books:
        return [(entry.recipient, entry.state, entry.reason) for entry in books.queue()]


def parked(site: Site) -> list[str]:
    return [recipient for recipient, state, _ in waiting(site) if state == "parked"]


def alarms(site: Site) -> set[str]:
    return {alarm.kind for alarm in site.office.database.run_read(open_alarms)}


def notices_made(site: Site) -> int:
    with site.books() as books:
        return sum(counts.own.accepted for counts in books.counts())


@pytest.fixture(scope="module")
def lasting(lasting_site: Callable[..., Site]) -> Site:
    return lasting_site(settings=SETTINGS, lists=LISTS)


@pytest.fixture
def stores(stores: Stores) -> Stores:
    for store in stores.values():
        store.keep_bodies = True
    return stores


# --- what is a loop -----------------------------------------------------------------------------------------------


async def test_message_that_its_store_sends_back_is_parked(
    site: Site, trio: Trio, stores: Stores, until: Until
) -> None:
    spelled = [trio.alice, trio.alice.upper(), trio.alice.replace("@", "+folder@")]
    await offer(site, CONTENT, trio.alice)
    arrival = await first(stores["old"])
    for again, on_top in product(spelled, [b"", RELAYED_BY_STORE, HOP * 3]):
        await send_back(site, arrival, again, on_top=on_top)
    await until(lambda: len(parked(site)) == 9, "every message that came back is parked")
    await until(lambda: "loop" in alarms(site), "there is an alarm")
    assert {recipient.lower() for recipient in parked(site)} == {again.lower() for again in spelled}
    assert all("loop" in reason for _, _, reason in waiting(site))
    assert seen(stores["old"]) == [trio.alice]
    assert notices_made(site) == 0
    site.balance()


async def test_loop_is_known_under_each_address_of_the_mailbox_and_after_a_restart(
    site: Site, trio: Trio, stores: Stores, until: Until
) -> None:
    await offer(site, CONTENT, trio.alice)
    arrival = await first(stores["old"])
    assert await site.drained(60) == 0
    await asyncio.to_thread(site.stop)
    await asyncio.to_thread(site.start)
    await send_back(site, arrival, trio.alias)
    await until(lambda: parked(site) == [trio.alias], "the message is parked under the other address")
    assert seen(stores["old"]) == [trio.alice]


async def test_only_the_recipient_in_the_loop_is_parked(site: Site, trio: Trio, stores: Stores, until: Until) -> None:
    await offer(site, CONTENT, trio.alice)
    await send_back(site, await first(stores["old"]), trio.alice, trio.bob, trio.carol)
    await until(lambda: [entry[:2] for entry in waiting(site)] == [(trio.alice, "parked")], "the others have theirs")
    assert seen(stores["old"]) == [trio.alice, trio.bob]
    assert seen(stores["new"]) == [trio.carol]


async def test_list_that_posts_to_itself_is_parked(site: Site, trio: Trio, stores: Stores, until: Until) -> None:
    await offer(site, CONTENT, LIST)
    await send_back(site, await first(stores["lists"]), LIST)
    await until(lambda: parked(site) == [LIST], "the post that came back is parked")
    assert seen(stores["lists"]) == [LIST]


# --- what is none -------------------------------------------------------------------------------------------------


async def test_list_host_that_sends_a_post_to_the_members(site: Site, trio: Trio, stores: Stores) -> None:
    await offer(site, CONTENT, LIST)
    post = await first(stores["lists"])
    await send_back(site, post, trio.alice, trio.bob, trio.carol, sender="owner-announce@example.edu")
    assert await site.drained(60) == 0
    assert seen(stores["old"]) == [trio.alice, trio.bob]
    assert seen(stores["new"]) == [trio.carol]
    assert parked(site) == []


async def test_member_gets_a_message_directly_and_once_more_by_the_list(site: Site, trio: Trio, stores: Stores) -> None:
    await offer(site, CONTENT, LIST, trio.alice)
    await send_back(site, await first(stores["lists"]), trio.alice, sender="owner-announce@example.edu")
    assert await site.drained(60) == 0
    assert seen(stores["old"]) == [trio.alice, trio.alice]


async def test_users_of_a_store_write_to_each_other_and_outside_through_us(
    site: Site, trio: Trio, stores: Stores
) -> None:
    await offer(site, CONTENT, trio.alice)
    got = await first(stores["old"])
    assert got.body is not None
    forwarded = b"Message-ID: <l2@example.edu>\r\nSubject: Fwd\r\nContent-Type: message/rfc822\r\n\r\n" + got.body
    reply = b"Message-ID: <l3@example.edu>\r\nIn-Reply-To: <l1@outside.example>\r\nSubject: Re\r\n\r\nthanks\r\n"
    await offer(site, forwarded, trio.bob, trio.alice, sender=trio.alice, source=TRUSTED)
    await offer(site, reply, "sender@outside.example", trio.bob, sender=trio.alice, source=TRUSTED)
    assert await site.drained(60) == 0
    assert seen(stores["old"]) == [trio.alice, trio.alice, trio.bob, trio.bob]
    assert seen(stores["lists"]) == ["sender@outside.example"]
    assert parked(site) == []
    assert notices_made(site) == 0


async def test_forward_of_one_user_to_another_at_the_same_store(site: Site, trio: Trio, stores: Stores) -> None:
    await offer(site, CONTENT, trio.alice)
    await send_back(site, await first(stores["old"]), trio.bob)
    assert await site.drained(60) == 0
    assert seen(stores["old"]) == [trio.alice, trio.bob]


async def test_old_store_that_sends_on_what_it_has_after_the_move(
    site: Site, trio: Trio, stores: Stores, until: Until
) -> None:
    await offer(site, CONTENT, trio.alice)
    left_behind = await first(stores["old"])
    assert (await site.move(trio.alice, "new")).release is not None
    await send_back(site, left_behind, trio.alice)
    arrived = await first(stores["new"])
    assert await site.drained(60) == 0
    assert seen(stores["old"]) == seen(stores["new"]) == [trio.alice]
    # And from there it may not come back a second time.
    await send_back(site, arrived, trio.alice)
    await until(lambda: parked(site) == [trio.alice], "the message is parked")
    assert seen(stores["new"]) == [trio.alice]


# --- and what nobody can forge or count wrong ---------------------------------------------------------------------


async def test_mark_of_another_message_or_a_forged_one_parks_nothing(site: Site, trio: Trio, stores: Stores) -> None:
    await offer(site, CONTENT, trio.alice)
    arrival = await first(stores["old"])
    trace = arrival.trace.encode() + b"\r\n"
    forged = trace.replace(b"(mark ", b"(mark A").replace(b"id ", b"id X")
    await offer(site, forged + CONTENT, trio.alice)
    await offer(site, trace + CONTENT, trio.bob)
    assert await site.drained(60) == 0
    assert seen(stores["old"]) == [trio.alice, trio.alice, trio.bob]
    assert parked(site) == []


@pytest.mark.parametrize("source", ["127.0.0.1", TRUSTED])
async def test_too_many_hops_are_refused_at_the_dot(source: str, site: Site, trio: Trio, stores: Stores) -> None:
    many = HOP * 51 + CONTENT
    replies = await asyncio.to_thread(submit, site.port, many, (trio.alice,), "s@outside.example", source)
    assert [code for code, _ in replies] == [250, 250, 554]
    assert replies[-1][1] == b"5.4.6 Too many hops"
    # Fifty are not too many, and those of an enclosed message do not count.
    await offer(site, HOP * 50 + CONTENT, trio.alice, source=source)
    await offer(site, CONTENT + b"\r\n" + HOP * 60, trio.alice, source=source)
    assert await site.drained(60) == 0
    assert seen(stores["old"]) == [trio.alice, trio.alice]
    assert sum(row.recipient == trio.alice for row in site.journal()) == 2
