"""
Holds that come from a directory: opened when somebody sets the status there, ended when somebody sets it back.

Guarantees: such a hold is a hold like any other, with its barrier and its `quiet_at`, and with origin 'directory'.
It is opened whatever the status was before: who set it did so knowing the entry. Its end is recorded like a release,
towards the home that the directory has then; the mail is routed anew.
"""

from collections.abc import Sequence

from sqlalchemy import insert, update

from router.control import alarms, audit, holds, schema
from router.control.audit import Act
from router.control.desired import Desired
from router.control.turn import Turn
from router.errors import Conflict
from router.model.mailbox import Hold, Mailbox, Status

_H = schema.holds
ACTOR = "directory"


def begin(turn: Turn, opening: Sequence[tuple[str, Desired, Status]]) -> None:
    """Open a hold of each of these mailboxes, which have none; the status is the one behind the hold."""
    rows = []
    for key, wanted, behind in opening:
        act = Act(ACTOR, _reason(wanted), turn.now)
        row = {
            "mailbox": key,
            "opened_at": turn.now,
            "opened_epoch": turn.epoch,
            "reason": act.reason,
            "actor": act.actor,
            "origin": schema.DIRECTORY,
            "home_before": wanted.home,
            "status_before": behind.value,
        }
        rows.append(row)
        audit.write(turn.connection, act, "hold", key, None, {"home": wanted.home, "status": behind.value})
    if rows:
        turn.connection.execute(insert(_H), rows)
        turn.tell_mailboxes(key for key, _, _ in opening)


def end(turn: Turn, mailbox: Mailbox, wanted: Desired) -> None:
    """End the hold of a mailbox: its home is the directory's, and its status too."""
    _end(turn, mailbox, _reason(wanted), wanted.home, wanted.status(mailbox.status))


def hand_over(turn: Turn, mailbox: Mailbox, heir: str) -> None:
    """End the hold of a mailbox that goes by another name now: whether mail is held is a matter of that one."""
    _end(turn, mailbox, f"{mailbox.source}: it is {heir} now", mailbox.home, mailbox.status)


def _end(turn: Turn, mailbox: Mailbox, reason: str, home: str, status: Status) -> None:
    hold = mailbox.hold
    if hold is None:
        return
    closing = {"closed_at": turn.now, "closed_epoch": turn.epoch, "closed_by": ACTOR, "released_to": home}
    turn.connection.execute(update(_H).where(_H.c.number == hold.number).values(**closing))
    moved = schema.mailboxes
    turn.connection.execute(update(moved).where(moved.c.key == mailbox.key).values(moved_at=turn.now))
    alarms.clear_alarm(turn.connection, holds.OVERDUE, mailbox.key, turn.now)
    before = {"home": mailbox.home, "status": mailbox.status.value, "hold": hold.number}
    after = {"home": home, "status": status.value, "hold": None}
    audit.write(turn.connection, Act(ACTOR, reason, turn.now), "release", mailbox.key, before, after)
    turn.tell_mailboxes([mailbox.key])


def refuse(key: str, hold: Hold) -> Conflict:
    """Why a command cannot end such a hold, and what does."""
    return Conflict(
        f"{key} is on hold because of its status in the directory ({hold.reason}): set the status back there"
    )


def _reason(wanted: Desired) -> str:
    return f"{wanted.source}: status {wanted.standing} at {wanted.dn}"
