"""What a worker runs is what was published: across a broken file, a dead worker, and renewed certificates."""

import asyncio
import os
import signal
import smtplib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.site import Site

from router.ledger.stores import RecordingStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


async def test_worker_that_dies_while_the_file_is_broken_comes_back_with_what_was_published(
    stores: dict[str, RecordingStore], make_site: Callable[..., Site], send: Callable[..., Any], until: Any
) -> None:
    async with make_site() as site:
        site.config.write_text("hostname: [this is no configuration\n")
        [pid] = site.worker_pids()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: site.worker_pids() not in ([pid], []), "a new worker")
        await send(site, "alice@example.edu")
        await stores["old"].arrived(1, timeout=60)


def served_certificate(port: int) -> bytes:
    """What a client of STARTTLS is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.starttls(context=context)
        sock: Any = client.sock
        return bytes(sock.getpeercert(binary_form=True))


async def test_renewed_certificate_is_served_after_sighup(
    tmp_path: Path, make_site: Callable[..., Site], until: Any
) -> None:
    certificate, key = tmp_path / "mx.pem", tmp_path / "mx.key"
    authority = trustme.CA()

    def issue() -> None:
        issued = authority.issue_cert("mx.example.edu")
        issued.private_key_pem.write_to_path(str(key))
        issued.cert_chain_pems[0].write_to_path(str(certificate))

    issue()
    tls = {"tls": {"certificate": str(certificate), "key": str(key)}}
    site = make_site()
    site.reload({"listen": [{"address": "127.0.0.1", "port": site.port, **tls}]})
    async with site:
        first = await asyncio.to_thread(served_certificate, site.port)
        issue()
        assert await asyncio.to_thread(served_certificate, site.port) == first
        await asyncio.to_thread(site.reload)
        for _ in range(600):
            if await asyncio.to_thread(served_certificate, site.port) != first:
                return
            await asyncio.sleep(0.1)
        raise AssertionError("the former certificate is still served")
