"""
Listening sockets: bound by the supervisor, inherited by the workers.

Guarantees: each worker has a socket of its own per listener (SO_REUSEPORT), held open by the supervisor too, so that
connections wait while a worker restarts; sockets from systemd are shared by all workers instead.

On failure: `OSError` of the bind, with the listener named.
"""

import contextlib
import errno
import socket
from collections.abc import Sequence
from ipaddress import ip_address

from router.settings.schema import Listener

BACKLOG = 1024


def bind(listener: Listener, workers: int) -> list[socket.socket]:
    """`workers` sockets on one address and port (port 0: the one that the first socket got)."""
    sockets: list[socket.socket] = []
    port = listener.port
    for _ in range(workers):
        one = _bind_one(listener.address, port)
        port = one.getsockname()[1]
        sockets.append(one)
    return sockets


def _bind_one(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    one = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # "::" alone means both families; a listener of its own for IPv4 would be refused.
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address == "::" else 1)
        one.bind((address, port))
        one.listen(BACKLOG)
        one.setblocking(False)
    except OSError as error:
        one.close()
        reason = "the address is in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise OSError(error.errno, f"cannot listen on [{address}]:{port}: {reason}") from error
    return one


def match(listeners: Sequence[Listener], inherited: Sequence[socket.socket]) -> list[socket.socket]:
    """
    The inherited socket of each listener: by address and port, or by port alone where only one of each is left.

    Raises `OSError` when one is missing or left over: connections to a socket that nobody accepts on would hang.
    """
    left = list(inherited)
    found: dict[int, socket.socket] = {}
    for exact in (True, False):
        for place, listener in enumerate(listeners):
            if place in found:
                continue
            fitting = [one for one in left if _fits(listener, one, exact=exact)]
            if len(fitting) == 1:
                found[place] = fitting[0]
                left.remove(fitting[0])
    for place, listener in enumerate(listeners):
        if place not in found:
            raise OSError(errno.ENOENT, f"systemd passed no socket for [{listener.address}]:{listener.port}")
    if left:
        raise OSError(errno.EINVAL, f"systemd passed a socket for {left[0].getsockname()}, and no listener has that")
    for one in found.values():
        one.setblocking(False)
    return [found[place] for place in range(len(listeners))]


def _fits(listener: Listener, one: socket.socket, *, exact: bool) -> bool:
    if one.family not in {socket.AF_INET, socket.AF_INET6}:
        return False
    address, port = one.getsockname()[:2]
    return port == listener.port and (not exact or _numeric(address) == _numeric(listener.address))


def _numeric(address: str) -> str:
    """One spelling of an address."""
    with contextlib.suppress(ValueError):
        return ip_address(address).compressed
    return address
