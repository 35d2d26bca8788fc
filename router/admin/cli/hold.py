"""
`sluice hold`: open holds, or join open ones, and wait until the mailboxes are quiet at Sluice.

Guarantees: exit 0 means what the barrier proved, and nothing less. A hold that is not quiet in time stays open.
"""

import time
from typing import Annotated

import typer

from router.admin.cli import hold_ldif, hold_report
from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed, Exit
from router.admin.cli.hold_operations import operations
from router.admin.cli.hold_options import TIMEOUT, DryRun, Reason, Timeout, duration
from router.admin.cli.user_selection import (
    Addresses,
    AtHome,
    Everything,
    FromFile,
    InDomain,
    Wanted,
    postmaster_mailbox,
    select,
)
from router.control.holds import Terms
from router.control.operations import HoldResult

app = typer.Typer()


@app.command()
def hold(
    ctx: typer.Context,
    reason: Reason,
    addresses: Addresses = None,
    file: FromFile = None,
    domain: InDomain = "",
    home: AtHome = "",
    everything: Everything = False,
    max_: Annotated[
        float | None,
        typer.Option("--max", parser=duration, metavar="TIME", help="Deadline; passing it raises an alarm, no more."),
    ] = None,
    timeout: Timeout = TIMEOUT,
    dry_run: DryRun = False,
) -> int:
    """
    Keep the mail of mailboxes here, and wait until no delivery of theirs is under way.

    Exit 0: quiet at Sluice, copy now. 75: the hold stands, but is not quiet in time, or the directory could not be
    told of it; run it again to go on. 1: ended meanwhile by somebody else. 65: an address cannot be held, and nothing
    was changed for it.
    """
    context = Context.of(ctx)
    context.wait_for_locks(timeout)
    wanted = Wanted(addresses or (), file, domain, home, everything)
    keys = _without_postmaster(context, wanted, select(context, wanted, fetch=True))
    if dry_run:
        return _preview(context, keys)
    longest = context.settings().safety.max_hold if max_ is None else max_
    terms = Terms(deadline=time.time() + longest)
    try:
        with context.out.progress("waiting for the barrier"):
            results = operations(context).hold(keys, context.act(reason), terms, timeout=timeout)
    except KeyboardInterrupt as error:
        remedy = "run the same command again to go on waiting, or end them by `sluice release`"
        raise CommandFailed(Exit.INTERRUPTED, "interrupted; holds that were opened stay open", remedy) from error
    return _report(context, results)


def _without_postmaster(context: Context, wanted: Wanted, keys: list[str]) -> list[str]:
    """A filter passes the postmaster's mailbox over; naming it is an error that the operation reports."""
    if not wanted.by_filter:
        return keys
    postmaster = postmaster_mailbox(context)
    if postmaster in keys:
        context.out.note(f"{postmaster} is the postmaster's mailbox and is never held")
    return [key for key in keys if key != postmaster]


def _preview(context: Context, keys: list[str]) -> int:
    found = hold_report.mailboxes_of(context, keys)
    rows = [(key, found[key].home, "join" if found[key].hold else "open") for key in keys if key in found]
    context.out.table(["mailbox", "home", "would"], rows)
    written = hold_ldif.planned(context, keys, hold=True)
    hold_ldif.tell(context, written)
    context.out.document(
        {
            "dry_run": True,
            "holds": [{"mailbox": key, "home": home, "would": would} for key, home, would in rows],
            "directory": [one.json() for one in written],
        }
    )
    return Exit.OK


def _report(context: Context, results: list[HoldResult]) -> int:
    out = context.out
    found = hold_report.mailboxes_of(context, [one.key for one in results])
    status = hold_report.hold_status(results)
    for one in results:
        hold_report.tell_hold(out, one, found.get(one.key))
    remark = hold_report.OUT_OF_SIGHT if any(one.quiet and not one.unwritten for one in results) else ""
    if remark:
        out.line(remark)
    out.document(
        {
            "holds": [hold_report.hold_json(one, found.get(one.key)) for one in results],
            "remark": remark,
            "exit": int(status),
        }
    )
    return status
