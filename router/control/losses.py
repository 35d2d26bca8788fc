"""
Domains that a directory seems to have lost: what must not be called unknown, and an operator's word that it is gone.

Guarantees: a loss is a row per source and domain. While it is open, absent addresses of the domain are doubtful
(promise 5). It ends when the people are back, or when an operator has accepted it, each with a DOMAIN change, so that
nobody keeps an answer from before.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from router.control import alarms, audit, changes, schema
from router.control.audit import Act
from router.errors import NotFound
from router.model.change import ChangeKind

_T = schema.directory_losses
_EVERY = select(_T).order_by(_T.c.source, _T.c.domain)
LOSS = "directory-loss"
"""Kind of the alarm; its key is the domain."""


@dataclass(frozen=True, slots=True)
class Loss:
    """How many of a domain's entries the last complete sweep did not find; `accepted` is what an operator granted."""

    source: str
    domain: str
    missing: int
    known: int
    since: float
    accepted: int = 0

    def __str__(self) -> str:
        return (
            f"{self.missing} of {self.known} entries of {self.domain} are not in the directory {self.source} any more"
        )


def every(connection: Connection, source: str = "") -> Sequence[Loss]:
    """All losses, of one source or of all, the accepted ones included."""
    return [Loss(*row) for row in connection.execute(_EVERY.where(_T.c.source == source) if source else _EVERY)]


def doubtful(connection: Connection, keys: Iterable[str]) -> dict[str, str]:
    """Those of the address keys whose domain is in doubt, and why."""
    lost = {one.domain: str(one) for one in every(connection) if not one.accepted}
    return {key: lost[domain] for key in keys if (domain := key.rpartition("@")[2]) in lost} if lost else {}


def put(connection: Connection, loss: Loss, now: float) -> None:
    """Open a loss, or bring its numbers up to date. An acceptance that the new number goes beyond is over."""
    same = (_T.c.source == loss.source) & (_T.c.domain == loss.domain)
    found = connection.execute(select(_T.c.accepted).where(same)).first()
    values = {"missing": loss.missing, "known": loss.known, "accepted": 0}
    if found is None:
        row = {"source": loss.source, "domain": loss.domain, "since": loss.since, **values}
        connection.execute(insert(_T).values(**row))
    else:
        connection.execute(update(_T).where(same).values(**values))
    if found is None or found.accepted:
        _tell(connection, loss.domain, now)
    alarms.raise_alarm(connection, LOSS, loss.domain, f"{loss}: nothing was removed", now)


def end(connection: Connection, source: str, domain: str, now: float) -> None:
    """The people are back, or what was accepted has been removed."""
    gone = delete(_T).where(_T.c.source == source, _T.c.domain == domain)
    if connection.execute(gone).rowcount:
        _tell(connection, domain, now)
        _clear(connection, domain, now)


def accept_loss(connection: Connection, domain: str, act: Act) -> Sequence[Loss]:
    """
    An operator says that the missing people of the domain are gone: absent addresses are unknown from now on, and
    the next complete sweep removes up to as many. Raises `NotFound` when nothing is missing there.
    """
    found = [one for one in every(connection) if one.domain == domain and not one.accepted]
    if not found:
        raise NotFound(f"no directory has lost people of {domain}")
    for one in found:
        same = (_T.c.source == one.source) & (_T.c.domain == domain)
        connection.execute(update(_T).where(same).values(accepted=one.missing))
        audit.write(
            connection, act, "directory accept-loss", domain, None, {"source": one.source, "missing": one.missing}
        )
    _tell(connection, domain, act.at)
    _clear(connection, domain, act.at)
    return found


def _clear(connection: Connection, domain: str, now: float) -> None:
    if not any(one.domain == domain and not one.accepted for one in every(connection)):
        alarms.clear_alarm(connection, LOSS, domain, now)


def _tell(connection: Connection, domain: str, now: float) -> None:
    changes.record(connection, changes.take_epoch(connection), ChangeKind.DOMAIN, [domain], now)
