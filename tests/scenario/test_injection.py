"""
What comes from outside stays on its line: HELO, paths, DSN parameters, Message-ID and the replies of a store are
written into the log, shown by commands and put into notices, and none of it obeys a terminal or begins a line.
"""

import asyncio
import socket
from collections.abc import Callable
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from support.site import Site

from router.admin.cli.app import run
from router.ledger.behaviour import Behaviour, Refusal
from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Stores = dict[str, RecordingStore]

EVIL = "\x1b]0;owned\x07\x1b[2J\x00\u2028X-Injected: yes\u202e\x85"
"""A window title, a cleared screen, and every separator that some reader takes for the end of a line."""
ALICE, BOB = b"alice@example.edu", b"bob@example.edu"
XTEXT = b"q+0D+0AX-Injected:+20yes+1B[2J"
CONTENT = b"Message-ID: <" + EVIL.encode() + b"@outside.example>\r\nSubject: x" + EVIL.encode() + b"\r\n\r\nhello\r\n"


def converse(port: int) -> list[bytes]:
    """One connection that says evil in every place; the replies, in order."""
    said = []
    with socket.create_connection(("127.0.0.1", port), 20) as connection, connection.makefile("rwb") as stream:

        def ask(words: bytes) -> None:
            if words:
                stream.write(words + b"\r\n")
                stream.flush()
            while True:
                line = stream.readline()
                said.append(line)
                if line[3:4] != b"-":
                    return

        evil = EVIL.replace("\0", "").encode()
        ask(b"")
        ask(b"EHLO " + evil)
        ask(b"MAIL FROM:<" + evil + b"@outside.example>")
        ask(b"MAIL FROM:<s@outside.example> ENVID=" + XTEXT)
        ask(b"MAIL FROM:<s@outside.example> ENVID=" + evil)
        ask(b"MAIL FROM:<s@outside.example> ENVID=plain")
        ask(b"RCPT TO:<" + evil + b"@example.edu>")
        ask(b"RCPT TO:<" + ALICE + b"> ORCPT=rfc822;" + XTEXT)
        ask(b"RCPT TO:<" + ALICE + b">")
        ask(b"RCPT TO:<" + BOB + b">")
        ask(b"VRFY " + evil)
        ask(b"DATA")
        ask(CONTENT + b".")
        ask(b"QUIT")
    return said


@pytest.fixture
def sluice(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`sluice(site, word…)`: what a command writes, and that it did what it was asked."""

    def call(site: Site, *words: str) -> str:
        monkeypatch.setenv("SLUICE_CONFIG", str(site.config))
        capsys.readouterr()
        assert run(words) in {0, 1, 2}, words
        told = capsys.readouterr()
        return told.out + told.err

    return call


def is_plain(text: str) -> bool:
    return all(line.isprintable() for line in text.replace("\t", " ").split("\n"))


async def test_inv_80_nothing_from_outside_leaves_its_line(
    make_site: Callable[..., Site], stores: Stores, sluice: Callable[..., str]
) -> None:
    words = EVIL.replace("\0", "\\0")
    refused, waits = f"550 5.1.1 no {words}", f"451 4.3.0 wait {words}"
    stores["old"].behaviour = Behaviour(refusals=(Refusal("alice*", refused), Refusal("bob*", waits)))
    stores["lists"].keep_bodies = True
    # So that the mail that waits is still there to be looked at.
    async with make_site(settings={"retry": {"first": "1h", "longest": "1h"}, "log": {"level": "info"}}) as site:
        said = await asyncio.to_thread(converse, site.port)
        assert said[-2].startswith(b"250 2.0.0 Ok: queued as ")
        assert all(is_plain(line.decode("ascii").removesuffix("\r\n")) for line in said)
        queue_id = said[-2].split()[-1].decode()

        await stores["lists"].arrived(1, timeout=60)
        shown = [
            await asyncio.to_thread(sluice, site, *command)
            for command in (
                ["queue", "list"],
                ["queue", "show", queue_id],
                ["queue", "shape"],
                ["status"],
                ["log", queue_id],
                ["route", f"{EVIL.replace(chr(0), '')}@example.edu", f"alice@{EVIL.replace(chr(0), '')}"],
            )
        ]
        assert all(map(is_plain, shown)), shown
        assert "wait " in shown[0]
        assert "X-Injected" in shown[0], "it is shown, and not left out"
        check_notice(stores["lists"].arrivals[0].body or b"")
    check_log(site.relay.log, queue_id)


def check_log(log: Path, queue_id: str) -> None:
    text = log.read_text("utf-8")
    assert is_plain(text)
    lines = text.splitlines()
    assert any(f"{queue_id}: message-id=<" in line for line in lines)
    assert any("status=bounced" in line and "X-Injected" in line for line in lines)
    assert any("status=deferred" in line and "X-Injected" in line for line in lines)
    assert any("NOQUEUE: reject: RCPT" in line for line in lines)
    assert not [line for line in lines if line.lstrip().startswith("X-Injected")]


def check_notice(body: bytes) -> None:
    notice = message_from_bytes(body, policy=policy.default)
    words, status, original = notice.iter_parts()
    for part in (words, status):
        assert part["X-Injected"] is None
        text = part.as_bytes().replace(b"\t", b" ").decode("ascii")
        assert is_plain(text.replace("\r\n", "\n")), text
        assert not [line for line in text.splitlines() if line.lstrip().startswith("X-Injected")]
    assert "X-Injected" in status.as_string()
    # What goes back is the sender's own; it must not become a part, or a field, of the notice.
    assert original.get_content_maintype() in {"text", "message"}
    assert [part.get_content_type() for part in notice.walk()][:2] == ["multipart/report", "text/plain"]
