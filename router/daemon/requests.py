"""
What operators ask of a worker through the control database: flush, requeue, delete, park and unpark.

Guarantees: only the spool's owner acts, and every act may be asked for twice; one that was carried out before its owner
died is answered, not done again (a flush is). What is removed or parked is called back from delivery first, so that it
is not delivered all the same. The answer is a JSON object with `count`, and `under_way`: recipients left alone because
a store has them at this moment.

On failure: `SluiceError`, whose text becomes the answer.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import fields
from typing import Any

from router.control.requests import Request
from router.deliver.recall import Recalled
from router.errors import SluiceError
from router.spool.desk import Desk
from router.spool.finding import QueueFilter


class RequestDesk:
    """
    Executes requests, one at a time. `nudge` tells the feeder that due times have changed, `wake` ends a lane's rest,
    `recall` is around a change of mail that must not be delivered any more.
    """

    def __init__(
        self,
        desk: Desk,
        nudge: Callable[[], None],
        wake: Callable[[str], None],
        recall: Callable[[list[int]], AbstractAsyncContextManager[Recalled]],
    ) -> None:
        self._desk = desk
        self._nudge = nudge
        self._wake = wake
        self._recall = recall

    async def __call__(self, request: Request) -> object:
        """Do it; the answer."""
        payload: Mapping[str, Any] = request.payload if isinstance(request.payload, dict) else {}
        numbers = [int(number) for number in payload.get("numbers", ())]
        once = f"{request.number}@{request.created_at!r}"
        under_way = 0
        match request.kind:
            case "flush":
                wanted = queue_filter(payload.get("filter", {}))
                count = await self._desk.flush(wanted)
                if wanted.lane:
                    self._wake(wanted.lane)
            case "requeue":
                count = await self._desk.requeue(numbers, once=once)
            case "delete" | "park":
                count, under_way = await self._take_away(request, numbers, payload, once)
            case "unpark":
                count = await self._desk.unpark(numbers, once=once)
            case _:
                raise SluiceError(f"this version does not know the request {request.kind!r}")
        self._nudge()
        return {"count": count, "under_way": under_way}

    async def _take_away(
        self, request: Request, numbers: Sequence[int], payload: Mapping[str, Any], once: str
    ) -> tuple[int, int]:
        """How many were changed, and how many left alone: both as they were when it was done, if it was."""
        actor, reason = str(payload.get("actor", request.created_by)), str(payload.get("reason", ""))
        work = self._desk.remove if request.kind == "delete" else self._desk.park
        numbers = sorted(set(numbers))
        if (made := await self._desk.made(once)) is not None:
            return made.changed, len(numbers) - made.asked
        async with self._recall(numbers) as recalled:
            count = await work(recalled.ours, actor=actor, reason=reason, once=once)
            return count, len(recalled.under_way)


def queue_filter(values: Mapping[str, Any]) -> QueueFilter:
    """A filter from its JSON form; unknown names are errors. Raises `SluiceError`."""
    known = {field.name for field in fields(QueueFilter)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise SluiceError(f"this version does not know the filter {unknown[0]!r}")
    return QueueFilter(**values)
