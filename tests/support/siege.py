"""
A relay under siege: a whole site with limited memory and descriptors, raw clients that say what they like, and the
accounts that must balance after each of them.

    async with Siege(tmp_path, {"old": hop}, users={"ann@example.edu": "old"}) as siege:
        wire = await siege.dial()                               # a stranger; TRUSTED and RELAY are other hosts
        reply = await siege.hand_over(wire, siege.letter("ann@example.edu"))
        await siege.judge()                                     # G1 to G6: drained, booked, no fault, no leak

Client hosts are addresses of loopback, so that one site has strangers, trusted hosts and relays at once.
"""

import asyncio
import re
import resource
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import trustme

from router.ledger.book import Ledger
from router.ledger.load import Fate, Submission, stuffed
from router.ledger.stores import RecordingStore
from router.ledger.traffic import compose
from support.hop import Hop
from support.memory_group import MemoryGroup
from support.site import Site, StoreAt
from support.smtp_site import Wire

STRANGER, TRUSTED, RELAY = "127.0.0.9", "127.0.0.2", "127.0.0.3"
HOSTS = {"trusted_networks": [f"{TRUSTED}/32"], "relays": [f"{RELAY}/32"]}
SPARE = 40
"""Descriptors more than at the start that are no leak; and one connection is kept with each store."""
_FAULTS = re.compile(r"Traceback|CRITICAL|session failed|ended with an error|Task exception|unhandled", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Letter:
    """A message with the tag that the ledger knows it by."""

    tag: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes


class Siege:
    """See the module's text. `memory` in octets, for supervisor and worker together; `files` per worker."""

    def __init__(
        self,
        directory: Path,
        hops: Mapping[str, Hop],
        *,
        users: Mapping[str, str],
        settings: Mapping[str, Any] | None = None,
        keys: Mapping[str, Mapping[str, Any]] | None = None,
        memory: int = 256 << 20,
        files: int = 1024,
    ) -> None:
        self.hops = hops
        self.post = RecordingStore("post", keep_bodies=True)
        self.group = MemoryGroup(memory)
        self.submissions: list[Submission] = []
        self.trust = ssl.create_default_context()
        """A client's context that believes the relay's certificate."""
        self.notices = 0
        """Notices to senders that are expected so far."""
        self._build: Callable[[], Site] = lambda: Site(
            directory,
            [
                *(StoreAt(name, hop.port, keys=(keys or {}).get(name, {})) for name, hop in hops.items()),
                StoreAt("post", self.post.port, "other"),
            ],
            users=users,
            settings={**HOSTS, **(settings or {})},
            fresh=True,  # what it shares with another process would not count as its memory
        )
        self._directory = directory
        self._files = files
        self._stack = AsyncExitStack()
        self._wires: list[Wire] = []
        self._count = 0
        self._read = 0
        self.site: Site
        self.worker = 0
        self.files_at_start = 0

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.post)
        for hop in self.hops.values():
            await hop.start()
            self._stack.push_async_callback(hop.stop)
        self._stack.enter_context(self.group)
        self.site = self._build()
        self._offer_tls(self._directory)
        with self.group.joined():
            await self._stack.enter_async_context(self.site)
        [self.worker] = self.site.worker_pids()
        resource.prlimit(self.worker, resource.RLIMIT_NOFILE, (self._files, self._files))
        self.files_at_start = self.files()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.hang_up()
        await self._stack.aclose()

    def _offer_tls(self, directory: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1", "mx.example.edu")
        issued.private_key_pem.write_to_path(directory / "key.pem")
        issued.cert_chain_pems[0].write_to_path(directory / "mx.pem")
        authority.configure_trust(self.trust)
        tls = {"certificate": str(directory / "mx.pem"), "key": str(directory / "key.pem")}
        self.site.reload({"listen": [{"address": "127.0.0.1", "port": self.site.port, "tls": tls}]})

    # --- clients

    async def dial(self, host: str = STRANGER, *, greeted: bool = True) -> Wire:
        """A connection from an address of loopback."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.site.port, local_addr=(host, 0))
        wire = Wire(reader, writer)
        self._wires.append(wire)
        if greeted:
            assert (await wire.reply()).startswith("220 ")
        return wire

    async def hang_up(self) -> None:
        """Close what clients have left open."""
        wires, self._wires = self._wires, []
        for wire in wires:
            wire.reset()
        await asyncio.sleep(0)

    def letter(self, *recipients: str, size: int = 600, content: bytes = b"", sender: str = "a@out.example") -> Letter:
        """A new message; `content` goes below its header."""
        self._count += 1
        tag = f"siege-{self._count}"
        head = compose(tag, sender, recipients, 0 if content else size)
        return Letter(
            tag, sender, recipients, head.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + content if content else head
        )

    async def envelope(self, wire: Wire, letter: Letter) -> None:
        """From MAIL to 354."""
        commands = [f"MAIL FROM:<{letter.sender}>", *(f"RCPT TO:<{one}>" for one in letter.recipients), "DATA"]
        for command in commands:
            assert (await wire.ask(command))[:3] in {"250", "354"}, command

    async def hand_over(self, wire: Wire, letter: Letter, octets: bytes | None = None) -> str:
        """One message on a connection that has said EHLO; the reply to the dot. `octets` are sent in its place."""
        await self.envelope(wire, letter)
        await wire.send(stuffed(letter.content) if octets is None else octets)
        reply = await wire.reply()
        self.noted(letter, reply)
        return reply

    async def good(self, *recipients: str, host: str = STRANGER, size: int = 600) -> float:
        """An ordinary client with an ordinary message, which must be taken; seconds from connecting to its 250."""
        began = time.monotonic()
        wire = await self.dial(host)
        await wire.hello()
        assert (await self.hand_over(wire, self.letter(*recipients, size=size))).startswith("250 2.0.0")
        took = time.monotonic() - began
        wire.close()
        return took

    def noted(self, letter: Letter, reply: str, became: bytes | None = None) -> None:
        """What the client of a message was told; `became` is what the relay is to make of the content."""
        fate = {"2": Fate.ACKNOWLEDGED, "5": Fate.REFUSED, "4": Fate.DECLINED, "": Fate.UNANSWERED}[reply[:1]]
        content = letter.content if became is None else became
        known = sha256(content).hexdigest(), len(content), time.monotonic(), 0.0, "", int(reply[:3] or 0)
        several = len(letter.recipients)
        self.submissions.append(
            Submission(letter.tag, letter.sender, letter.recipients, (fate,) * several, (250,) * several, *known)
        )

    # --- what it costs

    def files(self) -> int:
        """Descriptors that the worker has open."""
        return len(list(Path(f"/proc/{self.worker}/fd").iterdir()))

    async def settled(self, patience: float = 60.0) -> None:
        """Wait until the worker has let go of its clients' descriptors."""
        end = time.monotonic() + patience
        while self.files() > self.files_at_start + SPARE + len(self.hops):
            assert time.monotonic() < end, f"{self.files()} descriptors, {self.files_at_start} at the start"
            await asyncio.sleep(0.05)

    def figures(self) -> str:
        """For the closing line of a test."""
        return (
            f"{self.group.resident() >> 20} MiB now, {self.group.peak() >> 20} MiB at most, {self.files()} descriptors"
        )

    # --- the accounts

    async def judge(self, patience: float = 60.0, left: Sequence[str] = ()) -> None:
        """Everything that must hold after every case. `left` are recipients whose mail stays where it is."""
        await self.hang_up()
        assert self.site.worker_pids() == [self.worker], self.site.relay.tail()
        assert self.group.killed() == 0
        left_now = await self.site.drained(patience)
        assert left_now == len(left), f"{left_now} are left\n{self.site.relay.tail()}"
        self.site.balance()
        ledger = Ledger()
        ledger.submitted(self.submissions)
        for hop in self.hops.values():
            ledger.arrived(hop.arrivals())
        self.site.tell(ledger)
        verdict = ledger.check()
        assert verdict.ok, verdict.report()
        assert verdict.untagged == 0, "something arrived that nobody has sent"
        assert len(self.post.arrivals) == self.notices
        self.no_fault()
        await self.settled()

    def no_fault(self) -> None:
        """Nothing in the log since the last look that somebody would have to mend (G5)."""
        text = self.site.relay.log.read_text(errors="replace")
        new, self._read = text[self._read :], len(text)
        found = _FAULTS.search(new)
        if found:
            pytest.fail(new[max(0, found.start() - 500) : found.end() + 3000])
