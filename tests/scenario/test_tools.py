"""
Clients and stores that are not of our making: swaks and smtp-source against the relay, and Postfix's smtp-sink as a
store in its fault modes, after which it recovers. Whatever it did, its mail is there once, or came back with a notice.
"""

import asyncio
import email
import os
import re
import signal
import socket
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
import trustme
from support.site import Site, StoreAt
from support.trio import Trio

from router.control.alarms import open_alarms
from router.demo.config import Port
from router.ledger.arrival import Arrival
from router.ledger.stores import RecordingStore
from router.spool.finding import QueueEntry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Stores = dict[str, RecordingStore]
MakeSite = Callable[..., Site]
Until = Callable[..., Awaitable[None]]
RELAY = "127.0.0.2"
"""The address of a host in front of us, in `relays`; all others are strangers."""
SINK = "/usr/sbin/smtp-sink"
SOURCE = "/usr/sbin/smtp-source"
DOMAINS = {"example.edu": {"unknown": "reject"}, "bulk.example.edu": {"unknown": "store", "store": "old"}}


async def run(*command: str, cwd: Path | None = None) -> tuple[int, str]:
    """Exit code and everything that it printed."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        cwd=cwd,
    )  # fmt: skip
    async with asyncio.timeout(90):
        printed, _ = await process.communicate()
    return process.returncode or 0, printed.decode("utf-8", "replace")


# --- swaks --------------------------------------------------------------------------------------------------------


async def swaks(port: int, *options: str, to: str = "alice@example.edu", server: str = "127.0.0.1") -> tuple[int, str]:
    fixed = ["--from", "swaks@outside.example", "--helo", "swaks.example", "--timeout", "30", "--to", to]
    return await run("swaks", "--server", server, "--port", str(port), *fixed, *options)


async def only(store: RecordingStore) -> Arrival:
    await store.arrived(1, timeout=60)
    [arrival] = store.arrivals
    return arrival


@pytest.fixture
def port_of_its_own() -> Iterator[int]:
    port = Port()
    yield port.number
    port.release()


@pytest.fixture(scope="module")
def lasting(lasting_site: Callable[..., Site]) -> Site:
    networks = {"relays": [f"{RELAY}/32"], "trusted_networks": ["192.0.2.10/32"]}
    return lasting_site(settings=networks, domains=DOMAINS)


@pytest.fixture(scope="module")
def proxied(lasting_site: Callable[..., Site]) -> Iterator[int]:
    """The port of a relay for those who speak for other clients."""
    port = Port()
    listener = {"address": "0.0.0.0", "port": port.number, "proxy_protocol": True}
    lasting_site(settings={"listen": [listener], "relays": [f"{RELAY}/32"]})
    yield port.number
    port.release()


@pytest.mark.parametrize("options", [(), ("--pipeline",), ("--protocol", "SMTP"), ("--attach", "@/etc/hostname")])
async def test_swaks_hands_over_a_message(options: tuple[str, ...], site: Site, trio: Trio, stores: Stores) -> None:
    code, printed = await swaks(site.port, *options, to=trio.alice)
    assert code == 0, printed
    arrival = await only(stores["old"])
    assert arrival.sender == "swaks@outside.example"
    assert arrival.recipients == ((trio.alice, 250),)
    assert "(unknown [127.0.0.1])" in arrival.trace
    assert f"with {'SMTP' if 'SMTP' in options else 'ESMTP'} id" in arrival.trace
    assert await site.drained(60) == 0
    site.balance()


async def test_swaks_is_told_who_is_unknown_and_that_we_do_not_relay(site: Site) -> None:
    code, printed = await swaks(site.port, to="nobody@example.edu")
    assert code == 24, printed
    assert "<** 550 5.1.1 " in printed
    code, printed = await swaks(site.port, to="somebody@elsewhere.example")
    assert code == 24, printed
    assert "<** 554 5.7.1 Relay access denied" in printed


async def test_swaks_over_starttls(make_site: MakeSite, stores: Stores, port_of_its_own: int, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("mx.example.edu", "127.0.0.1")
    certificate, key, root = tmp_path / "mx.pem", tmp_path / "mx.key", tmp_path / "root.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(root)
    tls = {"certificate": str(certificate), "key": str(key)}
    listener = {"address": "127.0.0.1", "port": port_of_its_own, "tls": tls, "require_tls": True}
    async with make_site(settings={"listen": [listener]}):
        code, printed = await swaks(port_of_its_own)
        assert code != 0
        assert "530 5.7.0 Must issue a STARTTLS command first" in printed
        code, printed = await swaks(port_of_its_own, "--tls", "--tls-verify", "--tls-ca-path", str(root))
        assert code == 0, printed
        assert "with ESMTPS id" in (await only(stores["old"])).trace


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize(("family", "source"), [("4", "192.0.2.77"), ("6", "2001:db8::77")])
async def test_swaks_behind_a_proxy(
    version: str, family: str, source: str, trio: Trio, stores: Stores, proxied: int
) -> None:
    words = {("1", "4"): "TCP4", ("1", "6"): "TCP6", ("2", "4"): "AF_INET", ("2", "6"): "AF_INET6"}
    options = ["--proxy-version", version, "--proxy-family", words[version, family], "--proxy-source", source]
    options += ["--proxy-source-port", "4321", "--proxy-dest-port", "25"]
    options += ["--proxy-dest", "192.0.2.1" if family == "4" else "2001:db8::1"]
    options += ["--proxy-command", "PROXY", "--proxy-protocol", "STREAM"] if version == "2" else []
    code, printed = await swaks(proxied, *options, to=trio.alice)
    assert code != 0
    assert "550 5.7.0" in printed, "a stranger spoke for another client"
    code, printed = await swaks(proxied, "--local-interface", RELAY, *options, to=trio.alice)
    assert code == 0, printed
    shown = source if family == "4" else f"IPv6:{source}"
    assert f"(unknown [{shown}])" in (await only(stores["old"])).trace


async def test_swaks_with_xclient(site: Site, trio: Trio, stores: Stores) -> None:
    named = ["--xclient-addr", "192.0.2.78", "--xclient-name", "far.example.net", "--xclient-helo", "far-helo.example"]
    code, printed = await swaks(site.port, *named, to=trio.alice)
    assert code != 0, "a stranger spoke for another client"
    assert "Host did not advertise XCLIENT" in printed
    code, printed = await swaks(site.port, "--local-interface", RELAY, *named, to=trio.alice)
    assert code == 0, printed
    assert "(far.example.net [192.0.2.78])" in (await only(stores["old"])).trace


async def test_a_trusted_host_behind_a_relay_may_send_anywhere_and_a_stranger_may_not(
    site: Site, stores: Stores
) -> None:
    for address, expected in (("192.0.2.10", 0), ("192.0.2.11", 24), ("[UNAVAILABLE]", 24)):
        code, printed = await swaks(
            site.port, "--local-interface", RELAY, "--xclient-addr", address, to="x@elsewhere.example"
        )
        assert code == expected, printed
    assert (await only(stores["lists"])).recipients == (("x@elsewhere.example", 250),)


async def test_swaks_over_ipv6(make_site: MakeSite, stores: Stores) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            kept.bind(("::1", 0))
        except OSError as error:
            pytest.skip(f"there is no IPv6 here: {error}")
        port = kept.getsockname()[1]
        async with make_site(settings={"listen": [{"address": "::1", "port": port}]}):
            code, printed = await swaks(port, server="::1")
            assert code == 0, printed
            assert "(unknown [IPv6:::1])" in (await only(stores["old"])).trace


# --- smtp-source --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("-d",), ("-r", "7"), ("-d", "-r", "120", "-l", "100000")])
async def test_smtp_source_has_every_message_delivered_once(
    options: tuple[str, ...], site: Site, stores: Stores
) -> None:
    before = len(site.journal())
    recipients = int(options[options.index("-r") + 1]) if "-r" in options else 1
    count = 12 if recipients > 50 else 60
    command = [SOURCE, "-s", "6", "-m", str(count), "-f", "s@outside.example", "-t", "user@bulk.example.edu", *options]
    code, printed = await run(*command, f"127.0.0.1:{site.port}")
    assert code == 0, printed
    assert await site.drained(60) == 0
    site.balance()
    rows = site.journal()[before:]
    assert Counter(row.disposition for row in rows) == {"delivered": count * recipients}
    copies = Counter((row.queue_id, row.recipient) for row in rows)
    assert set(copies.values()) == {1}
    assert len({row.queue_id for row in rows}) == count
    arrived = Counter(to for arrival in stores["old"].arrivals for to, _ in arrival.recipients)
    assert len(arrived) == recipients
    assert set(arrived.values()) == {count}


# --- smtp-sink ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sick:
    """A store that fails at a step in a way of smtp-sink, and what is to become of its mail meanwhile."""

    name: str
    port: int
    options: tuple[str, ...]
    outcome: str
    """deferred, delivered or returned."""

    @property
    def mailbox(self) -> str:
        return f"{self.name}@example.edu"


class Sinks:
    """smtp-sink processes; each message is dumped into a file of a folder that is the store's own."""

    def __init__(self, folder: Path, until: Until) -> None:
        self.folder = folder
        self._until = until
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._reserved: list[socket.socket] = []

    def port(self) -> int:
        """A free one. All are taken before any is used, so that no two are the same."""
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        self._reserved.append(sock)
        return int(sock.getsockname()[1])

    def release_ports(self) -> None:
        for sock in self._reserved:
            sock.close()
        self._reserved.clear()

    async def start(self, name: str, port: int, *options: str) -> None:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        command = [SINK, *options, "-d", f"{folder}/m.", *user, f"127.0.0.1:{port}", "100"]
        process = await asyncio.create_subprocess_exec(*command, cwd="/")
        self._running[port] = process
        await self._until(lambda: process.returncode is not None or _listens(port), f"smtp-sink {options} listens")
        assert process.returncode is None, f"smtp-sink {options} did not start"

    async def stop(self, port: int) -> None:
        process = self._running.pop(port)
        process.send_signal(signal.SIGKILL)
        await process.wait()

    async def close(self) -> None:
        self.release_ports()
        for port in tuple(self._running):
            await self.stop(port)

    def forget(self, name: str) -> None:
        """What a sick store dumped before it failed never counted."""
        for path in (self.folder / name).iterdir():
            path.unlink()

    def dumped(self, name: str) -> list[str]:
        return [path.read_text("utf-8", "replace") for path in (self.folder / name).iterdir()]


