"""
A gate in front of a server on loopback: open, everything passes; shut, every connection ends and none gets through.

    with Gate(master.port) as gate:                    # open
        Slapd(follows=Follows(master, through=gate.port))
        gate.shut(); gate.open()                       # the replica lags as long as the gate is shut

On failure: a server that does not take a connection looks like a gate that is shut.
"""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

LOOPBACK = "127.0.0.1"


class Gate:
    """See the module's text. Its threads end with it."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._door = socket.create_server((LOOPBACK, 0))
        self.port = int(self._door.getsockname()[1])
        self._open = True
        self._lock = threading.Lock()
        self._passing: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._stand, name="gate", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut()
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept
        self._door.close()

    def open(self) -> None:
        """Let connections through from now on."""
        with self._lock:
            self._open = True

    def shut(self) -> None:
        """Nothing passes any more when this returns."""
        with self._lock:
            self._open = False
            passing, self._passing = self._passing, []
            for one in passing:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _stand(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            self._let_in(client)

    def _let_in(self, client: socket.socket) -> None:
        with self._lock:
            try:
                if not self._open:
                    raise ConnectionRefusedError
                server = socket.create_connection((LOOPBACK, self._target), 10)
            except OSError:
                client.close()
                return
            server.settimeout(None)
            self._passing += [client, server]
        for source, target in ((client, server), (server, client)):
            threading.Thread(target=self._pass, args=(source, target), name="gate", daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while octets := source.recv(65536):
                target.sendall(octets)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        # Each of the two is closed by the thread that reads it.
        source.close()
