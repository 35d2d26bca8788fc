"""
Message bodies: collected in memory up to a threshold, streamed to a file beyond it, read back after verification.

Guarantees: a file is fsynced, gets its final name, and its directory is fsynced before a row may name it (PRC7,
PRC17); it is unlinked only after the removal of that row has committed. Files are 0600, made with O_EXCL and opened
with O_NOFOLLOW. A body is read out only if its length and SHA-256 are those of its row (PRC8; SHA-256 measured
faster than BLAKE2b with the CPU's instructions, and an operator can check a file with `sha256sum`); of one larger than
`VERIFIED_FIRST` the last chunk is, so that it is read once, and a store is never given the whole of it. A session's
memory is bounded by the threshold or one buffer of `CHUNK` octets, in whatever pieces they come; of all sessions
together by `CROWDED` octets and two blocks of each, as from there on nobody collects a whole chunk. All file work
runs in a small pool of threads of its own, so slow lookups elsewhere cannot starve it.

On failure: `SpoolFull` or `SpoolUnavailable` while writing (nothing is retried on the descriptor, PRC18);
`BodyDamaged` while reading, for a missing, foreign, short or changed file. What a crash leaves behind is unlinked by
`reap` after an age gate, if no row names it.
"""

import asyncio
import errno
import hashlib
import os
import re
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from router.errors import BodyDamaged, SpoolFull, SpoolUnavailable
from router.model.envelope import QueuedMessage
from router.ports import Room
from router.spool.accepting import StoredBody
from router.spool.failures import NO_SPACE
from router.spool.schema import sync_directory

BLOCK = 64 * 1024
CHUNK = 256 * 1024
"""What is collected before a thread writes it, and what a thread reads at once."""
CROWDED = 8 * 1024 * 1024
"""Octets of all bodies in memory from which on a thread writes as soon as a block is there, not a whole chunk."""
VERIFIED_FIRST = 8 * 1024 * 1024
"""Octets up to which a body is read and verified before anything of it is handed out."""
BODIES = "bodies"
_TEMPORARY = "tmp-"
_NAME = re.compile(r"(?:tmp-)?[0-9a-f]{32}")
_SHORT = frozenset({errno.EMFILE, errno.ENFILE})
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
T = TypeVar("T")


class Bodies:
    """The directory `bodies/` of one spool and the threads that work in it."""

    def __init__(self, directory: Path, *, inline_limit: int, threads: int = 4, room: Room | None = None) -> None:
        self.directory = directory
        self.inline_limit = inline_limit
        self.room = room
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="spool-body")
        self.failure: Callable[[OSError], None] = lambda _error: None
        """Told of every I/O error that is neither a full disk nor a lack of descriptors."""
        self.held = 0
        """Octets of bodies that arrive, in memory now. Only the event loop's thread changes it."""

    def open(self) -> "SpoolBody":
        return SpoolBody(self)

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """Do file work in the pool; `OSError` becomes `SpoolFull` or `SpoolUnavailable`."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, *args)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise SpoolFull(f"writing a body: {error}") from error
            if error.errno not in _SHORT:
                self.failure(error)
            raise SpoolUnavailable(f"writing a body: {error}") from error

    def unlink_later(self, names: Sequence[str]) -> None:
        """Unlink files whose rows are gone; from any thread. A failure leaves an orphan to `reap`."""
        if names:
            self._pool.submit(_unlink_all, self.directory, tuple(names))

    async def check(self, message: QueuedMessage) -> None:
        """Raise `BodyDamaged` unless the file is what its row says; of a large one, unless it could be by its form."""
        await self._read(_verify if message.size <= VERIFIED_FIRST else _look, message)

    async def verify(self, message: QueuedMessage) -> None:
        """Raise `BodyDamaged` unless the file is what its row says, to the last octet."""
        await self._read(_verify, message)

    async def blocks(self, message: QueuedMessage, *, as_it_is: bool = False) -> AsyncIterator[bytes]:
        """
        The file in blocks of at most 64 KiB. Raises `BodyDamaged` in place of the last ones of a large one, or never,
        `as_it_is`.
        """
        descriptor = await self._read(_open_checked, message)
        digest = hashlib.sha256() if message.size > VERIFIED_FIRST and not as_it_is else None
        try:
            offset, held_back = 0, b""
            while chunk := await self._read_chunk(descriptor, offset, digest):
                offset += len(chunk)
                for start in range(0, len(held_back), BLOCK):
                    yield held_back[start : start + BLOCK]
                held_back = chunk
            _compare(message, digest)
            for start in range(0, len(held_back), BLOCK):
                yield held_back[start : start + BLOCK]
        finally:
            os.close(descriptor)

    async def head(self, message: QueuedMessage, limit: int) -> bytes:
        """The first octets of a file that was verified as a whole."""
        await self._read(_verify, message)
        return await self._read(_read_head, message, limit)

    async def reap(self, named: Callable[[str], bool], age: float) -> int:
        """Unlink own files older than `age` seconds that no row names; foreign files stay. How many went."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, _reap, self.directory, named, age)

    def close(self) -> None:
        """Wait for unlinks and writes under way; blocks."""
        self._pool.shutdown(wait=True)

    async def _read(self, work: Callable[..., T], message: QueuedMessage, *args: object) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, self.directory, message, *args)
        except FileNotFoundError as error:
            raise BodyDamaged(f"{message.queue_id}: the body file is missing") from error
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENXIO, errno.EISDIR}:
                raise BodyDamaged(f"{message.queue_id}: the body is no regular file") from error
            raise SpoolUnavailable(f"{message.queue_id}: reading the body: {error}") from error

    async def _read_chunk(self, descriptor: int, offset: int, digest: "hashlib._Hash | None") -> bytes:
        """
        A cancelled caller may close the descriptor while the thread reads: pread cannot eat anything from a socket
        that got the same number meanwhile.
        """
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, _read_at, descriptor, offset, digest)
        except OSError as error:
            raise SpoolUnavailable(f"reading a body: {error}") from error


