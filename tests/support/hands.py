"""
The hands around a relay in scenarios: senders who never stop, the operator's commands, and what stores have to show.

    async with Traffic(site, ANN, BOB) as traffic:      # one message after the other, to both
        …
    exactly_once(traffic.sent, ANN, stores.values())    # nothing lost, nothing twice

On failure: assertions, with the tags that are wrong.
"""

import asyncio
import json
import smtplib
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from router.control import mailboxes
from router.control.mailboxes import Record
from router.ledger.behaviour import Stage
from router.ledger.stores import RecordingStore
from support.directory_site import SENDER, applied
from support.mother import MOTHER
from support.site import Site
from support.slapd import Slapd


@dataclass(frozen=True, slots=True)
class Sent:
    """One message. Times are of `time.monotonic()`, as those of arrivals are."""

    tag: str
    recipients: tuple[str, ...]
    at: float
    """When it was accepted."""


class Traffic:
    """
    Messages to the recipients, one each `every` seconds, in a thread. The relay must accept all recipients, unless
    `patient`: then 4xx and lost connections are tried again with the same message, and 5xx is an error all the same.
    """

    def __init__(
        self, site: Site, *recipients: str, every: float = 0.03, prefix: str = "t", patient: bool = False
    ) -> None:
        self.sent: list[Sent] = []
        self.refused: list[str] = []
        self._site = site
        self._recipients = recipients
        self._every = every
        self._prefix = prefix
        self._patient = patient
        self._stop = threading.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(asyncio.to_thread(self._run))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()

    async def end(self) -> None:
        """No more from now on. Raises what went wrong. Idempotent."""
        self._stop.set()
        if self._task is not None:
            await self._task

    async def some(self, count: int = 5) -> None:
        """Wait until that many more messages were accepted from now on."""
        wanted = len(self.sent) + count
        end = time.monotonic() + 90
        while len(self.sent) < wanted:
            if self._task is not None and self._task.done():
                await self._task
            assert time.monotonic() < end, f"{len(self.sent)} of {wanted} messages were accepted"
            await asyncio.sleep(0.01)

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            tag = f"{self._prefix}{number:05}"
            while not self._offer(tag) and not self._stop.is_set():
                time.sleep(self._every)
            time.sleep(self._every)

    def _offer(self, tag: str) -> bool:
        body = f"Message-ID: <{tag}@outside.example>\r\nX-Ledger: {tag}\r\nSubject: {tag}\r\n\r\nhello\r\n"
        try:
            with smtplib.SMTP("127.0.0.1", self._site.port, timeout=60) as client:
                refused = client.sendmail(SENDER, list(self._recipients), body.encode())
        except smtplib.SMTPRecipientsRefused as error:
            refused = error.recipients
        except (OSError, smtplib.SMTPException):
            if not self._patient:
                raise
            return False
        taken = tuple(one for one in self._recipients if one not in refused)
        if taken:
            self.sent.append(Sent(tag, taken, time.monotonic()))
        self.refused += [f"{code} {text.decode()}" for code, text in refused.values()]
        assert not any(text.startswith("5") for text in self.refused), self.refused
        assert self._patient or not refused, refused
        return bool(taken)


# --- the stores


def tags(store: RecordingStore, recipient: str) -> list[str]:
    """What arrived there for the recipient, in order."""
    return [one.tag for one in store.arrivals if recipient in (who for who, _ in one.recipients)]


def stages(store: RecordingStore) -> list[Stage]:
    """Grows by `DATA` and `DOT` as messages come to the store from now on, before it says anything to either."""
    seen: list[Stage] = []
    take = store.take_drop

    def noted(stage: Stage) -> bool:
        seen.append(stage)
        return take(stage)

    store.take_drop = noted  # type: ignore[method-assign]  # of this one store
    return seen


