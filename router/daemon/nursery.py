"""
The supervisor's side of the nursery: workers are forked from a process that has imported everything.

A worker that died is back in some hundredths of a second instead of a second, and a package that is being upgraded
while the relay runs gives no worker another version than its supervisor has (docs/adr/0007-nursery.md).

Guarantees: a process is signalled through its own descriptor, so that a number which the kernel has given to somebody
else is never meant. `wait` ends once, with the status that the nursery saw.

On failure: a nursery that has died takes its children with it, in order (SIGTERM); `wait` gives EX_TEMPFAIL for them
once they have ended, and everything after is started as an interpreter of its own.
"""

import asyncio
import errno
import itertools
import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Self

from router.daemon.nursery_process import LONGEST, UNWANTED, live, words_of
from router.daemon.starting import Executed, Order, Process, Starter

log = logging.getLogger("sluice.supervisor")

EX_TEMPFAIL = 75


class Nursling:
    """A process that the nursery started."""

    def __init__(self, pid: int, handle: int) -> None:
        self.pid = pid
        self._handle = handle
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        """Its exit code, or minus the signal that ended it."""
        return await asyncio.shield(self._code)

    def send_signal(self, number: int) -> None:
        """Raises `ProcessLookupError` when it has ended."""
        if self._code.done():
            raise ProcessLookupError(errno.ESRCH, "the process has ended")
        signal.pidfd_send_signal(self._handle, number)

    def ended(self, code: int) -> None:
        """The nursery has seen its end."""
        if not self._code.done():
            self._code.set_result(code)
            os.close(self._handle)

    def orphaned(self) -> None:
        """Nobody will tell its status any more: watch for the end alone."""
        loop = asyncio.get_running_loop()

        def gone() -> None:
            loop.remove_reader(self._handle)
            with suppress(ChildProcessError):  # it is ours where we are the first process, as in a container
                os.waitpid(self.pid, os.WNOHANG)
            self.ended(EX_TEMPFAIL)

        loop.add_reader(self._handle, gone)


class Nursery:
    """A `Starter`. `spare` starts processes when the nursery is dead."""

    def __init__(self, channel: socket.socket, pid: int, spare: Starter) -> None:
        self._channel = channel
        self._pid = pid
        self._spare = spare
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[Process]] = {}
        self._children: dict[int, Nursling] = {}
        self._listening = False
        self._dead = False

    @classmethod
    def fork(cls, modules: Sequence[str], unwanted: Iterable[socket.socket] = ()) -> Self:
        """
        Found a nursery that imports these modules, without the `unwanted` sockets of this process.

        Call it while this process has no other thread, no event loop and no open database. Raises `OSError`.
        """
        if threading.active_count() > 1:
            raise RuntimeError("a process with several threads cannot be forked safely")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            ours.close()
            for one in unwanted:
                one.close()
            live(theirs, modules)
        theirs.close()
        ours.setblocking(False)
        return cls(ours, pid, Executed())

    async def start(self, order: Order) -> Process:
        """See `Starter`."""
        if self._dead:
            return await self._spare.start(order)
        loop = asyncio.get_running_loop()
        if not self._listening:
            loop.add_reader(self._channel, self._hear)
            self._listening = True
        number = next(self._numbers)
        born: asyncio.Future[Process] = loop.create_future()
        self._asked[number] = born
        try:
            socket.send_fds(self._channel, [json.dumps([number, *words_of(order)]).encode()], order.descriptors)
            return await born
        finally:
            self._asked.pop(number, None)

    def close(self) -> None:
        """End the nursery, whose children should have ended; not within an event loop. Idempotent."""
        self._channel.close()
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def _hear(self) -> None:
        while not self._dead:
            try:
                data, handles, _, _ = socket.recv_fds(self._channel, LONGEST, 1, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except OSError:
                data, handles = b"", []
            if not data:
                self._lost()
                return
            kind, *words = json.loads(data)
            if kind == "born":
                self._born(words[0], words[1], handles)
            elif kind == "failed":
                self._failed(words[0], OSError(words[1], words[2]))
            else:
                self._ended(words[0], words[1])

    def _ended(self, pid: int, code: int) -> None:
        child = self._children.pop(pid, None)
        if child is not None:
            child.ended(code)

    def _born(self, number: int, pid: int, handles: Sequence[int]) -> None:
        if not handles:  # we have no descriptor left for it, and nothing else to signal it by
            with suppress(OSError):
                self._channel.send(json.dumps([UNWANTED, pid]).encode())
            self._failed(number, OSError(errno.EMFILE, "no descriptor is left for a new process"))
            return
        child = self._children[pid] = Nursling(pid, handles[0])
        asked = self._asked.get(number)
        if asked is None or asked.done():
            with suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)  # whoever wanted it has gone
        else:
            asked.set_result(child)

    def _failed(self, number: int, error: OSError) -> None:
        asked = self._asked.get(number)
        if asked is not None and not asked.done():
            asked.set_exception(error)

    def _lost(self) -> None:
        log.error("the nursery has ended: workers end and are started again, each with an interpreter of its own")
        self._dead = True
        asyncio.get_running_loop().remove_reader(self._channel)
        for number in list(self._asked):
            self._failed(number, ConnectionResetError(errno.ECONNRESET, "the nursery has ended"))
        for child in self._children.values():
            child.orphaned()
        self._children.clear()


def possible() -> bool:
    """Linux before 5.3 has no descriptors of processes, so there can be no nursery."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (OSError, AttributeError):
        return False
    return True
