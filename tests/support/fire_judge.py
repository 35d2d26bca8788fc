"""
What operators' commands said, compared with what happened: the journal, the requests, the audit, the stores.

Each order has its own reason, which stands in its requests, in the audit, and with each row that it removed or parked.
On failure: assertions that name the order.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from router.control import audit, requests
from router.control.requests import Request
from router.ledger.arrival import Arrival
from router.model.outcome import JournalRow
from support.orders import QUEUE, Order
from support.site import Site

NOTED = {"delete": "removed", "park": "parked"}
Row = tuple[str, str, int]
"""Disposition, reason and spool of a row in the journal."""
EXITS = {0, 1, 64, 65, 69, 75}


class Judge:
    """Of one storm, when it is over."""

    def __init__(self, site: Site, orders: Sequence[Order], arrivals: Sequence[Arrival]) -> None:
        self._site = site
        self._orders = list(orders)
        self._arrivals = arrivals

    def _requests(self) -> list[Request]:
        def every(connection: object) -> list[Request]:
            return [one for at in range(1, 5000, 500) for one in requests.get(connection, range(at, at + 500))]  # type: ignore[arg-type]  # a Connection

        return self._site.office.database.run_read(every)

    async def answered(self, patience: float = 60.0) -> None:
        """Every request that was made known is carried out, whoever asked for it and whatever became of them."""
        end = time.monotonic() + patience
        while new := [one for one in self._requests() if one.state == requests.NEW]:
            assert time.monotonic() < end, f"not answered: {new}"
            await asyncio.sleep(0.1)

    def commands(self) -> None:
        """Each command's word against what is so."""
        asked: dict[str, list[Request]] = {}
        for one in self._requests():
            asked.setdefault(str(one.payload.get("reason", "")), []).append(one)
        journal = self._site.journal()
        noted = Counter((row.disposition, _reason(row), int(row.queue_id[:4])) for row in journal)
        audited = Counter(row.reason for row in self._audit())
        for order in self._orders:
            assert order.status in EXITS or order.status == -9, f"{order.words} ended with {order.status}"
            if order.verb in QUEUE:
                self._of_queue(order, asked.get(order.reason, []), noted, audited)

    def _of_queue(self, order: Order, asked: Sequence[Request], noted: Counter[Row], audited: Counter[str]) -> None:
        told = [one for one in asked if one.state != requests.DRAFT]
        assert not told or len(told) == len(asked), f"{order}: asked for in part"
        assert all(one.state == requests.DONE for one in told), f"{order}: {told}"
        answered = sum(int(one.answer["count"]) for one in told)
        said = order.document if order.status in {0, 75} else {}
        if order.verb in NOTED:
            self._of_rows(order, {one.spool for one in told}, answered, noted)
        if order.status == 0 and said and not said["as_owner"] and order.verb != "flush":
            assert said["changed"] == answered, f"{order}: {answered} answered"
        if told or order.reason in {reason for _, reason, _ in noted}:
            assert audited[order.reason] == 1, f"{order}: {audited[order.reason]} rows in the audit"

    def _of_rows(self, order: Order, workers: set[int], answered: int, noted: Counter[Row]) -> None:
        """Rows in the journal that name the order: as many as workers have answered, and as it made as owner itself."""
        rows = {spool: n for (what, why, spool), n in noted.items() if (what, why) == (NOTED[order.verb], order.reason)}
        theirs = sum(n for spool, n in rows.items() if spool in workers)
        assert theirs == answered, f"{order}: {theirs} in the journal, {answered} answered"
        ours = sum(rows.values()) - theirs
        if order.status == 0:
            assert order.document["changed"] == theirs + ours, f"{order}: {rows} in the journal"
        elif order.status == 75:
            assert order.document["changed"] <= theirs + ours, f"{order}: {rows} in the journal"

    def windows(self, people: Iterable[str]) -> list[tuple[str, float, float]]:
        """From each hold that returned 0 to the next command that may have ended it: (person, from, to)."""
        holds = [one for one in self._orders if one.verb == "hold" and one.status == 0]
        enders = [one for one in self._orders if one.verb in {"release", "move"}]
        found = []
        for person in people:
            about = [one for one in enders if one.concerns(person)]
            for hold in holds:
                if person not in hold.about or any(one.began < hold.ended < one.ended for one in about):
                    continue
                later = [one.began for one in about if one.began >= hold.ended]
                found.append((person, hold.ended, min(later, default=time.monotonic())))
        assert found, "nobody was on hold"
        return found

    def _audit(self) -> list[audit.AuditRow]:
        return list(self._site.office.database.run_read(lambda c: audit.rows(c, limit=5000)))


def _reason(row: JournalRow) -> str:
    """The reason of the order in `ACTOR: REASON`."""
    return row.note.rpartition(": ")[2]
