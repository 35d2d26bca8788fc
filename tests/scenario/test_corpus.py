"""
What comes in goes out byte for byte (promise 7): every message of the collections, and a sample of pathological ones
made here, through the running relay; at the store it is the same octets below one Received field of ours.

Nothing is refused for its length, its lines or its bytes but a bare CR or LF: from a stranger 550 5.5.2; from a trusted
host each becomes a line break, and the rest stays as it was. Strangers speak from 127.0.0.1, the trusted host from
127.0.0.2. Only files that are no messages but words about the collections are left out, by name.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest
from support.site import Site

from router.ledger.arrival import Arrival
from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Stores = dict[str, RecordingStore]
MakeSite = Callable[..., Site]

NO_MESSAGES = {"SOURCE.txt", "LICENSE", "MIT-LICENSE", "COPYING"}
"""Where a collection is from and under which licence: not part of it."""
CONNECTIONS = 6
PATIENCE = 90.0
STRANGER, TRUSTED = "127.0.0.1", "127.0.0.2"
REFUSED = "550 5.5.2 The message contains a bare CR or LF"
BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
ANY_BREAK = re.compile(rb"\r\n|\r|\n")
OURS = re.compile(
    rb"Received: from corpus\.example \(unknown \[127\.0\.0\.[12]\]\)\r\n"
    rb"\tby mx\.example\.edu \(Sluice\) with ESMTP id \w[\w.-]*\r\n"
    rb"\t\(mark [\w -]+\)\r\n"
    rb"\tfor <alice@example\.edu>; \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000\r\n"
)
SETTINGS = {"trusted_networks": [f"{TRUSTED}/32"], "limits": {"errors": 100_000}}


# --- what is sent -------------------------------------------------------------------------------------------------


def read_corpora(root: Path) -> dict[str, bytes]:
    """Each message by its path, with the line ends of the network."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name not in NO_MESSAGES)
    return {str(path.relative_to(root)): to_crlf(path.read_bytes()) for path in files}


def to_crlf(content: bytes) -> bytes:
    return re.sub(rb"(?<!\r)\n", b"\r\n", content)


def pathological() -> dict[str, bytes]:
    """What real collections may not have, made here so that a plain clone has it too."""
    head = b"From: a@outside.example\r\nSubject: odd\r\n"
    every = bytes(octet for octet in range(256) if octet not in b"\r\n")
    return {
        "empty": b"",
        "one line break": b"\r\n",
        "no header": b"\r\nonly a body\r\n",
        "no header, no blank line": b"just words, and no colon\r\nmore of them\r\n",
        "header only": head,
        "header only, its blank line": head + b"\r\n",
        "no final line break": head + b"\r\nthe end",
        "begins with a blank": b" a line that looks like a continuation\r\n" + head + b"\r\nx\r\n",
        "From line": b"From someone@outside.example Mon Jan  1 00:00:00 2024\r\n" + head + b"\r\nx\r\n",
        "quoted From line": b">From someone@outside.example Mon Jan  1 00:00:00 2024\r\n" + head + b"\r\nx\r\n",
        "line of 48 KB": head + b"\r\n" + b"x" * 48_000 + b"\r\n",
        "line of 1 MB": head + b"\r\n" + b"y" * 1_000_000 + b"\r\n",
        "header line of 200 KB": b"X-Long: " + b"z" * 200_000 + b"\r\n" + head + b"\r\nx\r\n",
        "10,000 header fields": b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(10_000)) + head + b"\r\nx\r\n",
        "empty lines": head + b"\r\n" * 50_000,
        "NULs": head + b"X-Nul: a\0b\r\n\r\n\0\0\0\r\n" + b"\0" * 70_000 + b"\r\n",
        "every octet": head + b"X-All: " + every + b"\r\n\r\n" + (every + b"\r\n") * 300,
        "8 bit": "Subject: Grüße\r\nX-Utf: 邮件\r\n\r\nÆØÅ\r\n".encode() + "déjà vu\r\n".encode("latin-1"),
        "dots": head + b"\r\n.\r\n..\r\n...\r\n.x\r\n\t.\r\n. \r\n.\r\n",
        "a dot first": b".\r\n.a: b\r\n\r\n.",
        "dots over the blocks": head + b"\r\n" + b"\r\n.\r\n..\r\n" * 40_000,
        "words like commands": head + b"\r\nQUIT\r\nMAIL FROM:<>\r\nRSET\r\n\r\n. \r\nDATA\r\n",
        "somebody else's Received": b"Received: from x by y (Sluice) with SMTP id z; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
        + head
        + b"\r\nx\r\n",
        "fifty hops": b"Received: by hop.example; Mon, 1 Jan 2024 00:00:00 +0000\r\n" * 50 + head + b"\r\nx\r\n",
        "bare LF": head + b"\r\none\ntwo\r\n",
        "bare CR": head + b"\r\none\rtwo\r\n",
        "bare LF and a dot": head + b"\r\none\n.\ntwo\r\n",
        "bare LF, dot, CRLF": head + b"\r\none\n.\r\nMAIL FROM:<>\r\n",
        "bare CR and a dot": head + b"\r\none\r.\rtwo\r\n",
        "CR CR LF": head + b"\r\none\r\r\ntwo\r\n",
        "LF CR": head + b"\r\none\n\rtwo\r\n",
        "all bare LF": (head + b"\r\nx\r\n.\r\ny\r\n").replace(b"\r\n", b"\n"),
        "bare CR at the end": head + b"\r\nx\r",
    }


