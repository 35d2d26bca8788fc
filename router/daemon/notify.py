"""
What systemd is told and what it hands over (sd_notify(3), sd_listen_fds(3)), without a library.

Guarantees: without systemd every call is a no-op. On failure: a notification that cannot be sent is dropped; the
service must not die of it.
"""

import contextlib
import errno
import os
import socket
import time
from collections.abc import Mapping

_FIRST_FD = 3


class Notifier:
    """Sends state lines to the socket named by NOTIFY_SOCKET, if there is one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")

    def ready(self) -> None:
        self._send("READY=1")

    def reloading(self) -> None:
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        self._send(f"STATUS={text}")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
            s.sendto(text.encode(), address)


def inherited_sockets(environment: Mapping[str, str]) -> list[socket.socket]:
    """The listening sockets that systemd passed to this very process, in the order of the socket unit."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    text = environment.get("LISTEN_FDS", "0")
    if not (text.isascii() and text.isdigit()):
        raise OSError(errno.EINVAL, f"LISTEN_FDS is {text!r}, not a number")
    count = int(text)
    return [socket.socket(fileno=number) for number in range(_FIRST_FD, _FIRST_FD + count)]
