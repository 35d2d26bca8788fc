"""
What operators ask of a worker through the control database: flush, requeue, delete, park and unpark.

Guarantees: only the spool's owner acts, and every act may be asked for twice. The answer is a JSON object with
`count`. On failure: `SluiceError`, whose text becomes the answer.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from router.control.requests import Request
from router.errors import SluiceError
from router.spool.desk import Desk
from router.spool.finding import QueueFilter


class RequestDesk:
    """Executes requests; `nudge` tells the feeder that due times have changed, `wake` ends a lane's rest."""

    def __init__(self, desk: Desk, nudge: Callable[[], None], wake: Callable[[str], None]) -> None:
        self._desk = desk
        self._nudge = nudge
        self._wake = wake

    async def __call__(self, request: Request) -> object:
        """Do it; the answer."""
        payload: Mapping[str, Any] = request.payload if isinstance(request.payload, dict) else {}
        numbers = [int(number) for number in payload.get("numbers", ())]
        actor, reason = str(payload.get("actor", request.created_by)), str(payload.get("reason", ""))
        match request.kind:
            case "flush":
                wanted = queue_filter(payload.get("filter", {}))
                count = await self._desk.flush(wanted)
                if wanted.lane:
                    self._wake(wanted.lane)
            case "requeue":
                count = await self._desk.requeue(numbers)
            case "delete":
                count = await self._desk.remove(numbers, actor=actor, reason=reason)
            case "park":
                count = await self._desk.park(numbers, actor=actor, reason=reason)
            case "unpark":
                count = await self._desk.unpark(numbers)
            case _:
                raise SluiceError(f"this version does not know the request {request.kind!r}")
        self._nudge()
        return {"count": count}


def queue_filter(values: Mapping[str, Any]) -> QueueFilter:
    """A filter from its JSON form; unknown names are errors. Raises `SluiceError`."""
    known = {field.name for field in fields(QueueFilter)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise SluiceError(f"this version does not know the filter {unknown[0]!r}")
    return QueueFilter(**values)
