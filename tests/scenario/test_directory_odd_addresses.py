"""
Addresses made to be something else in a filter: the server's log shows exactly the literal that was asked for, and
nobody gets mail that is somebody else's (RFC 4515 3, RFC 5321 4.1.2).
"""

import asyncio
import re
import smtplib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path

import pytest
from support.directory_site import SENDER, directory_site, followed
from support.people_ldif import sun_domain, sun_person
from support.site import StoreAt
from support.slapd import Slapd

from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Until = Callable[..., Awaitable[None]]
ODD = {
    '"*"': "*",
    "*": "*",
    '"a)(uid=*"': "a)(uid=*",
    '"ann)(mailHost=*"': "ann)(mailhost=*",
    '"*)(objectClass=*"': "*)(objectclass=*",
    '"ann*"': "ann*",
    "an*": "an*",
    r'"a\\nn"': r"a\nn",
    r'"\a\n\n\\"': "ann\\",
    '"ann "': "ann ",
    '" ann"': " ann",
    '"a nn"': "a nn",
    r'"ann\\2a"': r"ann\2a",
    '"(|(mail=*))"': "(|(mail=*))",
    "&": "&",
    '"ann@example.edu"': "ann@example.edu",
}
"""Local parts as written in RCPT, and what they stand for."""
NONE = ("|(mail=*)", "ann@example.edu#", '"ann\0"')
"""What is no address."""
UTF8 = ("änn", "\uff0a", "\uff41\uff4e\uff4e.x")
"""The server takes the wide letters of the last one for the plain ones of an address that ann has."""
MAIL = re.compile(r"\(mail=((?:[^()*\\]|\\[0-9A-Fa-f]{2})*)\)")


@pytest.fixture
def server() -> Iterator[Slapd]:
    with Slapd([sun_domain("example.edu"), sun_person("ann", mailAlternateAddress="ann.x@example.edu")]) as one:
        yield one


def replies(port: int, locals_: Iterable[str]) -> dict[str, str]:
    """What RCPT is answered, byte for byte as written here; one session for each, SMTPUTF8 where it is needed."""
    found = {}
    for local in locals_:
        with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
            client.ehlo()
            utf8 = not local.isascii()
            client.command_encoding = "utf-8" if utf8 else "ascii"
            code, text = client.docmd(f"MAIL FROM:<{SENDER}>{' SMTPUTF8' if utf8 else ''}")
            assert code == 250, (code, text)
            code, text = client.docmd(f"RCPT TO:<{local}@example.edu>")
            found[local] = f"{code} {text.decode()}"
    return found


def values(filter_: str) -> set[str]:
    """Addresses that a filter asks for; none where it has anything but literals in it."""
    found = {re.sub(r"\\([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), text) for text in MAIL.findall(filter_)}
    return found if found and "*" not in filter_ else set()


async def test_what_is_asked_is_what_was_written(
    tmp_path: Path, stores: dict[str, RecordingStore], server: Slapd, until: Until
) -> None:
    roles = {"old": "old", "new": "new", "lists": "other"}
    at = [StoreAt(name, store.port, role=roles[name]) for name, store in stores.items()]
    site = directory_site(tmp_path, at, server, settings={"smtputf8": True})
    async with site:
        await until(lambda: followed(site), "the directory is followed")
        await until(lambda: replies(site.port, ["ann"])["ann"].startswith("250"), "ann is known")
        for local, meant in ODD.items():
            seen = server.mark()
            said = (await asyncio.to_thread(replies, site.port, [local]))[local]
            assert said[:9] in {"550 5.1.1", "451 4.4.3"}, (local, said)
            asked = [text for text in server.searches(seen) if "(mail=" in text]
            # The same address may be written with and without quotes; one that was just asked for is remembered.
            wanted = {f"{meant}@example.edu", f'"{_quoted(meant)}"@example.edu'}
            if meant == " ann":  # the server's log leaves the space out
                wanted.add("ann@example.edu")
            for text in asked:
                assert values(text), text
                assert values(text) <= wanted, text
            assert asked or local == "*", local
        seen = server.mark()
        for local, reply in (await asyncio.to_thread(replies, site.port, NONE)).items():
            assert reply[:3] in {"500", "501"}, (local, reply)
        assert [text for text in server.searches(seen) if "(mail=" in text] == []
        for local in UTF8:
            seen = server.mark()
            said = (await asyncio.to_thread(replies, site.port, [local]))[local]
            assert said[:9] in {"550 5.1.1", "451 4.4.3"}, (local, said)
            octets = "".join(chr(one) if one < 128 else f"\\{one:02X}" for one in local.encode())
            # `?`: what is compared in ASCII only cannot be that.
            assert any(f"(?mail={octets}@example.edu)" in text for text in server.searches(seen)), local
        assert said.startswith("451"), "found for an address that it does not have"
    assert [store.arrivals for store in stores.values()] == [[], [], []]


def _quoted(text: str) -> str:
    return re.sub(r'(["\\])', r"\\\1", text)
