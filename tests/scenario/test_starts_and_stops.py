"""A second relay on one state directory does not start, and an impatient operator's second signal does no harm."""

import asyncio
import contextlib
import os
import signal
import smtplib
from collections.abc import Awaitable, Callable

import pytest
from support.site import Site

from router.demo.relay import RelayFailed, RelayProcess
from router.ledger.behaviour import Behaviour, Stage
from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Stores = dict[str, RecordingStore]
MakeSite = Callable[..., Site]
Send = Callable[..., Awaitable[dict[str, str]]]

ALICE = "alice@example.edu"


def greeted(port: int) -> bool:
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        return client.noop()[0] == 250


async def test_inv_10_12_a_second_relay_does_not_start_and_a_second_signal_does_no_harm(
    make_site: MakeSite, stores: Stores, send: Send
) -> None:
    stores["old"].behaviour = Behaviour(hang=frozenset({Stage.CONNECT}))
    async with make_site(fresh=True) as site:
        assert await send(site, ALICE, tag="one") == {}
        second = RelayProcess(site.config, site.directory / "second.log")
        with pytest.raises(RelayFailed, match="is in use by process"):
            await asyncio.to_thread(second.start, 60)
        assert await asyncio.to_thread(greeted, site.port)

        stores["old"].behaviour = Behaviour()
        supervisor = site.relay.pid
        stopping = asyncio.create_task(asyncio.to_thread(site.stop))
        while not stopping.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(supervisor, signal.SIGTERM)
            await asyncio.sleep(0.002)
        assert await stopping == 0
        with site.books() as books:
            assert len(books.queue()) + len(stores["old"].arrivals) == 1
        site.balance()
