"""
What stands in a relay's way while it is measured: a store that takes connections and says nothing, clients that idle.

Guarantees: sockets end with the block. On failure: `OSError`, or an assertion when the relay does not greet a client.
"""

import socket
import threading
from contextlib import suppress
from typing import Self

from router.demo.config import LOOPBACK

_PATIENCE = 30.0
_ROUND = 20.0
"""Seconds in which every idle client says NOOP once."""


class Silent:
    """A port where connections are made by the kernel and nobody ever answers."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind((LOOPBACK, 0))
        self.port = int(self._socket.getsockname()[1])

    def __enter__(self) -> Self:
        self._socket.listen(1000)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


class Idlers:
    """`count` clients that have said EHLO, and from then on NOOP now and then."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._count = count
        self._sockets: list[socket.socket] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._nod, name="idlers")
        self.answered = 0

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                one = socket.create_connection((LOOPBACK, self._port), _PATIENCE)
                self._sockets.append(one)
                self._exchange(one, b"EHLO idle.example.net\r\n")
        except BaseException:
            self._close()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._close()

    def there(self) -> int:
        """How many are still connected: what the relay has closed answers nothing."""
        return sum(self._alive(one) for one in self._sockets)

    def _exchange(self, one: socket.socket, command: bytes) -> None:
        greeting = one.recv(1024)
        assert greeting.startswith(b"220"), f"an idle client is told {greeting!r}"
        one.sendall(command)
        assert one.recv(4096).startswith(b"250"), "an idle client is refused"

    def _nod(self) -> None:
        while self._sockets:
            for one in self._sockets:
                if self._stop.wait(_ROUND / len(self._sockets)):
                    return
                self.answered += self._alive(one)

    def _alive(self, one: socket.socket) -> bool:
        with suppress(OSError):
            one.sendall(b"NOOP\r\n")
            return one.recv(1024).startswith(b"250")
        return False

    def _close(self) -> None:
        for one in self._sockets:
            one.close()
