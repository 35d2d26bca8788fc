"""
How many clients may be served at once, in all and each.

Guarantees: memory is bounded by the number of open connections; strangers cannot take the places that are kept for
trusted hosts and relays, nor clients the descriptors that deliveries need; nobody is slowed down for being
unwelcome (a tarpit costs us a connection and the spammer nothing).
Counts are those of this worker: it is given its share of the node's limits.
"""

from router.accept import replies
from router.accept.policy import Peer
from router.model.reply import Reply
from router.ports import Room
from router.settings.schema import Limits

_STRESS = 0.8
"""Part of the places above which idle strangers are given less time."""
_STRESS_TIMEOUT = 10.0
"""Seconds for a command, or between two blocks of a message, under stress."""


class Admission:
    """The door. Every successful `enter` is paired with one `leave`."""

    def __init__(self, limits: Limits, workers: int = 1, room: Room | None = None) -> None:
        self._workers = workers
        self._room = room
        self._total = 0
        self._clients: dict[str, int] = {}
        self.relimit(limits)

    def relimit(self, limits: Limits) -> None:
        """Other limits from now on; who is in stays in and is counted."""
        workers = self._workers
        self._limit = max(1, -(-limits.connections // workers))
        self._reserve = max(10, self._limit // 10)
        self._per_client = max(1, -(-limits.connections_per_client // workers))
        self._command_timeout = limits.command_timeout

    @property
    def total(self) -> int:
        """Connections admitted and not yet gone."""
        return self._total

    def enter(self, peer: Peer, descriptor: int = -1) -> Reply | None:
        """Admit a client, or say why not. `descriptor` is that of its connection, -1 when there is none any more."""
        if self._room is not None and not self._room(descriptor, favoured=peer.exempt):
            return replies.OVERLOAD
        if self._total >= self._limit + (self._reserve if peer.exempt else 0):
            return replies.OVERLOAD
        count = self._clients.get(peer.client, 0)
        if count >= self._per_client and not peer.exempt:
            return replies.TOO_MANY_CONNECTIONS
        self._clients[peer.client] = count + 1
        self._total += 1
        return None

    def leave(self, peer: Peer) -> None:
        """The connection of an admitted client has ended."""
        self._total -= 1
        count = self._clients[peer.client] - 1
        if count:
            self._clients[peer.client] = count
        else:
            del self._clients[peer.client]

    def command_timeout(self, peer: Peer) -> float:
        """Seconds a client has for its next command line; few for strangers while places are running out."""
        return self.shortened(peer, self._command_timeout)

    def shortened(self, peer: Peer, seconds: float) -> float:
        """A time that a client is given: all of it, but no more than a few seconds for strangers under stress."""
        if not peer.exempt and self._total > self._limit * _STRESS:
            return min(seconds, _STRESS_TIMEOUT)
        return seconds