def _listens(port: int) -> bool:
    """Looked up, not tried: a connection of ours would be one that the sick store sees."""
    wanted = f"0100007F:{port:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[1] == wanted and row[3] == "0A" for row in rows)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the unprivileged smtp-sink may write to."""
    with tempfile.TemporaryDirectory(prefix="sinks-") as folder:
        path = Path(folder)
        path.chmod(0o777)
        yield path


@pytest.fixture
async def sinks(open_folder: Path, until: Until) -> AsyncIterator[Sinks]:
    found = Sinks(open_folder, until)
    yield found
    await found.close()


STEPS = {"connect": "CONNECT", "hello": "EHLO,HELO", "mail": "MAIL", "rcpt": "RCPT", "data": "DATA", "dot": "."}
AFTERWARDS = {"rset": "RSET", "quit": "QUIT"}
WORDS = {"-q": "cut", "-Q": "down", "-r": "soft", "-f": "hard"}


def sick_stores(sinks: Sinks) -> list[Sick]:
    """Every fault mode at every step, and the slow ones."""
    found = []
    for mode, (step, command) in product(WORDS, (STEPS | AFTERWARDS).items()):
        returned = mode == "-f" and step in {"mail", "rcpt", "data", "dot"}
        outcome = "delivered" if step in AFTERWARDS else "returned" if returned else "deferred"
        found.append(Sick(f"{WORDS[mode]}-{step}", sinks.port(), (mode, command), outcome))
    for step, command in STEPS.items():
        first = command.partition(",")[0]
        # -p: while it waits, smtp-sink answers what was pipelined behind the command, and answers that first.
        found.append(Sick(f"slow-{step}", sinks.port(), ("-p", "-W", f"{first}:1"), "delivered"))
    return found