class SpoolBody:
    """A message while it arrives (`BodyWriter`). One task uses it; nothing of it survives `discard`."""

    __slots__ = ("_bodies", "_buffer", "_file", "_finished", "size")

    def __init__(self, bodies: Bodies) -> None:
        self.size = 0
        self._bodies = bodies
        self._buffer = bytearray()  # not a list of blocks: a client may send octets one by one
        self._file: _GrowingFile | None = None
        self._finished = False

    async def write(self, block: bytes) -> None:
        """Append one block. Raises `SpoolUnavailable`, `SpoolFull`; then only `discard` makes sense."""
        self._buffer += block
        self.size += len(block)
        self._bodies.held += len(block)
        if self._file is None:
            if self.size <= self._bodies.inline_limit:
                return
            self._file = _GrowingFile(self._bodies.directory, self._bodies.room)
        if len(self._buffer) >= (CHUNK if self._bodies.held <= CROWDED else BLOCK):
            await self._flush()

    async def finish(self) -> StoredBody:
        """Make it ready for its row: in memory, or durable under its final name. What fails here is given up."""
        if self._file is None:
            return StoredBody(self.size, bytes(self._taken()))
        try:
            await self._flush()
            digest = await self._bodies.run(self._file.commit)
        except BaseException:
            # No row names it, and a full disk needs its space (and we its descriptor) before the reaper comes by.
            await self.discard()
            raise
        self._finished = True
        return StoredBody(self.size, None, self._file.name, digest)

    async def discard(self) -> None:
        """Give it up; idempotent, never raises. A body that `finish` made durable stays for its row."""
        self._taken()
        if self._file is not None and not self._finished:
            self._bodies._pool.submit(self._file.abandon)  # noqa: SLF001 - the two classes are one unit
            self._finished = True

    def _taken(self) -> bytearray:
        """What is in the buffer, which begins anew, and does not count any more."""
        taken, self._buffer = self._buffer, bytearray()
        self._bodies.held -= len(taken)
        return taken

    async def _flush(self) -> None:
        if self._file is None or not self._buffer:
            return
        chunk = self._taken()
        self._bodies.held += len(chunk)  # until it is written
        try:
            await self._bodies.run(self._file.append, chunk)
        finally:
            self._bodies.held -= len(chunk)


