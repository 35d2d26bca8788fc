"""Next hops that misbehave (`support.hop`), and what sends to them."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import trustme
from support.hop import Hop

from router.deliver.connection import Connector, Endpoint, Timeouts
from router.deliver.pool import PoolLimits
from router.deliver.sender import LaneSender
from router.deliver.tls import TlsPolicy, tls_policy
from router.model.parcel import Parcel, ParcelRecipient

PATIENT = replace(Timeouts(*[60.0] * 11), quit=1.0)
"""For hops that do answer: hop and sender share an event loop, and a pause of the machine is one of both."""


class Permit:
    """A gate: keeps the stages it heard of, can refuse the dot, and can call the delivery back."""

    def __init__(self, *, allow: bool = True) -> None:
        self.allow = allow
        self.stages: list[str] = []
        self.asked = 0
        self.abort: Callable[[], None] = lambda: None

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def attach(self, abort: Callable[[], None]) -> None:
        self.abort = abort

    def pass_dot(self) -> bool:
        self.asked += 1
        return self.allow


class Hosts:
    """A host source with a fixed answer."""

    def __init__(self, *endpoints: Endpoint) -> None:
        self.answer = endpoints

    async def endpoints(self) -> Sequence[Endpoint]:
        return self.answer


@pytest.fixture
async def make_hop() -> AsyncIterator[Callable[..., Awaitable[Hop]]]:
    hops: list[Hop] = []

    async def make(**knobs: Any) -> Hop:
        settings = {key: knobs.pop(key) for key in ("offers", "lmtp", "context", "name") if key in knobs}
        hops.append(Hop(knobs, **settings))
        await hops[-1].start()
        return hops[-1]

    yield make
    for hop in hops:
        await hop.stop()


@pytest.fixture
async def make_sender() -> AsyncIterator[Callable[..., LaneSender]]:
    senders: list[LaneSender] = []

    def make(
        *hops: Hop | Endpoint, tls: TlsPolicy | None = None, host: str = "localhost", **options: Any
    ) -> LaneSender:
        endpoints = [one if isinstance(one, Endpoint) else one.endpoint(host) for one in hops]
        protocol = options.pop("protocol", "smtp")
        timeouts = options.pop("timeouts", PATIENT)
        connector = Connector(
            "mx.example.edu",
            tls or tls_policy("off"),
            protocol=protocol,
            timeouts=timeouts,
            alarm=options.pop("alarm", None),
        )
        limits = options.pop("limits", PoolLimits())
        sender = LaneSender(
            Hosts(*endpoints), connector, protocol=protocol, timeouts=timeouts, limits=limits, **options
        )
        senders.append(sender)
        return sender

    yield make
    for sender in senders:
        await sender.close()


@pytest.fixture
def permit() -> type[Permit]:
    return Permit


@pytest.fixture
def make_parcel() -> Callable[..., Parcel]:
    def make(*wires: str, body: bytes = b"Subject: x\r\n\r\nhello\r\n", stream: bool = False, **fields: Any) -> Parcel:
        async def blocks() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 65536):
                yield body[start : start + 65536]

        people = fields.pop("people", None) or tuple(
            ParcelRecipient(number, wire) for number, wire in enumerate(wires or ("u@example.edu",), 1)
        )
        prefix = b"Received: by mx.example.edu\r\n"
        return Parcel(
            queue_id="1a",
            sender=fields.pop("sender", "s@example.org"),
            recipients=people,
            prefix=prefix,
            size=fields.pop("size", len(prefix) + len(body)),
            blocks=fields.pop("blocks", blocks),
            inline=None if stream else body,
            **fields,
        )

    return make


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def no_host() -> Endpoint:
    """An address where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return Endpoint("down.example", "127.0.0.1", sock.getsockname()[1])
