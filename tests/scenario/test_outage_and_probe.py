"""
Doubt is temporary (promise 5): while the control database cannot be read nothing is refused for good and nothing is
delivered; where no directory speaks for a domain its stores are asked, and only all of them together can deny.
"""

import asyncio
import smtplib
from collections.abc import Callable
from typing import Any

import pytest
from support.site import Site

from router.ledger.behaviour import Behaviour, Refusal
from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Stores = dict[str, RecordingStore]


def asked(site: Site, *recipients: str) -> list[int]:
    """Reply codes to RCPT, in order."""
    with smtplib.SMTP("127.0.0.1", site.port, timeout=30) as client:
        client.ehlo("client.example")
        client.docmd("MAIL FROM:<sender@outside.example>")
        return [client.docmd(f"RCPT TO:<{recipient}>")[0] for recipient in recipients]


async def test_control_database_that_is_away_refuses_nobody_and_delivers_nothing(
    stores: Stores, make_site: Callable[..., Site], send: Callable[..., Any], until: Any
) -> None:
    async with make_site() as site:
        await send(site, "alice@example.edu", tag="before")
        await stores["old"].arrived(1, timeout=60)
        database = site.state_dir / "control.db"
        database.rename(site.state_dir / "control.away")
        await until(lambda: "control-down" in site.relay.log.read_text(), "the outage")

        codes = await asyncio.to_thread(asked, site, "alice@example.edu", "nobody@example.edu")
        assert codes[0] == 250, "who is known is served from what is known"
        assert codes[1] // 100 == 4, "nobody is unknown while the directory is away"
        await send(site, "alice@example.edu", tag="during")
        await asyncio.sleep(1.5)
        assert len(stores["old"].arrivals) == 1

        (site.state_dir / "control.away").rename(database)
        await stores["old"].arrived(2, timeout=60)
        assert [arrival.tag for arrival in stores["old"].arrivals] == ["before", "during"]
        assert await site.drained() == 0
        site.balance()


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("550 5.1.1 no such user", "550 5.1.1 no such user", 550),
        ("", "550 5.1.1 no such user", 250),
        ("550 5.1.1 no such user", "451 4.3.0 cannot tell", 450),
        ("550 5.7.1 you may not ask", "550 5.1.1 no such user", 450),
    ],
)
async def test_unknown_address_is_asked_for_at_both_stores(
    stores: Stores, make_site: Callable[..., Site], old: str, new: str, code: int
) -> None:
    for name, reply in (("old", old), ("new", new)):
        stores[name].behaviour = Behaviour(refusals=(Refusal("stranger@*", reply),) if reply else ())
    domains = {"example.edu": {"unknown": "probe", "probe": ["old", "new"]}}
    async with make_site(domains=domains) as site:
        assert await asyncio.to_thread(asked, site, "stranger@example.edu") == [code]
        assert [store.arrivals for store in stores.values()] == [[], [], []], "a callout never sends a message"