class _GrowingFile:
    """
    A body file under its temporary name. Methods block and run in the pool, one at a time: a cancelled session may
    give the file up while a thread still writes to it, and must not close the descriptor under its hands.
    """

    def __init__(self, directory: Path, room: Room | None) -> None:
        self.name = uuid4().hex
        self._directory = directory
        self._room = room
        self._descriptor: int | None = None
        self._digest = hashlib.sha256()
        self._abandoned = False
        self._lock = threading.Lock()

    def append(self, data: bytearray) -> None:
        with self._lock:
            self._append(data)

    def commit(self) -> bytes:
        """fsync, close (its error counts, too), final name, directory fsync. The digest."""
        with self._lock:
            return self._commit()

    def abandon(self) -> None:
        """Close and unlink what there is. A failure leaves a temporary file to the reaper."""
        with self._lock:
            self._abandon()

    def _append(self, data: bytearray) -> None:
        if self._abandoned:
            raise OSError(errno.EBADF, "the body was given up")
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self._temporary, flags, 0o600)
            if self._room is not None and not self._room(self._descriptor, favoured=True):
                # Deliveries, which would empty the spool, need the rest.
                raise OSError(errno.EMFILE, "descriptors are running out")
        self._digest.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _commit(self) -> bytes:
        if self._descriptor is None:
            raise OSError(errno.EBADF, "the body was given up")
        descriptor, self._descriptor = self._descriptor, None
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._temporary.rename(self._directory / self.name)
        sync_directory(self._directory)
        return self._digest.digest()

    def _abandon(self) -> None:
        self._abandoned = True
        descriptor, self._descriptor = self._descriptor, None
        try:
            if descriptor is not None:
                os.close(descriptor)
            self._temporary.unlink(missing_ok=True)
            (self._directory / self.name).unlink(missing_ok=True)
        except OSError:
            return

    @property
    def _temporary(self) -> Path:
        return self._directory / f"{_TEMPORARY}{self.name}"


def verify_inline(message: QueuedMessage, body: bytes | None) -> bytes:
    """The body out of a row, if it is what was received. Raises `BodyDamaged`."""
    # A damaged row may say that the body is text, or a number.
    if not isinstance(body, bytes) or len(body) != message.size or hashlib.sha256(body).digest() != message.digest:
        raise BodyDamaged(f"{message.queue_id}: the body does not match its checksum")
    return body


def _open_checked(directory: Path, message: QueuedMessage) -> int:
    if not _NAME.fullmatch(message.body_file):
        raise BodyDamaged(f"{message.queue_id}: impossible body file name")
    descriptor = os.open(directory / message.body_file, _READ_FLAGS)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size != message.size:
        os.close(descriptor)
        raise BodyDamaged(f"{message.queue_id}: the body file is not the one that was written")
    return descriptor


def _verify(directory: Path, message: QueuedMessage) -> None:
    descriptor = _open_checked(directory, message)
    try:
        digest = hashlib.sha256()
        while chunk := os.read(descriptor, 4 * BLOCK):
            digest.update(chunk)
    finally:
        os.close(descriptor)
    _compare(message, digest)


def _look(directory: Path, message: QueuedMessage) -> None:
    os.close(_open_checked(directory, message))


def _read_at(descriptor: int, offset: int, digest: "hashlib._Hash | None") -> bytes:
    chunk = os.pread(descriptor, CHUNK, offset)
    if digest is not None:
        digest.update(chunk)
    return chunk


def _compare(message: QueuedMessage, digest: "hashlib._Hash | None") -> None:
    if digest is not None and digest.digest() != message.digest:
        raise BodyDamaged(f"{message.queue_id}: the body does not match its checksum")


def _read_head(directory: Path, message: QueuedMessage, limit: int) -> bytes:
    descriptor = _open_checked(directory, message)
    try:
        return os.pread(descriptor, limit, 0)
    finally:
        os.close(descriptor)


def _unlink_all(directory: Path, names: Sequence[str]) -> None:
    for name in names:
        if _NAME.fullmatch(name):
            try:
                (directory / name).unlink(missing_ok=True)
            except OSError:
                continue


def _reap(directory: Path, named: Callable[[str], bool], age: float) -> int:
    count, limit = 0, time.time() - age
    with os.scandir(directory) as entries:
        for entry in entries:
            if not _NAME.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                continue
            if entry.stat(follow_symlinks=False).st_mtime < limit and not named(entry.name):
                Path(entry.path).unlink(missing_ok=True)
                count += 1
    return count
