"""
Certificates: those of our listeners as a client would see them, and those of stores with `tls: verify`.

A listener's certificate is read by a handshake in memory, with the certificate itself as the only authority: that
proves that certificate and key fit together and gives the dates, without any further library.

On failure: nothing raises; a certificate that cannot be used is a finding.
"""

import asyncio
import ssl
from typing import Any

from router.admin.cli.check_finding import Finding, error, ok, warning
from router.admin.cli.output import moment
from router.deliver.connection import ConnectFailed, Connector, Endpoint, Timeouts
from router.deliver.names import SystemNames
from router.deliver.resolve import ResolveFailed, StaticHosts
from router.deliver.tls import tls_policy
from router.settings.schema import Settings, Store, TlsServer

_AREA = "tls"
SOON = 14 * 86400.0
"""Seconds before its end from which on a certificate is a warning."""


def check_listeners(settings: Settings, now: float) -> list[Finding]:
    """One finding for each certificate of a listener."""
    used = dict.fromkeys(entry.tls for entry in settings.listen if entry.tls is not None)
    return [_check_server(tls, settings.hostname, now) for tls in used]


async def check_stores(settings: Settings, step: float, now: float) -> list[Finding]:
    """The end of each verified store certificate; that it can be trusted at all is what the store's check says."""
    names = SystemNames(deadline=step)
    verified = [(name, store) for name, store in settings.stores.items() if store.tls == "verify"]
    try:
        found = await asyncio.gather(
            *(_check_store(settings, name, store, names, step, now) for name, store in verified)
        )
    finally:
        names.close()
    return [one for findings in found for one in findings]


def _check_server(tls: TlsServer, hostname: str, now: float) -> Finding:
    subject = str(tls.certificate)
    try:
        facts = _handshake(tls)
    except ssl.SSLCertVerificationError as failure:
        return error(_AREA, subject, failure.verify_message, "renew the certificate, then `systemctl reload sluice`")
    except (OSError, ValueError) as failure:
        text = f"cannot be used: {getattr(failure, 'reason', None) or failure}"
        return error(_AREA, subject, text, "see that certificate and key are there, readable, and belong together")
    if not _names(facts, hostname):
        text = f"does not name {hostname}; {_until(facts, now)[1]}"
        return warning(_AREA, subject, text, "senders that verify (MTA-STS, DANE) will refuse to send")
    return _by_date(subject, facts, now)


def _handshake(tls: TlsServer) -> dict[str, Any]:
    """What a client learns of the certificate. Raises `OSError`, `ssl.SSLError`."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tls.certificate, tls.key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(cafile=tls.certificate)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server)
    for _ in range(10):
        for side in (theirs, ours):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
        found = theirs.getpeercert() if theirs.version() else None
        if found:
            return dict(found)
    raise ValueError("the handshake does not end")


async def _check_store(
    settings: Settings, name: str, store: Store, names: SystemNames, step: float, now: float
) -> list[Finding]:
    timeouts = Timeouts(connect=step, greeting=step, hello=step, starttls=step, quit=min(step, 2.0))
    try:
        policy = tls_policy(store.tls, store.ca_file)
        connector = Connector(settings.hostname, policy, protocol=store.protocol, timeouts=timeouts)
        endpoints = await StaticHosts(store.hosts, names, _unheard).endpoints()
    except (OSError, ResolveFailed):
        return []  # the store's own check says so
    found = []
    for endpoint in endpoints:
        facts = await _certificate(connector, endpoint)
        if facts is not None:
            found.append(_by_date(f"{name} {endpoint}", facts, now))
    return found


async def _certificate(connector: Connector, endpoint: Endpoint) -> dict[str, Any] | None:
    try:
        connection = await connector.open(endpoint, _silent)
    except ConnectFailed:
        return None
    transport = connection.protocol.transport
    found = transport.get_extra_info("peercert") if transport is not None else None
    await connection.quit(2.0)
    return found or None


def _by_date(subject: str, facts: dict[str, Any], now: float) -> Finding:
    left, text = _until(facts, now)
    if left <= 0:
        return error(_AREA, subject, text, "renew it")
    return warning(_AREA, subject, text, "renew it") if left < SOON else ok(_AREA, subject, text)


def _until(facts: dict[str, Any], now: float) -> tuple[float, str]:
    end = float(ssl.cert_time_to_seconds(str(facts["notAfter"])))
    return end - now, f"valid until {moment(end)}"


def _names(facts: dict[str, Any], hostname: str) -> bool:
    listed = [str(value).lower() for kind, value in facts.get("subjectAltName", ()) if kind == "DNS"]
    wildcard = f"*.{hostname.partition('.')[2]}"
    return hostname in listed or wildcard in listed


def _silent(_stage: str) -> None:
    """Nobody follows the stages of a check."""


def _unheard(_kind: str, _key: str, _text: str) -> None:
    """A check raises no alarms."""
