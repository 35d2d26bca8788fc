"""
`sluice queue flush|requeue|delete|park|unpark`: changing the queue.

Guarantees: nothing acts on the whole queue without `--all`; `delete` and `park` take a reason, and `delete` asks
first: on a terminal the person, elsewhere `--yes` must have been said. What was counted is what is changed. The
command returns when the owner of each spool has committed the change.

On failure: 75 when a worker has not answered in time (the request is durable and will be carried out), or when some of
it was being delivered and was left alone; 1 when a worker answered that it could not, 64 for a command that would act
on everything or was not confirmed.
"""

import sys
from dataclasses import dataclass, replace
from typing import Annotated

import typer

from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed, Exit
from router.admin.cli.queue_change import FLUSH, Change, Done, Extent, carry_out, measure
from router.admin.cli.queue_options import Conditions, control, filtered, places, select
from router.admin.cli.queue_select import Selection, SpoolPlace
from router.spool.place import REMOVED

All = Annotated[bool, typer.Option("--all", help="Mean the whole queue, if no other condition is given.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit.")]
NeededReason = Annotated[str, typer.Option(help="Why; kept in the audit and with the mail.", show_default=False)]
Timeout = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for the workers' answers.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be changed, and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_DID = {
    FLUSH: "due now",
    "requeue": "queued anew",
    "delete": "removed",
    "park": "parked",
    "unpark": "queued anew",
}


@dataclass(frozen=True, slots=True)
class Order:
    """How a change was asked for."""

    everything: bool
    reason: str
    timeout: float
    dry_run: bool


@filtered
def flush(
    ctx: typer.Context,
    everything: All = False,
    reason: Reason = "",
    timeout: Timeout = 60.0,
    dry_run: DryRun = False,
    *,
    conditions: Conditions,
) -> int:
    """Try queued mail now instead of at its next time. Attempts and age are not changed."""
    if conditions.state not in {None, "queued"}:
        raise CommandFailed(Exit.USAGE, "only queued mail can be flushed", "`sluice queue requeue` takes any state")
    if conditions.batch is not None:
        raise CommandFailed(Exit.USAGE, "mail of a batch is held", "`sluice release` ends holds")
    order = Order(everything, reason, timeout, dry_run)
    return _change(Context.of(ctx), FLUSH, conditions, order)


@filtered
def requeue(
    ctx: typer.Context,
    everything: All = False,
    reason: Reason = "",
    timeout: Timeout = 60.0,
    dry_run: DryRun = False,
    *,
    conditions: Conditions,
) -> int:
    """Queue mail anew, from any state: routed again and due now, with a retry clock that starts again."""
    return _change(Context.of(ctx), "requeue", conditions, Order(everything, reason, timeout, dry_run))


@filtered
def delete(
    ctx: typer.Context,
    reason: NeededReason,
    everything: All = False,
    timeout: Timeout = 60.0,
    dry_run: DryRun = False,
    yes: Yes = False,
    *,
    conditions: Conditions,
) -> int:
    """Remove mail for good; nobody is told. A copy of each message with its envelope is kept beside the spool."""
    order = Order(everything, reason, timeout, dry_run)
    return _change(Context.of(ctx), "delete", conditions, order, confirmed=yes)


@filtered
def park(
    ctx: typer.Context,
    reason: NeededReason,
    everything: All = False,
    timeout: Timeout = 60.0,
    dry_run: DryRun = False,
    *,
    conditions: Conditions,
) -> int:
    """Set mail aside: it is not tried until `unpark` or `requeue`."""
    return _change(Context.of(ctx), "park", conditions, Order(everything, reason, timeout, dry_run))


@filtered
def unpark(
    ctx: typer.Context,
    everything: All = False,
    reason: Reason = "",
    timeout: Timeout = 60.0,
    dry_run: DryRun = False,
    *,
    conditions: Conditions,
) -> int:
    """Queue parked mail anew; mail in other states is left alone."""
    if conditions.state not in {None, "parked"}:
        raise CommandFailed(Exit.USAGE, "only parked mail can be unparked")
    return _change(Context.of(ctx), "unpark", conditions, Order(everything, reason, timeout, dry_run))