def on_the_wire(content: bytes) -> bytes:
    """As SMTP can carry it: ended by a line break, unless there is nothing at all."""
    return content if not content or content.endswith(b"\r\n") else content + b"\r\n"


def stuffed(content: bytes) -> bytes:
    """RFC 5321 4.5.2, with the final dot."""
    return (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


# --- a client that pipelines --------------------------------------------------------------------------------------


class Pipe:
    """One connection; the envelope of the next message follows a final dot in the same write (RFC 2920)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int, source: str) -> Self:
        pipe = cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0)))
        assert (await pipe.reply()).startswith("220 ")
        pipe._writer.write(b"EHLO corpus.example\r\n")
        while (await pipe.reply())[3:4] == "-":
            pass
        return pipe

    async def reply(self) -> str:
        line = await asyncio.wait_for(self._reader.readline(), PATIENCE)
        return line.decode().rstrip("\r\n")

    async def offer(self, messages: Sequence[tuple[int, bytes]]) -> dict[int, str]:
        """The reply to each final dot, by number. The sender's address carries the number to the store."""
        dots: dict[int, str] = {}
        queue = [(number, stuffed(content)) for number, content in messages]
        self._writer.write(envelope(queue[0][0]))
        for at, (number, octets) in enumerate(queue):
            opening = [await self.reply() for _ in range(3)]
            assert [reply[:3] for reply in opening] == ["250", "250", "354"], (number, opening)
            following = envelope(queue[at + 1][0]) if at + 1 < len(queue) else b"QUIT\r\n"
            self._writer.write(octets + following)
            await self._writer.drain()
            dots[number] = await self.reply()
        assert (await self.reply()).startswith("221 ")
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()
        return dots


def envelope(number: int) -> bytes:
    return f"MAIL FROM:<m{number}@outside.example>\r\nRCPT TO:<alice@example.edu>\r\nDATA\r\n".encode()


async def offer_all(port: int, source: str, messages: Mapping[int, bytes]) -> dict[int, str]:
    """Everything over a few connections; the replies to the dots."""
    numbered = list(messages.items())
    parts = [part for part in (numbered[at::CONNECTIONS] for at in range(CONNECTIONS)) if part]
    pipes = [await Pipe.open(port, source) for _ in parts]
    found: dict[int, str] = {}
    for dots in await asyncio.gather(*(pipe.offer(part) for pipe, part in zip(pipes, parts, strict=True))):
        found |= dots
    return found


# --- the check ----------------------------------------------------------------------------------------------------


@dataclass
class Result:
    """Names of messages by what became of them."""

    run: list[str] = field(default_factory=list)
    identical: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """By the rule for bare CR and LF, from the stranger."""
    normalised: list[str] = field(default_factory=list)
    """The same from the trusted host: taken, and identical to the normalised form."""
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"corpus: {len(self.run)} messages, {len(self.identical)} byte-identical, {len(self.refused)} refused for "
            f"a bare CR or LF, of which {len(self.normalised)} normalised for a trusted host, {len(self.wrong)} wrong"
        )


