"""
Whether the stores answer, and whether any of them takes mail for addresses that nobody has.

Each address of each store is asked as a delivery would ask it: greeting, EHLO, STARTTLS by the store's policy, then
RCPT for postmaster and for a random address, with the null sender. No message is sent.

On failure: nothing raises; a store that is silent is a finding.
"""

import asyncio
import secrets

from router.admin.cli.check_finding import Finding, error, ok, warning
from router.admin.cli.store_probe import Finding as Answer
from router.admin.cli.store_probe import StoreProbe
from router.classify.probe import denies
from router.model.address import Address, parse_address
from router.settings.schema import Settings

_AREA = "store"
_ANYTHING = "do not probe it: name a store that knows its users in `probe`, or set `unknown: reject` and import people"


async def check_stores(settings: Settings, step: float) -> list[Finding]:
    """All stores at a time; `step` is the longest wait for one reply, in seconds."""
    probe = StoreProbe(settings, step)
    try:
        found = await asyncio.gather(*(_check_store(settings, probe, name) for name in settings.stores))
    finally:
        probe.close()
    return [one for findings in found for one in findings]


async def _check_store(settings: Settings, probe: StoreProbe, name: str) -> list[Finding]:
    domain = _domain_for(settings, name)
    try:
        answers = await probe.probe(name, parse_address(f"postmaster@{domain}"))
        if not any(not one.failed for one in answers):
            return [error(_AREA, name, f"{one.endpoint}: {one.failed}", _remedy(one)) for one in answers]
        random = await probe.probe(name, _nobody(domain))
    except OSError as failure:
        return [error(_AREA, name, f"its CA file cannot be read: {failure.strerror or failure}")]
    return [*(_of_postmaster(name, one, domain) for one in answers), *_of_nobody(settings, name, random, domain)]


def _domain_for(settings: Settings, store: str) -> str:
    """A domain in which the store may know people: one that is probed there, else the first that is no alias."""
    real = [name for name, domain in settings.domains.items() if not domain.alias_of]
    probed = [name for name in real if store in settings.domains[name].probe]
    return (probed or real or list(settings.domains))[0]


def _nobody(domain: str) -> Address:
    return parse_address(f"sluice-check-{secrets.token_hex(8)}@{domain}")


def _of_postmaster(name: str, answer: Answer, domain: str) -> Finding:
    if answer.failed:
        return error(_AREA, name, f"{answer.endpoint}: {answer.failed}", _remedy(answer))
    how = f"{answer.endpoint}: answers in {answer.seconds * 1000:.0f} ms, {answer.tls or 'no TLS'}"
    if answer.rcpt is not None and not answer.rcpt.positive:
        return warning(
            _AREA, name, f"{how}, but refuses postmaster@{domain}: {answer.rcpt}", "RFC 5321 4.5.1 asks for it"
        )
    return ok(_AREA, name, how)


def _of_nobody(settings: Settings, name: str, answers: list[Answer], domain: str) -> list[Finding]:
    """A store that accepts anything makes a probe worthless; one that defers an unknown address makes it useless."""
    probed = any(name in one.probe and one.unknown == "probe" for one in settings.domains.values())
    found = []
    for answer in answers:
        if answer.failed or answer.rcpt is None:
            continue
        if answer.rcpt.positive:
            text = f"{answer.endpoint}: accepts any address @{domain}, also one that nobody has"
            found.append(error(_AREA, name, text, _ANYTHING) if probed else warning(_AREA, name, text))
        elif probed and not denies(answer.rcpt):
            text = f"{answer.endpoint}: does not clearly deny an unknown address @{domain}: {answer.rcpt}"
            found.append(warning(_AREA, name, text, "unknown addresses would get 450 for ever"))
    return found


def _remedy(answer: Answer) -> str:
    if "TLS" in answer.failed or "certificate" in answer.failed:
        return "mend the store's certificate, or set `tls` and `ca_file` of the store"
    return "see that the host runs and lets our address in; mail for it waits meanwhile"