def require_conditions(selection: Selection, everything: bool) -> None:
    """Nothing acts on everything by accident."""
    if selection.everything and not everything:
        remedy = "name messages by queue-id or by a filter, or say --all"
        raise CommandFailed(Exit.USAGE, "this would be the whole queue", remedy)


def _change(context: Context, kind: str, conditions: Conditions, order: Order, *, confirmed: bool = True) -> int:
    if kind in {"delete", "park"} and not order.reason.strip():
        raise CommandFailed(Exit.USAGE, "the reason is empty", "say --reason")
    context.wait_for_locks(order.timeout)
    database = control(context, changing=True)
    selection = select(conditions, database)
    require_conditions(selection, order.everything)
    selection = _narrow(kind, selection)
    here = places(context)
    extent = measure(here, selection)
    if order.dry_run or not extent.recipients:
        _tell(context, kind, extent, Done(), here, dry_run=order.dry_run)
        return Exit.OK
    if not confirmed:
        _confirm(extent, everything=conditions == Conditions())
    change = Change(kind, selection, context.act(order.reason, restored=True))
    with context.out.progress(f"{kind}: {_extent(extent)}"):
        done = carry_out(here, change, extent, database, order.timeout)
    _tell(context, kind, extent, done, here)
    if done.errors:
        return Exit.FAILED
    return Exit.TRY_AGAIN if done.pending or done.under_way else Exit.OK


def _narrow(kind: str, selection: Selection) -> Selection:
    state = {FLUSH: "queued", "unpark": "parked"}.get(kind)
    return selection if state is None else replace(selection, wanted=replace(selection.wanted, state=state))


def _confirm(extent: Extent, *, everything: bool) -> None:
    what = _extent(extent)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandFailed(Exit.USAGE, f"this would remove {what}, and nobody is here to be asked", "say --yes")
    if everything:
        typed = typer.prompt(f"Remove the WHOLE queue, {what}? Type `all` to confirm", default="", err=True)
        if typed.strip() != "all":
            raise typer.Abort
        return
    typer.confirm(f"Remove {what}?", abort=True, err=True)


def _extent(extent: Extent) -> str:
    people, mail = extent.recipients, extent.messages
    return f"{people} recipient{'s' * (people != 1)} of {mail} message{'s' * (mail != 1)}"


def _tell(
    context: Context, kind: str, extent: Extent, done: Done, here: list[SpoolPlace], *, dry_run: bool = False
) -> None:
    copies = [str(one.directory / REMOVED) for one in here if kind == "delete" and one.number in extent.last]
    out = context.out
    out.document(
        {
            "verb": f"queue {kind}",
            "dry_run": dry_run,
            "messages": extent.messages,
            "recipients": extent.recipients,
            "changed": done.count,
            "under_way": done.under_way,
            "pending": [{"spool": spool, "requests": count} for spool, count in sorted(done.pending.items())],
            "errors": done.errors,
            "as_owner": done.as_owner,
            "copies": copies,
        }
    )
    what = _extent(extent)
    if dry_run:
        out.line(f"would be {_DID[kind]}: {what}")
        return
    out.line(f"{done.count} {_DID[kind]}, of {what}" if extent.recipients else "nothing matches")
    if done.count:
        for directory in copies:
            out.line(f"a copy of each message and its envelope is in {directory}")
    for spool, count in sorted(done.pending.items()):
        out.note(f"spool {spool:04d}: {count} requests are durable, and not answered yet; they will be carried out")
    if done.under_way:
        out.note(
            f"left alone: {done.under_way} that a store is taking at this moment; run it again for what comes back"
        )
    for error in done.errors:
        out.note(error)
