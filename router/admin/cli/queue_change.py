"""
Changing the queue: flush, requeue, delete, park and unpark, carried out by who owns each spool.

Only the owner of a spool may write it. Where a worker owns it, the change is written down as request rows in the
control database and the answers are waited for; where nobody does, this command takes the lock and acts as owner.

Guarantees: what was counted before is what is changed: mail that arrives meanwhile is left alone. The audit and all
requests of a command are made known in one transaction, before the wait begins: a command that was killed has asked
for everything or for nothing. Every change may be asked for twice. Memory is bounded by one chunk.

On failure: `ControlUnavailable` when a worker must be asked and cannot, `CommandFailed` (77) when this account may not
act as owner; nothing was changed then. Requests without an answer in time are
reported as pending, never as done.
"""

import asyncio
import os
import pwd
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice

from sqlalchemy import Connection

from router.admin.cli.exits import CommandFailed, Exit
from router.admin.cli.queue_select import Selection, SpoolPlace, entries, filters
from router.control import audit, requests
from router.control.audit import Act
from router.control.database import ControlDatabase, DatabaseBusy
from router.control.requests import Request
from router.errors import ControlUnavailable, SpoolUnavailable
from router.spool.desk import Desk
from router.spool.finding import QueueFilter
from router.spool.lock import LOCK, SpoolLock, SpoolLocked
from router.spool.offline import view
from router.spool.spool import Spool

CHUNK = 500
"""Recipients in one request: a worker does it in one go between deliveries."""
FLUSH = "flush"
_BECOMES: Mapping[str, dict[str, str]] = {
    FLUSH: {"state": "queued", "due": "now"},
    "requeue": {"state": "queued"},
    "delete": {"state": "removed"},
    "park": {"state": "parked"},
    "unpark": {"state": "queued"},
}
"""What the mail is after each change, for the audit; what it was and how it was chosen stands before."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What a change is about: counted in one pass, and up to which recipient of each spool."""

    messages: int = 0
    recipients: int = 0
    last: Mapping[int, int] = field(default_factory=dict)
    """Highest matching recipient number by spool; spools without a match are absent."""


@dataclass(frozen=True, slots=True)
class Change:
    """What to do with what, and who wants it why. `kind` is one that `RequestDesk` knows."""

    kind: str
    selection: Selection
    act: Act