async def run_through(messages: Mapping[str, bytes], site: Site, store: RecordingStore) -> Result:
    """Offer each as a stranger, the refused ones as the trusted host, and compare what the store has."""
    result = Result(run=list(messages))
    names = list(messages)
    wire = {number: on_the_wire(messages[name]) for number, name in enumerate(names)}
    strangers = await offer_all(site.port, STRANGER, wire)
    bare = {number: content for number, content in wire.items() if BARE.search(content)}
    trusted = await offer_all(site.port, TRUSTED, bare)
    for number, reply in strangers.items():
        if number not in bare and not reply.startswith("250 2.0.0 Ok: queued as "):
            result.wrong.append(f"{names[number]}: {reply}")
        elif number in bare and reply != REFUSED:
            result.wrong.append(f"{names[number]}: {reply}, has a bare CR or LF")
        elif number in bare:
            result.refused.append(names[number])
    result.wrong += [f"{names[number]}: {reply}" for number, reply in trusted.items() if reply[:3] != "250"]

    assert await site.drained(PATIENCE) == 0
    arrived: dict[int, list[Arrival]] = {}
    for arrival in store.arrivals:
        arrived.setdefault(int(arrival.sender.partition("@")[0][1:]), []).append(arrival)
    for number, name in enumerate(names):
        wanted = ANY_BREAK.sub(b"\r\n", wire[number]) if number in bare else wire[number]
        fault = difference(wanted, arrived.get(number, []))
        if fault:
            result.wrong.append(f"{name}: {fault}")
        else:
            (result.normalised if number in bare else result.identical).append(name)
    return result


def difference(wanted: bytes, arrivals: Sequence[Arrival]) -> str:
    """What is wrong with what arrived, '' if nothing."""
    if len(arrivals) != 1:
        return f"arrived {len(arrivals)} times"
    body = arrivals[0].body
    assert body is not None
    if not body.endswith(wanted):
        return f"{len(body)} octets arrived, which do not end in the {len(wanted)} that were sent"
    above = body[: len(body) - len(wanted)]
    return "" if OURS.fullmatch(above) else f"above the message stands {above[:300]!r}"


async def check(messages: Mapping[str, bytes], make_site: MakeSite, stores: Stores) -> Result:
    stores["old"].keep_bodies = True
    async with make_site(settings=SETTINGS) as site:
        result = await run_through(messages, site, stores["old"])
        site.balance()
    print(result)  # noqa: T201 - the figures of a run, shown by pytest -rP
    assert result.wrong == []
    assert len(result.run) == len(result.identical) + len(result.refused)
    assert sorted(result.refused) == sorted(result.normalised)
    return result


# --- the tests ----------------------------------------------------------------------------------------------------


async def test_pathological_messages_arrive_as_they_were_sent(make_site: MakeSite, stores: Stores) -> None:
    messages = pathological()
    result = await check(messages, make_site, stores)
    assert len(result.refused) == 9
    assert len(result.identical) == len(messages) - 9


@pytest.mark.corpus
@pytest.mark.timeout(400)
async def test_every_message_of_the_collections_arrives_as_it_was_sent(
    corpora: Path, make_site: MakeSite, stores: Stores, record_property: Callable[[str, object], None]
) -> None:
    messages = read_corpora(corpora)
    result = await check(messages, make_site, stores)
    for name in ("run", "identical", "refused"):
        record_property(f"corpus {name}", len(getattr(result, name)))
    assert result.identical, "there was nothing to compare"
