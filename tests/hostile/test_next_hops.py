"""
Next hops that dribble, flood, contradict themselves, or end the conversation at any step, all at once, each the store
of somebody (inv 14, 15, 43, 60, 62): nothing is lost, nothing is returned but what a store refused in so many words,
other stores' mail is not delayed, memory and descriptors are bounded; and a store that is well again gets its mail.

What one delivery makes of each of these is tested in tests/unit/deliver; here they meet lanes, retries, rests, the
journal and notices.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import trustme
from support.hop import ACTIONS, Hop
from support.siege import Siege

from router.control import requests
from router.demo.books import Books
from router.model.outcome import Disposition

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]

STUCK = {"HANG", "DRIBBLE", "HALF", "250-"}
"""Nothing comes of these until a deadline of minutes."""
LIES = (
    "-50 no", "999 x", "hello", "550-no\r\n250 ok", "250-ok\r\n550 no", "150 wait", "2500 ok", "\0", "250-",
    "1" * 40_000, "250-" + "x" * 40_000 + "\r\n250 ok", "421 4.3.2 busy", "451 4.3.0 not now",
)  # fmt: skip
YES = ("200 fine", "251 will forward", "252 cannot verify", "299 ok", "250-one\r\n250-two\r\n250 three", "250")
NO = ("550 5.1.1 no such user", "554 no", "550-no\r\n550 no", "599 never", "552 5.2.2 full")
SAID = {
    "connect": (*LIES[:10], "554 5.7.1 go away", "421 4.3.2 busy", "354 go on"),
    "ehlo": (*LIES, "354 go on"),
    "mail": (*LIES, *YES, *NO, "354 go on"),
    "rcpt": (*LIES, *YES, *NO, "354 go on"),
    "data": (*LIES, *NO, "250 ok", "399 go on"),
    "body": ("421 4.3.2 busy",),
    "dot": (*LIES, *YES, *NO, "354 more"),
}
"""`554 no` to EHLO is answered by HELO, and the rest is as in test_sender.py."""


@dataclass(frozen=True)
class Case:
    """One store that says or does `what` at `step`."""

    name: str
    step: str
    what: str
    tls: str = "off"

    @property
    def stuck(self) -> bool:
        return self.what in STUCK

    @property
    def person(self) -> str:
        return f"{self.name}@example.edu"

    @property
    def meant(self) -> Disposition:
        """What becomes of its message in the end."""
        refused = self.what in NO and self.step not in {"connect", "ehlo"}
        return Disposition.RETURNED if refused else Disposition.DELIVERED


def cases() -> list[Case]:
    found = [(step, what) for step, words in SAID.items() for what in (*words, *ACTIONS)]
    plain = [Case(f"{step}-{number}", step, what) for number, (step, what) in enumerate(found)]
    return [*plain, *SECURE]


STRIPPED, BAD_NAME = "stripped", "bad name"
SECURE = [
    Case("strip-verify", STRIPPED, "", "verify"),
    Case("strip-require", STRIPPED, "", "require"),
    Case("name-verify", BAD_NAME, "", "verify"),
    Case("no-verify", "starttls", "454 4.7.0 not now", "verify"),
    Case("no-require", "starttls", "554 5.7.1 never", "require"),
    Case("no-opportunistic", "starttls", "454 4.7.0 not now", "opportunistic"),
    Case("inject-verify", "starttls", "220 go\r\n250 injected", "verify"),
    Case("inject-opportunistic", "starttls", "220 go\r\n250 injected", "opportunistic"),
    *(Case(f"{step}-{what.lower()}-{tls}", step, what, tls)
      for step in ("starttls", "tls") for what in ACTIONS for tls in ("verify", "opportunistic")),
]  # fmt: skip
CASES = cases()
AUTHORITY = trustme.CA()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def besieged(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Siege]:
    """A relay with a store for each case, and a good one."""
    directory = tmp_path_factory.mktemp("hops")
    AUTHORITY.cert_pem.write_to_path(str(directory / "ca.pem"))
    hops = {"good": Hop({}, name="good")}
    keys: dict[str, dict[str, Any]] = {}
    for case in CASES:
        name = "other.example" if case.step == BAD_NAME else "127.0.0.1"
        context = None if case.tls == "off" or case.step == STRIPPED else serving(AUTHORITY, name)
        hops[case.name] = Hop({case.step: case.what}, name=case.name, context=context)
        keys[case.name] = tls_keys(case, directory)
    siege = Siege(
        directory,
        hops,
        users={case.person: case.name for case in CASES} | {"ann@example.edu": "good"},
        keys=keys,
        settings={"retry": {"first": "20s", "longest": "60s"}},
        memory=256 << 20,
        files=1024,
    )
    async with siege:
        yield siege


def tls_keys(case: Case, directory: Path) -> dict[str, Any]:
    return {"tls": case.tls} | ({"ca_file": str(directory / "ca.pem")} if case.tls == "verify" else {})


def serving(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_inv_14_inv_15_inv_43_inv_62_every_bad_next_hop_at_once(besieged: Siege, tmp_path: Path) -> None:
    siege = besieged
    before = siege.group.resident()
    await offer(siege, [case.person for case in CASES])
    slowest = max([await siege.good("ann@example.edu") for _ in range(20)])
    await tried(siege)
    grown = (siege.group.resident() - before) >> 20
    print(f"{len(CASES)} bad next hops: {grown} MiB more, {siege.figures()}; others {slowest:.2f} s at most")  # noqa: T201
    assert [one for one in siege.hops["good"].taken if one.recipients == ("ann@example.edu",)]
    in_the_clear(siege)
    premature(siege)
    await heal(siege)
    siege.notices = sum(case.meant is Disposition.RETURNED for case in CASES)
    await siege.judge(patience=180)
    assert ended(siege) == {case.person: case.meant.value for case in CASES}
    assert grown < 60


async def offer(siege: Siege, people: list[str]) -> None:
    """One message for each."""
    wire = await siege.dial()
    await wire.hello()
    for person in people:
        assert (await siege.hand_over(wire, siege.letter(person))).startswith("250 2.0.0")
    wire.close()


async def tried(siege: Siege, patience: float = 120.0) -> None:
    """Wait until each store has done what it does, and what came of it is written down."""
    end = time.monotonic() + patience
    while True:
        with Books(siege.site.state_dir) as books:
            open_ones = {entry.recipient: entry for entry in books.queue()}
        waiting = [
            case
            for case in CASES
            if not (siege.hops[case.name].connections and (case.stuck or _attempted(open_ones.get(case.person))))
        ]
        if not waiting:
            return
        assert time.monotonic() < end, f"not tried: {waiting[:5]}"
        await asyncio.sleep(0.1)


def _attempted(entry: Any) -> bool:
    return entry is None or entry.attempts > 0


def in_the_clear(siege: Siege) -> None:
    """Nothing of a message goes to a store without the TLS that its policy asks for (inv 62)."""
    for case in CASES:
        if case.tls in {"verify", "require"} and case.step in {STRIPPED, BAD_NAME, "starttls", "tls"}:
            heard = siege.hops[case.name].commands
            allowed = case.what.startswith("220 go")
            assert allowed or not [line for line in heard if line[:4].upper() in {b"MAIL", b"RCPT", b"DATA"}], case


def premature(siege: Siege) -> None:
    """Nothing was returned, or called delivered, that no store has said so of (G1, G2)."""
    known = {case.person: case for case in CASES}
    for row in siege.site.journal():
        case = known.get(row.recipient)
        if case is None or row.disposition not in {Disposition.RETURNED.value, Disposition.DELIVERED.value}:
            continue
        assert row.disposition == case.meant.value, (case, row.reply)
        assert row.disposition == "returned" or siege.hops[case.name].taken, (case, row.reply)


async def heal(siege: Siege) -> None:
    """All stores are good from now on, and their lanes are woken."""
    for case in CASES:
        hop = siege.hops[case.name]
        if case.step in {BAD_NAME, STRIPPED}:
            hop.context = serving(AUTHORITY)
        await hop.heal()

    def ask(connection: Any, lane: str) -> None:
        requests.create(connection, 1, "flush", {"filter": {"lane": lane}}, "test", time.time())

    for case in CASES:
        await asyncio.to_thread(siege.site.office.database.run_write, partial(ask, lane=case.name))


def ended(siege: Siege) -> dict[str, str]:
    """The last word of the journal about each person."""
    closed = {Disposition.DELIVERED.value, Disposition.RETURNED.value}
    people = {case.person for case in CASES}
    return {
        row.recipient: row.disposition
        for row in siege.site.journal()
        if row.recipient in people and row.disposition in closed
    }
