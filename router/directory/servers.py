"""
The servers of one directory for many short questions: failover, and a bounded pool of connections.

Guarantees: at most `connections` are open and in use at a time. A question goes to the first server that answers; a
server that does not is left alone for a while (`Rota`). After an error a connection is not used again; one that the
server closed while nobody used it costs the question nothing but a new one. While there is another server to try, a
silent one gets its share of the time only.

On failure: the last server's `Fault`. `Unfit` ends the question at once: another server would say the same.
"""

import time
from collections.abc import Callable
from threading import BoundedSemaphore, Lock
from typing import TypeVar

from router.directory.connection import LdapConnection
from router.directory.faults import Fault, Lost, TimedOut, Unfit
from router.directory.rota import Rota
from router.settings.directory import Ldap

T = TypeVar("T")
Work = Callable[[LdapConnection, float], T]

LONGEST_IDLE = 30.0
"""Seconds after which an unused connection is not trusted any more: firewalls forget without a word."""


class Servers:
    """Blocking, thread-safe. `work` gets a connection and the time (`time.monotonic()`) at which it must be done."""

    def __init__(
        self,
        source: Ldap,
        clock: Callable[[], float] = time.monotonic,
        connect: Callable[[Ldap, str, float], LdapConnection] = LdapConnection,
    ) -> None:
        self._source = source
        self._clock = clock
        self._connect = connect
        self._slots = BoundedSemaphore(source.connections)
        self._lock = Lock()
        self._idle: dict[str, list[LdapConnection]] = {uri: [] for uri in source.uri}
        self._busy: set[LdapConnection] = set()
        self._closed = False
        self.rota = Rota(source.uri, clock)

    def run(self, work: Work[T], until: float) -> T:
        """What `work` returns. It is repeated, so it must only read. Raises `Fault` and what `work` raises."""
        if not self._slots.acquire(timeout=max(0.0, until - self._clock())):
            raise TimedOut("all connections are busy")
        try:
            return self._try_all(work, until)
        finally:
            self._slots.release()

    def close(self) -> None:
        """Close everything; who waits for an answer gets `Lost` at once. Idempotent."""
        with self._lock:
            self._closed = True
            connections = [*self._busy, *(one for idle in self._idle.values() for one in idle)]
            self._idle = {uri: [] for uri in self._idle}
        for connection in connections:
            connection.close()

    def _try_all(self, work: Work[T], until: float) -> T:
        uris = self.rota.order()
        failure: Fault = TimedOut("no time is left to ask")
        for number, uri in enumerate(uris):
            now = self._clock()
            if now >= until:
                break
            try:
                result = self._at(uri, work, now + (until - now) / (len(uris) - number))
            except Unfit:
                self.rota.worked(uri)
                raise
            except Fault as error:
                if self._closed:
                    raise
                self.rota.failed(uri)
                failure = error
            else:
                self.rota.worked(uri)
                return result
        raise failure

    def _at(self, uri: str, work: Work[T], until: float) -> T:
        idle = self._take(uri)
        if idle is not None:
            try:
                return self._use(idle, work, until)
            except TimedOut:
                raise
            except Lost:
                self._forget(uri)  # the server was started anew, most often: the others are dead as well
        if self._closed:
            raise Lost("the directory has been closed")
        return self._use(self._connect(self._source, uri, until), work, until)

    def _use(self, connection: LdapConnection, work: Work[T], until: float) -> T:
        with self._lock:
            self._busy.add(connection)
            if self._closed:
                connection.close()  # so that `work` fails at once
        try:
            result = work(connection, until)
        except Unfit:
            self._give_back(connection)  # an answer like any other, as far as the connection is concerned
            raise
        except BaseException:
            self._drop(connection)
            raise
        self._give_back(connection)
        return result

    def _take(self, uri: str) -> LdapConnection | None:
        with self._lock:
            idle = self._idle[uri]
            found = idle.pop() if idle else None
        if found is None or self._clock() - found.used < LONGEST_IDLE:
            return found
        found.close()
        self._forget(uri)  # the others have been idle for longer still
        return None

    def _give_back(self, connection: LdapConnection) -> None:
        connection.used = self._clock()
        with self._lock:
            self._busy.discard(connection)
            if not self._closed:
                self._idle[connection.uri].append(connection)
                return
        connection.close()

    def _drop(self, connection: LdapConnection) -> None:
        with self._lock:
            self._busy.discard(connection)
        connection.close()

    def _forget(self, uri: str) -> None:
        with self._lock:
            idle, self._idle[uri] = self._idle[uri], []
        for connection in idle:
            connection.close()
