"""
A worker's end of the control database: it follows changes, acknowledges them, and looks mailboxes up.

Guarantees: nothing here blocks the event loop; all database work happens in threads (`tail`, `lookups`). Callbacks run
on the loop. `join` returns a snapshot whose epoch is published already, and no change is handed over before the
caller's next await, so the snapshot can be applied first (barrier.md 5).

On failure: `on_outage(True)` while the control database cannot be followed, `on_outage(False)` when it can again;
`fenced` when it never will be: the worker must deliver nothing more and restart.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from sqlalchemy import Connection

from router.control import members
from router.control.alarm_box import AlarmBox
from router.control.database import ControlDatabase
from router.control.lookups import DatabaseLookups
from router.control.loop_port import Job, LoopClosed
from router.control.members import Member
from router.control.requests import Request
from router.control.tail import Tail
from router.errors import ControlUnavailable, SluiceError
from router.model.change import Blocking, ChangeSet, Ended, Snapshot
from router.model.mailbox import Found

OnChanges = Callable[[ChangeSet], Sequence[Blocking]]
OnOutage = Callable[[bool], None]
OnRequest = Callable[[Request], Awaitable[object]]
OnJoin = Callable[[Snapshot], Awaitable[Sequence[Blocking]]]


class Follower:
    """
    One per worker. `on_changes` is synchronous: it applies a change set and returns what it blocks.

    `on_join` is awaited between reading the snapshot and publishing it: after an unclean end it returns the
    deliveries in doubt (barrier.md 8). `on_request` does a request and returns its answer, a JSON value.
    """

    def __init__(
        self,
        database: ControlDatabase,
        *,
        on_changes: OnChanges,
        on_outage: OnOutage,
        on_request: OnRequest | None = None,
        on_join: OnJoin | None = None,
        node: str = "",
        poll: float = 0.02,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._on_changes = on_changes
        self._on_outage = on_outage
        self._on_request = on_request
        self._on_join = on_join
        self._node = node
        self._poll = poll
        self._wall = wall
        self._lookups = DatabaseLookups(database)
        self._reported: set[int] = set()
        self._tail: Tail | None = None
        self._early = AlarmBox()
        """Alarms from before the join was complete: that the database was restored is found while joining."""
        self._thread: threading.Thread | None = None
        self._incarnation = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    async def join(self, slot: int, incarnation: str, pid: int, spool_number: int, fingerprint: str) -> Snapshot:
        """
        Register, read, publish. Only while holding the lock of the slot's spool (barrier.md 9).

        Raises `ControlUnavailable`; a registration that was made stays and is taken over by the next attempt.
        """
        self._incarnation = incarnation
        member = Member(incarnation, self._node, slot, pid, spool_number, 0, fingerprint, self._wall())
        port = _Port(asyncio.get_running_loop(), self)
        tail = Tail(self._database, member, port, poll=self._poll, wall=self._wall)
        first: Future[Snapshot] = Future()
        go = threading.Event()
        body = partial(_body, tail, first, go)
        self._thread = threading.Thread(target=body, name=f"control-{slot}", daemon=True)
        self._thread.start()
        try:
            snapshot = await asyncio.wrap_future(first)
        except BaseException:
            tail.stop(clean=False)
            go.set()
            raise
        self._tail = tail
        tail.alarms.give_back(self._early.take())
        go.set()
        return snapshot

    @property
    def fenced(self) -> bool:
        """Whether this member was counted out, or the database replaced: deliver nothing more, restart."""
        return self._tail is not None and self._tail.fenced

    def ended(self, entries: Sequence[Ended]) -> None:
        """In-flight entries have ended. Those that never blocked anything cost nothing."""
        mine = [entry for entry in entries if entry.entry in self._reported]
        if mine and self._tail is not None:
            self._reported.difference_update(entry.entry for entry in mine)
            self._tail.ended.extend(mine)
            self._tail.wake()

    def raise_alarm(self, kind: str, key: str, text: str) -> None:
        """Raise an alarm; written within a second or so, counted when it comes again."""
        self._alarms.put(kind, key, text)

    def clear_alarm(self, kind: str, key: str) -> None:
        """Clear an alarm."""
        self._alarms.clear(kind, key)

    @property
    def _alarms(self) -> AlarmBox:
        return self._early if self._tail is None else self._tail.alarms

    async def reconfigure(self, fingerprint: str) -> None:
        """The worker runs another configuration from now on. Raises `ControlUnavailable`."""
        work = partial(members.reconfigure, incarnation=self._incarnation, fingerprint=fingerprint, now=self._wall())
        await self._write(work)

    async def adopt(self, spool_number: int, rows: Sequence[Blocking]) -> bool:
        """
        An orphaned spool was opened and its lock is held: count its dead owner out, with `rows` in doubt.

        True when that owner had not ended cleanly. From now on requests for that spool come here too.
        """
        self._reported.update(row.entry for row in rows)
        work = partial(
            members.adopt, incarnation=self._incarnation, spool=spool_number, rows=tuple(rows), now=self._wall()
        )
        unclean = bool(await self._write(work))
        if self._tail is not None:
            self._tail.spools.append(spool_number)
        return unclean

    async def find(self, keys: Sequence[str]) -> Found:
        """As `MailboxSource.find`."""
        return await self._lookups.find(keys)

    async def populated(self, domain: str) -> bool:
        """As `MailboxSource.populated`."""
        return await self._lookups.populated(domain)

    async def stop(self, *, clean: bool = True) -> None:
        """End following; `clean` says that nothing is in flight and removes the member. Never raises."""
        if self._tail is not None:
            self._tail.stop(clean=clean)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        for task in self._tasks:
            task.cancel()
        self._lookups.close()

    async def _write(self, work: Callable[[Connection], Any]) -> Any:
        if self._tail is None:
            raise ControlUnavailable("the member has not joined")
        result: Future[Any] = Future()

        def done(value: Any, error: BaseException | None) -> None:
            if not result.set_running_or_notify_cancel():
                return
            if error is None:
                result.set_result(value)
            else:
                result.set_exception(error)

        self._tail.jobs.append(Job(work, done))
        self._tail.wake()
        return await asyncio.wrap_future(result)

    def apply(self, found: ChangeSet) -> Sequence[Blocking]:
        """On the loop, called by the thread: apply changes, and remember which entries now block."""
        rows = tuple(self._on_changes(found))
        self._reported.update(row.entry for row in rows)
        return rows

    async def apply_snapshot(self, snapshot: Snapshot) -> Sequence[Blocking]:
        """On the loop, called by the thread before the snapshot is published."""
        rows = tuple(await self._on_join(snapshot)) if self._on_join is not None else ()
        self._reported.update(row.entry for row in rows)
        return rows

    def tell_outage(self, down: bool) -> None:
        """On the loop, called by the thread."""
        self._on_outage(down)

    def start_request(self, request: Request) -> None:
        """
        On the loop, called by the thread: do it in a task, the answer goes back through the thread.

        One at a time, in the order in which they were asked for: of two operators the later one has the last word.
        """
        task = asyncio.get_running_loop().create_task(self._answer(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: Request) -> None:
        value: object
        failed = False
        try:
            async with self._turn:
                value = await self._do(request)
        except SluiceError as error:
            value, failed = {"error": error.private or error.reply.text}, True
        except Exception as error:  # noqa: BLE001 - whoever waits for the answer must get one
            value, failed = {"error": type(error).__name__}, True
        if self._tail is not None:
            self._tail.answers.append((request.number, value, failed))
            self._tail.wake()

    async def _do(self, request: Request) -> object:
        if self._on_request is None:
            raise SluiceError("this worker takes no requests")
        return await self._on_request(request)


class _Port:
    """Carries calls of the thread to the loop and waits for what they return."""

    def __init__(self, loop: asyncio.AbstractEventLoop, follower: Follower) -> None:
        self._loop = loop
        self._follower = follower

    def joined(self, snapshot: Snapshot) -> Sequence[Blocking]:
        answer: Future[Sequence[Blocking]] = Future()

        def call() -> None:
            task = self._loop.create_task(self._follower.apply_snapshot(snapshot))
            task.add_done_callback(partial(_hand_over, answer))

        self._soon(call)
        return answer.result()

    def changed(self, found: ChangeSet) -> Sequence[Blocking]:
        answer: Future[Sequence[Blocking]] = Future()

        def call() -> None:
            try:
                answer.set_result(self._follower.apply(found))
            except BaseException as error:  # noqa: BLE001 - the thread decides; it must not wait for ever
                answer.set_exception(error)

        self._soon(call)
        return answer.result()

    def outage(self, down: bool) -> None:
        self._soon(partial(self._follower.tell_outage, down))

    def request(self, request: Request) -> None:
        self._soon(partial(self._follower.start_request, request))

    def _soon(self, call: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError as error:
            raise LoopClosed from error


def _hand_over(answer: Future[Sequence[Blocking]], task: asyncio.Task[Sequence[Blocking]]) -> None:
    if task.cancelled():
        answer.set_exception(LoopClosed())
        return
    error = task.exception()
    if error is None:
        answer.set_result(task.result())
    else:
        answer.set_exception(error)


def _body(tail: Tail, first: Future[Snapshot], go: threading.Event) -> None:
    """The thread: join, wait until the caller has the snapshot, follow."""
    try:
        snapshot = tail.join()
    except BaseException as error:  # noqa: BLE001 - handed to who awaits the join
        first.set_exception(error)
        return
    first.set_result(snapshot)
    go.wait()
    try:
        tail.run()
    except LoopClosed:
        return  # without a stop: the process is ending, and the row stays as after an unclean end
