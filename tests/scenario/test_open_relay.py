"""
Nothing is relayed for strangers (promise 8), over real sockets, for every spelling of a recipient and of a sender that
ever fooled a relay: each is refused for good, or goes to a store of ours as a literal local part at a domain of ours.

`alice` lives at a domain that refuses who is unknown; whatever is at `any.example.edu` goes to a store, so that there
the address after RCPT can be read off. What left the site would be seen at the smarthost.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.site import Site

from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Stores = dict[str, RecordingStore]
MakeSite = Callable[..., Site]
Until = Callable[..., Awaitable[None]]

DENIED, SYNTAX, UNKNOWN, UTF8, BAD_LINE = "554 5.7.1", "501 5.1.3", "550 5.1.1", "553 5.6.7", "500 5.5.2"
TAKEN = "250 2.1.5"
DOMAINS = {"example.edu": {"unknown": "reject"}, "any.example.edu": {"unknown": "store: old"}}
SENDERS = (
    b"<>",
    b"<somebody@outside.example>",
    b"<alice@example.edu>",
    b"<antispam@mx.example.edu>",
    b"<antispam@[127.0.0.1]>",
    b"<postmaster@example.edu>",
)

REFUSED = [
    # What a stranger asks for plainly, and with our names and addresses around it.
    (b"<evil@outside.example>", DENIED),
    (b"<EVIL@OUTSIDE.EXAMPLE>", DENIED),
    (b"<evil@mx.example.edu>", DENIED),
    (b"<evil@[127.0.0.1]>", DENIED),
    (b"<evil@[IPv6:::1]>", DENIED),
    (b"<evil%outside.example@[127.0.0.1]>", DENIED),
    (b"<evil%outside.example@mx.example.edu>", DENIED),
    (b"<outside.example!evil@[127.0.0.1]>", DENIED),
    (b"<outside.example!evil@mx.example.edu>", DENIED),
    (b'<"evil@outside.example"@[127.0.0.1]>', DENIED),
    (b'<"evil@outside.example"@mx.example.edu>', DENIED),
    # Addresses without a domain are nobody's but the postmaster's.
    (b'<"evil@outside.example">', SYNTAX),
    (b'<"evil%outside.example">', SYNTAX),
    (b"<evil%outside.example>", SYNTAX),
    (b"<outside.example!evil>", SYNTAX),
    (b"<evil>", SYNTAX),
    # Two domains.
    (b"<evil@outside.example@[127.0.0.1]>", SYNTAX),
    (b"<evil@outside.example@example.edu>", SYNTAX),
    (b"<evil@outside.example@any.example.edu>", SYNTAX),
    (b"<alice@example.edu@outside.example>", SYNTAX),
    # The route in front of a path says nothing: its mailbox counts.
    (b"<@[127.0.0.1]:evil@outside.example>", SYNTAX),
    (b"<@example.edu:evil@outside.example>", DENIED),
    (b"<@example.edu,@any.example.edu:evil@outside.example>", DENIED),
    # Names that look like ours.
    (b"<alice@sub.example.edu>", DENIED),
    (b"<alice@notexample.edu>", DENIED),
    (b"<alice@example.edu.outside.example>", DENIED),
    (b"<alice@example>", DENIED),
    (b"<alice@edu>", DENIED),
    (b"<alice@example.edu.>", SYNTAX),
    (b"<evil@outside.example.>", SYNTAX),
    (b"<alice@.example.edu>", SYNTAX),
    (b"<alice@example..edu>", SYNTAX),
    (b"<alice@xn--xample-2of.edu>", DENIED),
    ("<alice@\u0435xample.edu>".encode(), UTF8),
    ("<alice@example\u3002edu>".encode(), UTF8),
    (b"<alice@example\xffedu>", UTF8),
    (b"<evil@outside.example\0@example.edu>", BAD_LINE),
    (b"<evil@outside.example\n@example.edu>", BAD_LINE),
    (b"<evil@outside.example\r@example.edu>", BAD_LINE),
    (b"<evil@outside.example,alice@example.edu>", SYNTAX),
    (b"<evil@outside.example> <alice@example.edu>", "501 5.5.4"),
    (b"<alice@example.edu> ORCPT=rfc822;evil@outside.example FOO=bar", "555 5.5.4"),
    # Where everybody unknown is refused, what is quoted and routed is unknown.
    (b'<"evil@outside.example"@example.edu>', UNKNOWN),
    (b"<evil%outside.example@example.edu>", UNKNOWN),
    (b"<outside.example!evil@example.edu>", UNKNOWN),
    (b"<alice%outside.example@example.edu>", UNKNOWN),
]

LITERAL = [
    (b'<"evil@outside.example"@any.example.edu>', '"evil@outside.example"@any.example.edu'),
    (b"<evil%outside.example@any.example.edu>", "evil%outside.example@any.example.edu"),
    (b"<outside.example!evil@any.example.edu>", "outside.example!evil@any.example.edu"),
    (b'<"@outside.example:evil"@any.example.edu>', '"@outside.example:evil"@any.example.edu'),
    (b"<@outside.example:alice@example.edu>", "alice@example.edu"),
    (b"<@outside.example,@mx.example.edu:ALICE@EXAMPLE.EDU>", "ALICE@EXAMPLE.EDU"),
    (b'<"alice"@example.edu>', '"alice"@example.edu'),
]


@dataclass(frozen=True, slots=True)
class Client:
    """Says exactly what it is told to, one command at a time."""

    connection: socket.socket

    def ask(self, command: bytes) -> str:
        self.connection.sendall(command + b"\r\n")
        return self.listen()

    def listen(self) -> str:
        said = b""
        while not said.endswith(b"\r\n") or said.splitlines()[-1][3:4] == b"-":
            block = self.connection.recv(4096)
            assert block, f"the relay hung up after {said!r}"
            said += block
        return said.decode("ascii").splitlines()[-1]


def dialogue(port: int, sender: bytes, recipients: list[bytes], *, data: bool, source: str = "127.0.0.1") -> list[str]:
    """Code and enhanced code for each RCPT, and for the dot when there is one. A connection takes some errors only."""
    said: list[str] = []
    for at in range(0, len(recipients), 15):
        with socket.create_connection(("127.0.0.1", port), 20, source_address=(source, 0)) as connection:
            client = Client(connection)
            client.listen()
            client.ask(b"EHLO outside.example")
            assert client.ask(b"MAIL FROM:" + sender).startswith("250")
            said += [client.ask(b"RCPT TO:" + one)[:9] for one in recipients[at : at + 15]]
            if data:
                assert client.ask(b"DATA").startswith("354")
                said.append(client.ask(b"Subject: relay test\r\n\r\nhello\r\n.")[:9])
    return said


def at_stores(stores: Stores) -> dict[str, list[str]]:
    return {name: sorted(who for one in store.arrivals for who, _ in one.recipients) for name, store in stores.items()}


async def test_inv_69_no_spelling_of_a_recipient_leads_out(make_site: MakeSite, stores: Stores) -> None:
    paths = [path for path, _ in REFUSED]
    async with make_site(domains=DOMAINS) as site:
        for sender in SENDERS:
            said = await asyncio.to_thread(dialogue, site.port, sender, paths, data=False)
            assert list(zip(paths, said, strict=True)) == REFUSED, sender
        taken = [path for path, _ in LITERAL]
        said = await asyncio.to_thread(dialogue, site.port, b"<>", taken, data=True)
        assert said == [TAKEN] * len(taken) + ["250 2.0.0"]
        assert await site.drained(60) == 0
        assert at_stores(stores) == {"old": sorted(wire for _, wire in LITERAL), "new": [], "lists": []}


TRUSTED = "127.0.0.2"
FOREIGN = [b"<evil@outside.example>", b"<evil@[127.0.0.1]>", b"<alice@sub.example.edu>"]


async def test_inv_70_no_state_of_ours_opens_the_relay(make_site: MakeSite, stores: Stores, until: Until) -> None:
    """Unreadable, emptied, and read again: strangers hear no 250, and a trusted host none that leads out by guess."""
    async with make_site(domains=DOMAINS, settings={"trusted_networks": [f"{TRUSTED}/32"]}) as site:
        database = site.state_dir / "control.db"
        for harm in (unreadable, emptied):
            sound = database.read_bytes()
            await asyncio.to_thread(site.leave_disk)
            harm(database)
            await until(lambda: "control-down" in site.relay.log.read_text(), "the outage is noticed")
            said = await asyncio.to_thread(dialogue, site.port, b"<>", FOREIGN, data=False)
            assert all(code[:3] in {"554", "451"} for code in said), (harm.__name__, said)
            said = await asyncio.to_thread(dialogue, site.port, b"<>", [b"<nobody@example.edu>"], data=False)
            assert [code[0] for code in said] == ["4"], harm.__name__
            database.write_bytes(sound)
        assert at_stores(stores) == {"old": [], "new": [], "lists": []}


def unreadable(database: Path) -> None:
    database.write_bytes(b"this is no database" * 1000)


def emptied(database: Path) -> None:
    database.write_bytes(b"")
