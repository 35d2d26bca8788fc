"""
`sluice status --json`: the document. Members may be added, none is renamed or removed.

Pure. Counts are recipients; times are local time with its offset, or null.
"""

from dataclasses import asdict
from typing import Any

from router.admin.cli.output import moment
from router.admin.cli.status_accounts import SpoolAccount, add, missing, undelivered
from router.admin.cli.status_view import ControlView, Followed, OpenHold, StatusView, alive
from router.control.members import Member
from router.settings.schema import Settings
from router.spool.accounts import Totals
from router.spool.setting_aside import Aside


def document(view: StatusView, settings: Settings) -> dict[str, Any]:
    """Everything that `status` knows."""
    control = view.control
    return {
        "hostname": settings.hostname,
        "at": moment(view.now),
        "sound": view.sound,
        "running": control.running if control else None,
        "queue": queue(view),
        "accounts": totals(view.mail),
        "own": totals(view.own),
        "balanced": not view.missing,
        "spools": [_spool(one) for one in view.spools],
        "set_aside": [_aside(one) for one in view.aside],
        "unreadable": list(view.unreadable),
        "epoch": control.epoch if control else None,
        "configuration": _configuration(control, settings),
        "workers": [_worker(one, control.epoch) for one in control.members] if control else [],
        "stores": stores(view, settings),
        "holds": [_hold(one, view.now) for one in control.holds] if control else [],
        "directories": [_directory(one) for one in control.directories] if control else [],
        "alarms": [_alarm(one) for one in control.alarms] if control else [],
    }


def queue(view: StatusView) -> dict[str, Any]:
    """What is not delivered yet, notices of our own included."""
    both = add(view.mail, view.own)
    return {
        "total": undelivered(both),
        "queued": both.queued,
        "held": both.held,
        "parked": both.parked,
        "quarantined": both.quarantined,
        "messages": sum(one.stats.messages for one in view.spools),
        "octets": sum(one.stats.octets for one in view.spools),
        "oldest_queued": moment(min((t for one in view.spools if (t := one.stats.oldest_queued)), default=None)),
        "oldest_held": moment(min((t for one in view.spools if (t := one.stats.oldest_held)), default=None)),
    }


def totals(found: Totals) -> dict[str, int]:
    """The accounts; `missing` is accepted and opened less all the others."""
    return {**asdict(found), "missing": missing(found)}


def _spool(one: SpoolAccount) -> dict[str, Any]:
    return {
        "number": one.place.number,
        "directory": str(one.place.directory),
        "mail": totals(one.counts.mail),
        "own": totals(one.counts.own),
        "balanced": not one.missing,
        "messages": one.stats.messages,
        "octets": one.stats.octets,
        "database_octets": one.stats.database_octets,
    }


def _aside(one: Aside) -> dict[str, Any]:
    return {"number": one.number, "directory": str(one.directory), "at": moment(one.at), "recovered": one.recovered}


def _configuration(control: ControlView | None, settings: Settings) -> dict[str, Any]:
    published = control.fingerprint if control else ""
    return {"file": settings.fingerprint, "in_force": published, "same": published == settings.fingerprint}


def _worker(one: Member, epoch: int) -> dict[str, Any]:
    return {
        "node": one.node,
        "slot": one.slot,
        "pid": one.pid,
        "alive": alive(one),
        "spool": one.spool,
        "applied": one.applied,
        "behind": max(epoch - one.applied, 0),
        "joined_at": moment(one.joined_at),
    }


def stores(view: StatusView, settings: Settings) -> list[dict[str, Any]]:
    """Each store of the configuration with its counts, in the order of the file."""
    paused = view.control.paused if view.control else {}
    homes = view.control.homes if view.control else {}
    return [
        {
            "name": name,
            "role": store.role,
            "paused": name in paused,
            "pause_reason": paused[name].reason if name in paused else "",
            "queued": sum(one.queued.get(name, 0) for one in view.spools),
            "delivered": sum(one.delivered.get(name, 0) for one in view.spools),
            "homes": homes.get(name, 0),
        }
        for name, store in settings.stores.items()
    ]


def _hold(one: OpenHold, now: float) -> dict[str, Any]:
    return {
        "number": one.hold.number,
        "mailbox": one.mailbox,
        "batch": one.hold.batch,
        "target": one.hold.target,
        "reason": one.hold.reason,
        "actor": one.hold.actor,
        "opened_at": moment(one.hold.opened_at),
        "deadline": moment(one.hold.deadline),
        "overdue": one.overdue(now),
        "quiet_at": moment(one.hold.quiet_at),
        "waiting_for": [str(cause) for cause in one.waiting],
    }


def _directory(one: Followed) -> dict[str, Any]:
    return {
        "name": one.state.source,
        "followed": one.age.followed,
        "followed_at": moment(one.state.followed_at),
        "age_s": None if one.age.seconds is None else round(one.age.seconds, 3),
        "swept_at": moment(one.state.swept_at),
        "people": one.state.people,
        "fault": one.age.fault,
        "remark": one.remark,
    }


def _alarm(one: Any) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "key": one.key,
        "text": one.text,
        "first": moment(one.first),
        "last": moment(one.last),
        "count": one.count,
    }
