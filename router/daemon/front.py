"""
The accepting side of a worker: listeners, their TLS, limits and policy, built from the configuration.

Guarantees: a reload applies to new connections; sessions under way keep what they were given. A certificate that
cannot be read at a reload leaves the former one in force.

On failure: `OSError` or `TlsUnusable` at start.
"""

import asyncio
import logging
import socket
from collections.abc import Sequence

from router.accept.admission import Admission
from router.accept.listener import BoundListener, ListenerSet
from router.accept.policy import AccessPolicy
from router.accept.reception import Observer
from router.accept.services import Endpoint, Services
from router.accept.tls import TlsHolder, TlsUnusable
from router.daemon import descriptors
from router.daemon.trace import WorkerTrace
from router.model.envelope import Client
from router.model.reply import Reply
from router.pipeline.receive import Receiver
from router.ports import Clock
from router.settings.schema import Listener, Settings

log = logging.getLogger("sluice.front")


class _Rejections(Observer):
    """Passes refusals on to the worker's trace; the log tells nothing of connections that did nothing."""

    def __init__(self, trace: WorkerTrace) -> None:
        self._trace = trace

    def rejected(self, client: Client, stage: str, reply: Reply, sender: str, recipient: str, helo: str) -> None:
        self._trace.rejected(client, stage, reply, sender, recipient, helo)


class Front:
    """The listeners of one worker. `workers` divide the limits of the node."""

    def __init__(self, settings: Settings, receiver: Receiver, trace: WorkerTrace, clock: Clock, workers: int) -> None:
        self._settings = settings
        self._observer = _Rejections(trace)
        self._clock = clock
        self._admission = Admission(settings.limits, workers, descriptors.room)
        self._holders = [TlsHolder(listener.tls) if listener.tls is not None else None for listener in settings.listen]
        self._set = ListenerSet(self._services(settings, receiver))

    async def open(self, descriptors: Sequence[int]) -> None:
        """Accept on inherited descriptors, one per listener of the configuration. Raises `OSError`, `TlsUnusable`."""
        await self._load_certificates()
        bound = [
            BoundListener(socket.socket(fileno=number), self._endpoint(listener, holder))
            for number, listener, holder in zip(descriptors, self._settings.listen, self._holders, strict=True)
        ]
        await self._set.open(bound)

    async def use(self, settings: Settings, receiver: Receiver) -> None:
        """New connections follow this configuration, and certificates are read again."""
        self._settings = settings
        self._admission.relimit(settings.limits)
        self._set.reconfigure(self._services(settings, receiver))
        await self.renew()

    async def renew(self) -> None:
        """Read the certificates again."""
        try:
            await self._load_certificates()
        except TlsUnusable as error:
            log.error("the former certificate stays in force: %s", error)  # noqa: TRY400 - the text says it all

    async def drain(self, grace: float) -> None:
        """Stop accepting; let sessions end within `grace` seconds."""
        if not await self._set.drain(grace):
            log.warning("sessions were cut after %g s", grace)

    async def _load_certificates(self) -> None:
        for holder in self._holders:
            if holder is not None:
                await asyncio.to_thread(holder.load)

    def _services(self, settings: Settings, receiver: Receiver) -> Services:
        return Services(
            hostname=settings.hostname,
            limits=settings.limits,
            message_size_limit=settings.message_size_limit,
            policy=AccessPolicy(settings.trusted_networks, settings.relays),
            admission=self._admission,
            reception=receiver,
            open_body=receiver.open_body,
            clock=self._clock,
            smtputf8=settings.smtputf8,
            observer=self._observer,
        )

    @staticmethod
    def _endpoint(listener: Listener, holder: TlsHolder | None) -> Endpoint:
        return Endpoint(tls=holder, require_tls=listener.require_tls, proxy_protocol=listener.proxy_protocol)