def none_begun_after(store: RecordingStore, recipient: str, moment: float) -> None:
    """No delivery for the recipient began at the store after the moment (`time.monotonic()`)."""
    found = [one for one in store.arrivals if recipient in (who for who, _ in one.recipients)]
    assert [one.tag for one in found if one.began > moment] == []


def exactly_once(sent: Iterable[Sent], recipient: str, stores: Iterable[RecordingStore]) -> None:
    """Every message to the recipient is at one of the stores, once."""
    wanted = Counter(one.tag for one in sent if recipient in one.recipients)
    found = Counter(tag for store in stores for tag in tags(store, recipient))
    assert found == wanted, f"lost {sorted((wanted - found).elements())}, twice {sorted((found - wanted).elements())}"


def none_after(store: RecordingStore, recipient: str, moment: float) -> None:
    """Since the moment (`time.monotonic()`) nothing came to the store for the recipient."""
    late = [one.tag for one in store.arrivals if one.at > moment and recipient in (who for who, _ in one.recipients)]
    assert late == []


def nobody_was_told(site: Site, stores: Iterable[RecordingStore]) -> None:
    """No message was returned to its sender."""
    assert [one.tag for store in stores for one in store.arrivals if not one.sender] == []
    assert [row for row in site.journal() if row.disposition == "returned"] == []


# --- the relay


def in_force(site: Site) -> None:
    """Wait, for half a minute at most, until every worker has applied what the control database says now."""
    end = time.monotonic() + 30
    while not applied(site) and time.monotonic() < end:
        time.sleep(0.01)


async def read_again(site: Site, server: Slapd, seen: int) -> None:
    """Wait until the directory was polled several times since `server.mark()` was `seen`, and all of it is in force."""
    end = time.monotonic() + 60
    while sum(">=" in asked for asked in server.searches(seen)) < 4:
        assert time.monotonic() < end, "the directory is not polled any more"
        await asyncio.sleep(0.02)
    await asyncio.to_thread(in_force, site)


def record(site: Site, key: str) -> Record:
    """The mailbox as it is now, and for every worker, too."""
    found = site.office.records([key])[key]
    in_force(site)
    return found


def hold_of(site: Site, key: str) -> str:
    """'' without a hold, 'open ORIGIN', or 'quiet ORIGIN'; for every worker, too."""
    found = site.office.database.run_read(lambda c: mailboxes.find(c, [key])).mailboxes
    in_force(site)
    hold = found[key].hold if key in found else None
    return "" if hold is None else f"{'open' if hold.quiet_at is None else 'quiet'} {hold.origin}"


def quiet_at(site: Site, key: str) -> float:
    """When its hold became quiet, by `time.monotonic()`."""
    hold = record(site, key).mailbox.hold
    assert hold is not None
    assert hold.quiet_at is not None
    return hold.quiet_at - time.time() + time.monotonic()


def alarms(site: Site, kind: str) -> list[str]:
    """Key and text of the open alarms of a kind; what they tell of is in force for every worker."""
    found = [one.partition(" ") for one in site.office.alarms()]
    in_force(site)
    return [text for name, _, text in found if name == kind]


@dataclass(frozen=True, slots=True)
class Said:
    """What a command came to."""

    code: int
    document: Mapping[str, Any]
    error: str


async def sluice(site: Site, *words: str, program: tuple[str, ...] | None = None) -> Said:
    """A command in a process of its own, as an operator has it, with `--json`."""
    arguments = ["--config", str(site.config), "--json", *words]
    if program is None:
        done = await asyncio.to_thread(MOTHER.run, arguments, 120)
        out, error, code = done.stdout, done.stderr, done.returncode
    else:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, error = await asyncio.wait_for(process.communicate(), 120)
        code = process.returncode or 0
    text = out.decode().strip()
    try:
        document = json.loads(text) if text else {}
    except ValueError:
        document = {"lines": [json.loads(line) for line in text.splitlines()]}
    return Said(code, document, error.decode())