def site_with(sick: list[Sick], reports: RecordingStore, directory: Path) -> Site:
    stores = [StoreAt(one.name, one.port) for one in sick]
    users = {one.mailbox: one.name for one in sick}
    return Site(directory, [*stores, StoreAt("reports", reports.port, role="other")], users=users)


def queue(site: Site) -> dict[str, QueueEntry]:
    with site.books() as books:
        return {entry.recipient: entry for entry in books.queue() if not entry.own}


async def test_smtp_sink_in_its_fault_modes_and_then_well(
    sinks: Sinks, tmp_path: Path, send: Callable[..., Awaitable[dict[str, str]]], until: Until
) -> None:
    sick = sick_stores(sinks)
    sinks.release_ports()
    for one in sick:
        await sinks.start(one.name, one.port, *one.options)
    async with RecordingStore("reports", keep_bodies=True) as reports, site_with(sick, reports, tmp_path) as site:
        assert await send(site, *(one.mailbox for one in sick), tag="sick") == {}
        deferred = {one.mailbox for one in sick if one.outcome == "deferred"}
        await until(lambda: queue(site).keys() == deferred, "only the mail for those who fail softly waits")
        await until(lambda: all(entry.attempts for entry in queue(site).values()), "each of them was tried")
        assert {entry.state for entry in queue(site).values()} == {"queued"}
        settled = {row.recipient: row.disposition for row in site.journal() if row.disposition != "deferred"}
        expected = {one.mailbox: one.outcome for one in sick if one.outcome != "deferred"}
        assert {mailbox: settled.get(mailbox) for mailbox in expected} == expected

        for one in sick:
            if one.outcome == "deferred":
                await sinks.stop(one.port)
                sinks.forget(one.name)
                await sinks.start(one.name, one.port)
        assert await site.drained(60) == 0
        site.balance()

        dumped = {one.name: len(sinks.dumped(one.name)) for one in sick if one.outcome != "returned"}
        assert set(dumped.values()) == {1}, dumped
        mailboxes = {one.mailbox for one in sick}
        rows = [row for row in site.journal() if row.disposition != "deferred" and row.recipient in mailboxes]
        assert Counter((row.recipient, row.disposition) for row in rows) == {
            (one.mailbox, "returned" if one.outcome == "returned" else "delivered"): 1 for one in sick
        }
        notices = [email.message_from_bytes(arrival.body or b"") for arrival in reports.arrivals]
        named = Counter(
            match for notice in notices for match in re.findall(r"Final-Recipient: rfc822; (\S+)", notice.as_string())
        )
        assert named == {one.mailbox: 1 for one in sick if one.outcome == "returned"}


async def test_smtp_sink_that_refuses_a_mailbox_just_moved_to_it_has_its_mail_parked(
    sinks: Sinks, tmp_path: Path, send: Callable[..., Awaitable[dict[str, str]]], until: Until
) -> None:
    port = sinks.port()
    sinks.release_ports()
    await sinks.start("new", port, "-f", "RCPT")
    async with RecordingStore("reports") as reports:
        at = [StoreAt("old", reports.port), StoreAt("new", port, role="new")]
        async with Site(tmp_path, at, users={"ann@example.edu": "old"}, smarthost="old") as site:
            assert (await site.hold("ann@example.edu")).quiet
            await site.release("ann@example.edu", to="new")
            await send(site, "ann@example.edu", tag="parked")
            await until(lambda: [entry.state for entry in queue(site).values()] == ["parked"], "the mail is parked")
            await until(
                lambda: "protected-refusal" in {
                    alarm.kind for alarm in site.office.database.run_read(open_alarms)
                },
                "there is an alarm",
            )  # fmt: skip
            site.balance()
        assert reports.arrivals == []
