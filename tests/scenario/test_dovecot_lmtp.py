"""Dovecot's LMTP as old and new store: per-recipient replies, and the octets that come out by IMAP and on disk."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dovecot import Dovecot
from support.site import Site, StoreAt

from router.ledger.arrival import split_trace
from router.ledger.connection import Connection
from router.ledger.load import stuffed
from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Send = Callable[..., Any]
HEAD = b"Message-ID: <octets@outside.example>\r\nSubject: octets\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
BODIES = {
    "dots": b".\r\n..\r\n.a line\r\n \r\n.",
    "eight-bit": bytes(range(0x80, 0x100)) + "Grüße\r\n".encode(),
    "long-line": b"x" * 200_000 + b"\r\n",
    "no-body": b"",
    "large": b"All of this is one message, and it is kept in a file of its own.\r\n" * 30_000,
}


@pytest.fixture
def old() -> Iterator[Dovecot]:
    people = ["alice@example.edu", "bob@example.edu", "late@example.edu"]
    with Dovecot("old", users=people, quotas={"full@example.edu": 60}) as dovecot:
        yield dovecot


@pytest.fixture
def new() -> Iterator[Dovecot]:
    with Dovecot("new") as dovecot:
        yield dovecot


@pytest.fixture
def site(tmp_path: Path, old: Dovecot, new: Dovecot, stores: dict[str, RecordingStore]) -> Site:
    names = ("alice", "bob", "late", "full", "gone")
    users = {f"{name}@example.edu": "old" for name in names} | {"carol@example.edu": "new"}
    at = [
        StoreAt("old", old.lmtp_port, "old", "lmtp"),
        StoreAt("new", new.lmtp_port, "new", "lmtp"),
        StoreAt("out", stores["lists"].port, "other"),
    ]
    return Site(tmp_path, at, users=users, smarthost="out")


async def offer(site: Site, content: bytes, *recipients: str) -> int:
    """The reply to the dot."""
    connection = await Connection.open("127.0.0.1", site.port, "client.outside.example")
    try:
        for command in ("MAIL FROM:<sender@outside.example>", *(f"RCPT TO:<{to}>" for to in recipients), "DATA"):
            await connection.write(f"{command}\r\n".encode())
            code, text = await connection.reply()
            assert code in {250, 354}, text
        await connection.write(stuffed(content))
        return (await connection.reply())[0]
    finally:
        await connection.close()


def below(content: bytes) -> bytes:
    """What is below the relay's trace field; it must be there."""
    trace, rest = split_trace(content)
    assert trace
    return rest


@pytest.mark.parametrize("name", BODIES)
async def test_octets_are_the_same_over_imap_and_in_the_maildir(
    name: str, site: Site, old: Dovecot, new: Dovecot
) -> None:
    content = HEAD + BODIES[name]
    # A message always ends with a line; the relay has no part in that.
    expected = content if content.endswith(b"\r\n") else content + b"\r\n"
    async with site:
        assert await offer(site, content, "alice@example.edu", "Bob+folder@example.edu", "carol@example.edu") == 250
        assert await site.drained() == 0
        for store, address in ((old, "alice@example.edu"), (old, "bob@example.edu"), (new, "carol@example.edu")):
            [letter] = store.letters(address)
            assert below(letter.relayed) == expected
            assert await asyncio.to_thread(store.fetch, address) == [letter.content]
        assert old.files("carol@example.edu") == new.files("alice@example.edu") == []
        site.balance()


async def test_each_recipient_has_its_own_lmtp_reply(
    site: Site, old: Dovecot, stores: dict[str, RecordingStore], send: Send
) -> None:
    await asyncio.to_thread(old.jam, "late@example.edu", jammed=True)
    everybody = [f"{name}@example.edu" for name in ("alice", "late", "full", "gone")]
    async with site:
        assert await send(site, *everybody) == {}
        await stores["lists"].arrived(1, timeout=60)
        with site.books() as books:
            [waiting] = [entry for entry in books.queue() if entry.sender]
        assert (waiting.recipient, waiting.state) == ("late@example.edu", "queued")
        assert waiting.reason.startswith("451 4.2.0")
        await asyncio.to_thread(old.jam, "late@example.edu", jammed=False)
        assert await site.drained() == 0

        said = {row.recipient: row for row in site.journal() if row.sender}
        assert {name: said[name].disposition for name in everybody} == {
            "alice@example.edu": "delivered",
            "late@example.edu": "delivered",
            "full@example.edu": "returned",
            "gone@example.edu": "returned",
        }
        assert "Saved" in said["alice@example.edu"].reply
        assert said["full@example.edu"].reply.startswith("552 5.2.2")
        assert said["gone@example.edu"].reply.startswith("550 5.1.1")
        for address in ("alice@example.edu", "late@example.edu"):
            assert len(old.letters(address)) == 1
        # One notice for both refusals, since they came at the same time.
        [notice] = stores["lists"].arrivals
        assert (notice.sender, notice.recipients) == ("", (("sender@outside.example", 250),))
        site.balance()


async def test_held_mail_goes_to_the_new_dovecot_and_nothing_to_the_old(
    site: Site, old: Dovecot, new: Dovecot, send: Send
) -> None:
    async with site:
        await send(site, "alice@example.edu", tag="before")
        assert await site.drained() == 0
        assert (await site.hold("alice@example.edu")).quiet
        for number in range(5):
            await send(site, "alice@example.edu", "bob@example.edu", tag=f"during-{number}")
        before = old.files("alice@example.edu")
        await asyncio.to_thread(old.copy, "alice@example.edu", new)
        assert len(before) == 1
        await site.release("alice@example.edu", to="new")
        assert await site.drained() == 0

        assert old.files("alice@example.edu") == before
        assert len(old.letters("bob@example.edu")) == 5
        mail = await asyncio.to_thread(new.fetch, "alice@example.edu")
        tags = [letter.arrival("new", "").tag for letter in new.letters("alice@example.edu")]
        assert sorted(tags) == ["before", *(f"during-{number}" for number in range(5))]
        assert len(mail) == 6
        site.balance()
