"""What every session is handed: the decisions of other stations, the limits, and the roster of what is open."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from router.accept.admission import Admission
from router.accept.filters import GuardedFilter, PassFilter
from router.accept.policy import AccessPolicy
from router.accept.reception import Observer, Reception
from router.accept.tls import TlsHolder
from router.ports import BodyWriter, Clock
from router.settings.schema import Limits


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How one listener is to be spoken to."""

    tls: TlsHolder | None = None
    require_tls: bool = False
    proxy_protocol: bool = False
    """Connections begin with a PROXY header and come from `relays` only."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a session depends on. A reload makes a new one; sessions under way keep theirs."""

    hostname: str
    limits: Limits
    message_size_limit: int
    """Octets, as announced and enforced."""
    policy: AccessPolicy
    admission: Admission
    reception: Reception
    open_body: Callable[[], BodyWriter]
    clock: Clock
    smtputf8: bool = False
    filter: GuardedFilter = field(default_factory=lambda: GuardedFilter(PassFilter()))
    observer: Observer = field(default_factory=Observer)
    drain_limit: int = 16 * 1024 * 1024
    """Octets read and thrown away beyond the size limit, so that the client hears 552 and not a broken pipe."""


_LOOK = 0.05
"""Seconds within which a client at work says something, and for which a look at all of them counts."""


class Drainable(Protocol):
    """A session, as seen by whoever closes the shop."""

    heard: float
    """Loop time at which the client has sent something."""

    def shut_down(self) -> None:
        """End at the next moment between two commands; now, if the client is being waited for."""

    def cut(self) -> None:
        """End now, unless a message is being made durable."""


class Roster:
    """The open sessions of one set of listeners. A session is open until its commit is finished."""

    def __init__(self) -> None:
        self.sessions: set[Drainable] = set()
        self.changed = asyncio.Event()
        """Set whenever a session has ended."""
        self._at_work = 0
        self._next_look = 0.0

    def at_work(self, now: float) -> int:
        """How many clients are at work, and not only connected, a moment ago; `now` is loop time."""
        if now >= self._next_look:
            self._next_look = now + _LOOK
            since = now - _LOOK
            self._at_work = sum(one.heard >= since for one in self.sessions)
        return self._at_work

    def left(self, session: Drainable) -> None:
        """A session has ended."""
        self.sessions.discard(session)
        self.changed.set()
