"""Stores in the test's loop and a one-message client, for scenarios against the running relay."""

import asyncio
import smtplib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from support.site import Site, StoreAt

from router.ledger.stores import RecordingStore

Submit = Callable[..., dict[str, tuple[int, bytes]]]
Until = Callable[..., Awaitable[None]]


def submit(site: Site, *recipients: str, tag: str = "t1", sender: str = "sender@outside.example") -> dict[str, str]:
    """One message by one connection; the refusals at RCPT. Blocks."""
    body = f"Message-ID: <{tag}@outside.example>\r\nX-Ledger: {tag}\r\nSubject: {tag}\r\n\r\nhello\r\n"
    with smtplib.SMTP("127.0.0.1", site.port, timeout=20) as client:
        refused = client.sendmail(sender, list(recipients), body.encode())
    return {address: f"{code} {text.decode()}" for address, (code, text) in refused.items()}


@pytest.fixture
def send() -> Callable[..., "asyncio.Future[dict[str, str]]"]:
    """`await send(site, recipient…, tag=…)`."""

    def call(site: Site, *recipients: str, **keys: str) -> "asyncio.Future[dict[str, str]]":
        return asyncio.ensure_future(asyncio.to_thread(submit, site, *recipients, **keys))

    return call


@pytest.fixture
async def stores() -> AsyncIterator[dict[str, RecordingStore]]:
    """Three stores on loopback: old, new and lists."""
    found = {name: RecordingStore(name) for name in ("old", "new", "lists")}
    for store in found.values():
        await store.start()
    yield found
    for store in found.values():
        await store.stop()


@pytest.fixture
def make_site(tmp_path: Path, stores: dict[str, RecordingStore]) -> Callable[..., Site]:
    """`async with make_site(workers=2) as site`: alice and bob live at old, carol at new."""

    def make(**keys: object) -> Site:
        roles = {"old": "old", "new": "new", "lists": "other"}
        users = {"alice@example.edu": "old", "bob@example.edu": "old", "carol@example.edu": "new"}
        at = [StoreAt(name, store.port, role=roles[name]) for name, store in stores.items()]
        return Site(tmp_path, at, users=users, **keys)  # type: ignore[arg-type]

    return make


@pytest.fixture
def until() -> Until:
    """`await until(predicate, what)`: ask, in a thread, again and again until it is true; an error after a minute."""

    async def wait(predicate: Callable[[], object], what: str, patience: float = 60.0) -> None:
        end = time.monotonic() + patience
        while not await asyncio.to_thread(predicate):
            assert time.monotonic() < end, f"in {patience:.0f} seconds it did not happen that {what}"
            await asyncio.sleep(0.02)

    return wait
