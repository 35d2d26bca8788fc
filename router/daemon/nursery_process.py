"""
The nursery: a small process that has imported everything and forks workers when the supervisor asks for one.

It has one thread, no event loop and no database, so that a fork of it is safe at any time; of the supervisor it would
not be. It speaks with the supervisor over one socket, an order or an answer a packet.

Guarantees: a child has the descriptors of its order and no other of the nursery's; it can be told to end from the
moment that its number is known. A child's exit status is told once, after which its number is free. The nursery ends
with the supervisor (its end of the socket closes), and its children with it (`lifeline`).

On failure: an order that cannot be carried out is answered with the error; nothing was started.
"""

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from router.daemon.lifeline import be_called
from router.daemon.starting import Order

LONGEST = 65_536
"""Octets of a packet, at most."""
MOST_DESCRIPTORS = 250
"""Of one order; Linux passes 253."""
UNWANTED = -1
"""Instead of an order's number: the child with this process number is to end."""
_HELD_BACK = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_EX_SOFTWARE = 70
_WANTED_LATER = ("uvloop", "asyncpg", "encodings.idna")
"""What a worker imports when it first needs it."""


def live(channel: socket.socket, modules: Sequence[str]) -> NoReturn:
    """Be the nursery, from a fork until the supervisor closes the channel."""
    status = _EX_SOFTWARE
    try:
        be_called("sluice-nursery")
        # Blocked, not ignored: a child that is told to end while it is being born must find that signal waiting.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        for name in modules:
            importlib.import_module(name)
        for name in _WANTED_LATER:
            with suppress(ImportError):
                importlib.import_module(name)
        # A collection in a child would write to every page that it shares with us.
        gc.collect()
        gc.freeze()
        _Nursery(channel).run()
        status = 0
    except BaseException:  # noqa: BLE001 - the process ends here, and must not run its parent's code
        traceback.print_exc()
    finally:
        os._exit(status)


class _Nursery:
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, int] = {}
        """Descriptor of the process to its number."""

    def run(self) -> None:
        """Until the supervisor has gone, be it before an answer."""
        self._channel.setblocking(True)
        self._selector.register(self._channel, selectors.EVENT_READ)
        with suppress(BrokenPipeError, ConnectionResetError):
            self._serve()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fd in self._children:
                    self._ended(key.fd)
                elif not self._take():
                    return

    def _take(self) -> bool:
        """One order; False when the supervisor has gone."""
        data, descriptors, _, _ = socket.recv_fds(self._channel, LONGEST, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return False
        number, *order = json.loads(data)
        if number == UNWANTED:
            self._end(order[0])
            return True
        try:
            self._bear(number, order_of(order), descriptors)
        except OSError as error:
            self._say(["failed", number, error.errno, error.strerror])
        finally:
            for one in descriptors:
                os.close(one)
        return True

    def _bear(self, number: int, order: Order, descriptors: Sequence[int]) -> None:
        mother, pid = os.getpid(), os.fork()
        if pid == 0:
            self._be(order, mother, descriptors)
        handle = -1
        try:
            handle = os.pidfd_open(pid)
            self._say(["born", number, pid], handle)
        except OSError:  # nobody knows of it
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            if handle >= 0:
                os.close(handle)
            raise
        self._children[handle] = pid
        self._selector.register(handle, selectors.EVENT_READ)

    def _end(self, pid: int) -> None:
        for handle, child in self._children.items():
            if child == pid:
                signal.pidfd_send_signal(handle, signal.SIGTERM)

    def _ended(self, handle: int) -> None:
        pid = self._children.pop(handle)
        self._selector.unregister(handle)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(handle)
        self._say(["ended", pid, status])

    def _say(self, words: list[object], *descriptors: int) -> None:
        socket.send_fds(self._channel, [json.dumps(words).encode()], descriptors)

    def _be(self, order: Order, mother: int, descriptors: Sequence[int]) -> NoReturn:
        """What the child does, all its life."""
        status = _EX_SOFTWARE
        try:
            be_called(order.name)
            self._selector.close()
            self._channel.close()
            for handle in self._children:
                os.close(handle)
            for number in _HELD_BACK:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
            main = importlib.import_module(f"router.daemon.{order.program}").main
            status = main(order.arguments(mother, descriptors))
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else _EX_SOFTWARE
        except BaseException:  # noqa: BLE001 - as above
            traceback.print_exc()
        finally:
            # Threads are not waited for: all that is to be kept was written by now, and one that waits for a silent
            # directory or name server would keep a process that nobody can tell from one that hangs.
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)


def words_of(order: Order) -> list[Any]:
    """An order as it is sent; its descriptors go beside it."""
    return [order.program, order.name, list(order.words), order.ready >= 0, len(order.listen)]


def order_of(words: Sequence[Any]) -> Order:
    """What `words_of` sent; the descriptors in it are only as many as they were."""
    program, name, options, ready, listen = words
    return Order(program, name, tuple(options), 0 if ready else -1, (0,) * listen)
