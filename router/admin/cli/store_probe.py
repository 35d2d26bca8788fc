"""
Talking to each address of a store, as a delivery would: connect, EHLO or LHLO, STARTTLS by its policy, one RCPT.

Guarantees: the product's own connector does it, so what works here works for mail. No message is ever sent: a RCPT is
asked with the null sender on a session of its own, and DATA never. Every address of every host is tried.

On failure: nothing raises; the result says at which step it ended. Unreadable CA files raise `OSError`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from router.deliver.callout import Callout
from router.deliver.connection import ConnectFailed, Connector, Endpoint, Timeouts
from router.deliver.names import SystemNames
from router.deliver.resolve import ResolveFailed, StaticHosts
from router.deliver.tls import tls_policy
from router.model.address import Address
from router.model.reply import HopReply
from router.settings.schema import Settings, Store


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What one address said. `failed` is empty when the session was fit for mail; `rcpt` is its reply to the recipient.

    `seconds` is how long the session took to set up.
    """

    store: str
    endpoint: str
    failed: str = ""
    tls: str = ""
    seconds: float = 0.0
    offers: tuple[str, ...] = ()
    rcpt: HopReply | None = None
    notes: tuple[str, ...] = ()

    @property
    def trouble(self) -> str:
        """What is wrong: no session fit for mail, or a recipient that was not accepted; '' when nothing is."""
        if self.failed or self.rcpt is None or self.rcpt.positive:
            return self.failed
        return f"recipient not accepted: {self.rcpt}"

    @property
    def ok(self) -> bool:
        return not self.trouble


class _Only:
    """A host source with one address."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def endpoints(self) -> Sequence[Endpoint]:
        return (self._endpoint,)


class StoreProbe:
    """Tries stores; `step` is the longest wait for one reply, seconds. Close it."""

    def __init__(self, settings: Settings, step: float) -> None:
        self._settings = settings
        self._names = SystemNames(deadline=step)
        self._timeouts = Timeouts(connect=step, greeting=step, hello=step, starttls=step, quit=min(step, 2.0))

    async def probe(self, name: str, rcpt: Address | None) -> list[Finding]:
        """One finding for each address of the store, in the order of delivery."""
        store = self._settings.stores[name]
        notes: list[str] = []
        try:
            endpoints = await StaticHosts(store.hosts, self._names, lambda *said: notes.append(said[2])).endpoints()
        except ResolveFailed as failure:
            return [Finding(name, ", ".join(str(host) for host in store.hosts), failure.reply.text)]
        found = [await self._try(name, store, endpoint, rcpt) for endpoint in endpoints]
        missing = [Finding(name, "", note) for note in notes]
        return [*found, *missing]

    def close(self) -> None:
        self._names.close()

    async def _try(self, name: str, store: Store, endpoint: Endpoint, rcpt: Address | None) -> Finding:
        notes: list[str] = []
        connector = self._connector(store, notes)
        began = time.monotonic()
        try:
            connection = await connector.open(endpoint, _silent)
        except ConnectFailed as failure:
            return Finding(name, str(endpoint), failure.reply.text, notes=tuple(notes))
        seconds, tls, extensions = time.monotonic() - began, connection.tls, connection.extensions
        await connection.quit(self._timeouts.quit)
        offered = {
            "PIPELINING": extensions.pipelining,
            "8BITMIME": extensions.eight_bit,
            "SMTPUTF8": extensions.smtputf8,
            "DSN": extensions.dsn,
            "STARTTLS": extensions.starttls or bool(tls),
            "SIZE": extensions.size,
        }
        reply = None if rcpt is None else await Callout(_Only(endpoint), connector, self._timeouts).ask(rcpt)
        offers = tuple(keyword for keyword, there in offered.items() if there)
        return Finding(name, str(endpoint), "", tls, seconds, offers, reply, tuple(notes))

    def _connector(self, store: Store, notes: list[str]) -> Connector:
        return Connector(
            self._settings.hostname,
            tls_policy(store.tls, store.ca_file),
            protocol=store.protocol,
            timeouts=self._timeouts,
            alarm=lambda kind, _key, text: notes.append(f"{kind}: {text}"),
        )


def _silent(_stage: str) -> None:
    """Nobody follows the stages of a test."""
