"""A session on a real socket with everything behind it in memory."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.smtp_site import Site, Start, Wire, close_site, open_site

from router.accept.tls import TlsHolder
from router.settings.schema import TlsServer


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """A factory of sites; all are torn down, and none may leave a session behind."""
    sites: list[Site] = []

    async def make(**options: Any) -> Site:
        sites.append(await open_site(**options))
        return sites[-1]

    yield make
    for site in sites:
        await close_site(site)


@pytest.fixture
async def site(start: Start) -> Site:
    return await start()


@pytest.fixture
async def wire(site: Site) -> Wire:
    return await site.dial()


@pytest.fixture
async def pass_time(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[float], Awaitable[None]]]:
    """
    The clock of the event loop stands still, but for the seconds that a test lets pass: whoever keeps a limit by a
    hair would miss it in a pause of the machine. To be asked for last, so that the clock runs again for the teardown.
    """
    loop = asyncio.get_running_loop()
    now = loop.time()

    async def advance(seconds: float) -> None:
        nonlocal now
        for step in (0.0, seconds):
            now += step
            for _ in range(20):  # what was sent is heard first, and what is due is done
                await asyncio.sleep(0)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "time", lambda: now)
        yield advance


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def holder(authority: trustme.CA, tmp_path: Path) -> TlsHolder:
    """A loaded certificate for 127.0.0.1."""
    issued = authority.issue_cert("127.0.0.1", "mx.example.edu")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    made = TlsHolder(TlsServer(certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem"))
    made.load()
    return made


@pytest.fixture
def trust(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context that believes our certificate."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
