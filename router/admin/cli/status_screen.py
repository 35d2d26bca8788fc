"""
`sluice status` for people: one screen, the worst first.

Lists are cut at `ROWS` with a line that says how many more there are; `--json` has all of them.
"""

from collections.abc import Sequence

from router.admin.cli.output import Column, Output, moment, octets, shown, span
from router.admin.cli.status_accounts import add, undelivered
from router.admin.cli.status_document import queue, stores
from router.admin.cli.status_view import OpenHold, StatusView, alive
from router.report.alarms import AlarmKind
from router.settings.schema import Settings
from router.spool.accounts import Totals

ROWS = 15
_KINDS = frozenset(kind.value for kind in AlarmKind)
_PLACES = ("delivered", "queued", "held", "parked", "quarantined", "returned", "removed", "merged", "forwarded")


def show(out: Output, view: StatusView, settings: Settings) -> None:
    """The whole screen."""
    if view.control is not None and not view.control.running:
        out.line("NO WORKER IS RUNNING: nothing is accepted or delivered")
    for text in view.unreadable:
        out.line(f"CANNOT BE READ: {text}")
    for one in view.lost_sight:
        out.line(
            f"SPOOL {one.number:04d} IS DAMAGED and set aside since {moment(one.at)}: its mail is not counted below"
        )
        out.line(f"  sluice queue recover {one.directory}")
    _alarms(out, view)
    _queue(out, view)
    _balance(out, view)
    _workers(out, view, settings)
    _stores(out, view, settings)
    _directories(out, view)
    _holds(out, view)


def _alarms(out: Output, view: StatusView) -> None:
    found = view.control.alarms if view.control else ()
    if not found:
        out.line("no alarms" if view.control else "alarms are not known")
        return
    out.line(f"{len(found)} ALARM{'' if len(found) == 1 else 'S'}")
    for one in found[:ROWS]:
        out.line(f"  {one.kind} {one.key}: {_joined(one.text)} ({one.count} times, last {moment(one.last)})")
        if one.kind in _KINDS:
            out.line(f"    {AlarmKind(one.kind).remedy}")
    _more(out, found)


def _joined(text: str) -> str:
    """Several problems, which come one a line with their remedies indented, on one line."""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


def _queue(out: Output, view: StatusView) -> None:
    both, numbers = add(view.mail, view.own), queue(view)
    oldest = min((t for one in view.spools if (t := one.stats.oldest_queued)), default=None)
    old = f", oldest queued {span(view.now - oldest)}" if oldest is not None else ""
    out.line(
        f"queue: {undelivered(both)} recipients: {both.queued} queued, {both.held} held, {both.parked} parked, "
        f"{both.quarantined} quarantined; {numbers['messages']} messages, {octets(numbers['octets'])}{old}"
    )


def _balance(out: Output, view: StatusView) -> None:
    parts = [("mail", view.mail), *([("notices", view.own)] if view.own.accepted else [])]
    for name, totals in parts:
        out.line(f"{name}: {equation(totals)}")
    for one in view.spools:
        if one.missing:
            out.line(f"  DOES NOT BALANCE: spool {one.place.number:04d} by {one.missing} recipients")


def equation(totals: Totals) -> str:
    """`accepted 5 = delivered 4 + held 1`; `accepted 5 + opened 1 = …` where forwards have opened recipients."""
    terms = [f"{name} {count}" for name in _PLACES if (count := getattr(totals, name)) or name == "delivered"]
    opened = f" + opened {totals.opened}" if totals.opened else ""
    return f"accepted {totals.accepted}{opened} {'=' if totals.balanced else '≠'} {' + '.join(terms)}"


def _workers(out: Output, view: StatusView, settings: Settings) -> None:
    if view.control is None or not view.control.members:
        return
    out.line()
    epoch = view.control.epoch
    rows = [
        (one.slot, one.pid, _life(alive(one)), f"{one.spool:04d}", one.applied, max(epoch - one.applied, 0))
        for one in view.control.members
    ]
    right = [Column(name, right=True) for name in ("worker", "pid")]
    out.table([*right, "process", "spool", Column("epoch", right=True), Column("behind", right=True)], rows)
    if view.control.fingerprint != settings.fingerprint:
        out.line("the configuration file is not the one in force; reload the service to take it over")


def _life(lives: bool | None) -> str:
    return "on another host" if lives is None else "running" if lives else "GONE"


def _stores(out: Output, view: StatusView, settings: Settings) -> None:
    out.line()
    rows = [
        (
            one["name"],
            one["role"],
            f"paused: {one['pause_reason']}" if one["paused"] else "open",
            one["queued"],
            one["delivered"],
            one["homes"],
        )
        for one in stores(view, settings)
    ]
    numbers = [Column(name, right=True) for name in ("queued", "delivered", "homes")]
    out.table(["store", "role", "state", *numbers], rows)


def _directories(out: Output, view: StatusView) -> None:
    """A line for each: how it is followed, and what follows when it is not."""
    found = view.control.directories if view.control else ()
    if found:
        out.line()
    for one in found:
        swept = f"swept {moment(one.state.swept_at)}" if one.state.swept_at else "not swept yet"
        people = "1 entry" if one.state.people == 1 else f"{one.state.people} entries"
        out.line(f"directory {one.state.source}: {one.age.text()}; {people}, {swept}")
        if one.remark:
            out.line(f"  {one.remark}")


def _holds(out: Output, view: StatusView) -> None:
    holds = view.control.holds if view.control else ()
    out.line()
    if not holds:
        out.line("no holds")
        return
    urgent = sorted(holds, key=lambda one: (not one.overdue(view.now), one.hold.quiet_at is not None))
    rows = [
        (
            one.mailbox,
            one.hold.batch,
            span(view.now - one.hold.opened_at),
            f"OVERDUE {moment(one.hold.deadline)}" if one.overdue(view.now) else moment(one.hold.deadline),
            _barrier(one),
        )
        for one in urgent[:ROWS]
    ]
    out.table(["held mailbox", "batch", "for", "until", "barrier"], rows, title=f"{len(holds)} holds")
    _more(out, holds)


def _barrier(one: OpenHold) -> str:
    if one.hold.quiet_at is not None:
        return "quiet"
    return "waits: " + ("; ".join(shown(str(cause)) for cause in one.waiting[:2]) or "for the next look")


def _more(out: Output, found: Sequence[object]) -> None:
    if len(found) > ROWS:
        out.line(f"... and {len(found) - ROWS} more; --json has all of them")