@dataclass(slots=True)
class Done:
    """
    What came of a change. `count` are recipients, and so are `under_way`: left alone, for a store has them at this
    moment. `pending` requests had no answer in time, by spool.
    """

    count: int = 0
    under_way: int = 0
    pending: dict[int, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    as_owner: list[int] = field(default_factory=list)
    """Spools without a worker, where this command was the owner."""


Payload = dict[str, object]


def measure(places: Sequence[SpoolPlace], selection: Selection) -> Extent:
    """Count what matches; reads only. Raises `SpoolUnavailable`."""
    counted, recipients = 0, 0
    last: dict[int, int] = {}
    for place in selection.spools(places):
        with view(place.directory) as opened:
            former = ""
            for entry in entries(opened, selection):
                recipients += 1
                counted += entry.queue_id != former
                former = entry.queue_id
                last[place.number] = max(entry.number, last.get(place.number, 0))
    return Extent(counted, recipients, last)


def carry_out(
    places: Sequence[SpoolPlace], change: Change, extent: Extent, database: ControlDatabase | None, timeout: float
) -> Done:
    """Do it in every spool that has a match, and wait up to `timeout` seconds for the workers' answers."""
    done = Done()
    concerned = [place for place in change.selection.spools(places) if place.number in extent.last]
    with ExitStack() as stack:
        ours, theirs = _divide(concerned, stack)
        if theirs and database is None:
            raise ControlUnavailable(f"{theirs[0][1]}, and the control database that reaches it is not there")
        asked: dict[int, int] = {}
        if database is not None and concerned:
            for place, _ in theirs:
                asked.update(dict.fromkeys(_draft(place, change, extent.last[place.number], database), place.number))
            database.run_write(partial(_make_known, change=change, extent=extent, drafts=list(asked)))
        for place, lock in ours:
            try:
                done.count += asyncio.run(_act(place, lock, change, extent.last[place.number]))
                done.as_owner.append(place.number)
            except SpoolUnavailable as error:
                done.errors.append(f"spool {place.number:04d}: {error}")
    if database is not None:
        _wait(database, asked, timeout, done)
    return done


def _divide(
    places: Sequence[SpoolPlace], stack: ExitStack
) -> tuple[list[tuple[SpoolPlace, SpoolLock]], list[tuple[SpoolPlace, SpoolLocked]]]:
    """Spools whose lock is ours now (until the stack ends), and those that a worker owns. Nothing is changed yet."""
    ours: list[tuple[SpoolPlace, SpoolLock]] = []
    theirs: list[tuple[SpoolPlace, SpoolLocked]] = []
    for place in places:
        lock = SpoolLock(place.directory)
        try:
            _take(place, lock)
        except SpoolLocked as locked:
            theirs.append((place, locked))
            continue
        stack.callback(lock.release)
        ours.append((place, lock))
        require_owner(place)
    return ours, theirs


def _take(place: SpoolPlace, lock: SpoolLock) -> None:
    """A lock file that is not there yet must not become root's: the worker could never open it."""
    if not (place.directory / LOCK).exists():
        require_owner(place)
    lock.acquire()


def require_owner(place: SpoolPlace) -> None:
    """A spool without a worker is changed by its account only. Raises `CommandFailed` (77)."""
    owner = place.directory.stat().st_uid
    if owner == os.geteuid():
        return
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = f"#{owner}"
    raise CommandFailed(
        Exit.NO_PERMISSION,
        f"no worker runs for spool {place.number:04d}, and only {name} may change it then",
        f"run the command as that account (`runuser -u {name} -- sluice ...`), or start the service",
    )


def lane_filters(lanes: Sequence[str], wanted: QueueFilter) -> list[QueueFilter]:
    """A flush by lanes: a worker ends the rest of a next hop only when its lane is named."""
    if wanted.lane is not None or wanted.queue_id is not None:
        return [wanted]
    return [*(replace(wanted, lane=lane) for lane in lanes if lane), wanted]


def filter_json(wanted: QueueFilter) -> dict[str, object]:
    """The conditions of a filter that are set, as a request carries them."""
    return {name: value for name, value in asdict(wanted).items() if value != getattr(QueueFilter(), name)}


async def _act(place: SpoolPlace, lock: SpoolLock, change: Change, last: int) -> int:
    """Be the owner; the lock is ours."""
    spool = await Spool.open(place.directory, place.number, lock=lock)
    try:
        if change.kind == FLUSH:
            return sum([await spool.desk.flush(wanted) for wanted in filters(change.selection)])
        count = 0
        with closing(_chunks(place, change.selection, last)) as chunks:
            while numbers := await asyncio.to_thread(next, chunks, None):
                count += await _apply(spool.desk, change, numbers)
        return count
    finally:
        await spool.close()


async def _apply(desk: Desk, change: Change, numbers: Sequence[int]) -> int:
    match change.kind:
        case "requeue":
            return await desk.requeue(numbers)
        case "delete":
            return await desk.remove(numbers, actor=change.act.actor, reason=change.act.reason)
        case "park":
            return await desk.park(numbers, actor=change.act.actor, reason=change.act.reason)
        case "unpark":
            return await desk.unpark(numbers)
        case _:
            raise ValueError(change.kind)


def _draft(place: SpoolPlace, change: Change, last: int, database: ControlDatabase) -> list[int]:
    """Draft the requests of one spool; their numbers."""
    return [
        database.run_write(partial(_create, spool=place.number, change=change, payload=payload))
        for payload in _payloads(place, change, last)
    ]


def _create(connection: Connection, spool: int, change: Change, payload: Payload) -> int:
    actor, now = change.act.actor, time.time()
    return requests.create(connection, spool, change.kind, payload, actor, now, state=requests.DRAFT)


def _make_known(connection: Connection, change: Change, extent: Extent, drafts: Sequence[int]) -> None:
    _audit(connection, change, extent)
    requests.ask(connection, drafts, time.time())


def _payloads(place: SpoolPlace, change: Change, last: int) -> Iterator[Payload]:
    if change.kind == FLUSH:
        with view(place.directory) as opened:
            lanes = [share.name for share in opened.counts().by_lane if share.state == "queued"]
        for wanted in filters(change.selection):
            for one in lane_filters(lanes, wanted):
                yield {"filter": filter_json(one)}
        return
    for numbers in _chunks(place, change.selection, last):
        yield {"numbers": numbers, "actor": change.act.actor, "reason": change.act.reason}


def _chunks(place: SpoolPlace, selection: Selection, last: int) -> Generator[list[int], None, None]:
    with view(place.directory) as opened:
        matching = (entry.number for entry in entries(opened, selection) if entry.number <= last)
        while chunk := list(islice(matching, CHUNK)):
            yield chunk


def _wait(
    database: ControlDatabase,
    asked: Mapping[int, int],
    timeout: float,
    done: Done,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Gather the answers to these requests (number to spool) until all are there or the time is over."""
    deadline, pause = clock() + timeout, 0.01
    waiting = dict(asked)
    while waiting:
        for answer in _look(database, sorted(waiting)[:CHUNK], deadline - clock()):
            del waiting[answer.number]
            _note(answer, done)
        if waiting and clock() >= deadline:
            break
        if waiting:
            sleep(pause)
            pause = min(pause * 1.5, 0.25)
    for spool in waiting.values():
        done.pending[spool] = done.pending.get(spool, 0) + 1


def _look(database: ControlDatabase, numbers: Sequence[int], left: float) -> list[Request]:
    """Answers that are there; none while the database is locked."""
    try:
        return database.run_read(partial(_answered, numbers=numbers), max(0.0, left))
    except DatabaseBusy:
        return []


def _answered(connection: Connection, numbers: Sequence[int]) -> list[Request]:
    return [one for one in requests.get(connection, numbers) if one.state != requests.NEW]


def _note(request: Request, done: Done) -> None:
    answer = request.answer if isinstance(request.answer, dict) else {}
    if request.state == requests.DONE:
        done.count += int(answer.get("count", 0))
        done.under_way += int(answer.get("under_way", 0))
    else:
        done.errors.append(f"spool {request.spool:04d}: {answer.get('error', 'failed without a word')}")


def _audit(connection: Connection, change: Change, extent: Extent) -> None:
    ids = change.selection.ids
    asked = filter_json(change.selection.wanted) | ({"ids": list(ids[:100])} if ids else {})
    before = {"messages": extent.messages, "recipients": extent.recipients} | asked
    key = ids[0] if len(ids) == 1 else ""
    audit.write(connection, change.act, f"queue {change.kind}", key, before, _BECOMES[change.kind])
