"""`sluice release`: end holds. With `--to` the home changes in the same transaction."""

from typing import Annotated

import typer

from router.admin.cli import hold_ldif, hold_report
from router.admin.cli.context import Context
from router.admin.cli.exits import Exit
from router.admin.cli.hold_operations import operations
from router.admin.cli.hold_options import TIMEOUT, DryRun, Reason, Timeout, require_store
from router.admin.cli.user_selection import Addresses, AtHome, Everything, FromFile, InDomain, Wanted, select

app = typer.Typer()


@app.command()
def release(
    ctx: typer.Context,
    reason: Reason,
    addresses: Addresses = None,
    to: Annotated[str, typer.Option("--to", metavar="STORE", help="The new home; without it the home stays.")] = "",
    file: FromFile = None,
    domain: InDomain = "",
    home: AtHome = "",
    everything: Everything = False,
    timeout: Timeout = TIMEOUT,
    dry_run: DryRun = False,
) -> int:
    """
    End holds: kept and deferred mail is delivered at once, oldest first. Filters mean mailboxes on hold only.

    Exit 0: in force in every worker. 75: durable, but not in force everywhere in time; or the directory could not be
    written, then the mail is still held: run it again. 65: one could not be released.
    """
    context = Context.of(ctx)
    context.wait_for_locks(timeout)
    if to:
        require_store(context.settings().stores, to)
    keys = select(context, Wanted(addresses or (), file, domain, home, everything, held=True), fetch=True)
    if dry_run:
        return _preview(context, keys, to)
    results = operations(context).release(keys, context.act(reason), to or None, timeout=timeout)
    out = context.out
    for one in results:
        hold_report.tell_release(out, one)
    status = hold_report.release_status(results)
    out.document({"releases": [hold_report.release_json(one) for one in results], "exit": int(status)})
    return status


def _preview(context: Context, keys: list[str], to: str) -> int:
    found = hold_report.mailboxes_of(context, keys)
    rows = [(key, bool(found[key].hold), found[key].home, to or found[key].home) for key in keys if key in found]
    context.out.table(["mailbox", "on hold", "home", "home after"], rows)
    planned = [{"mailbox": key, "held": held, "home_before": old, "home": new} for key, held, old, new in rows]
    held = [key for key, held, _, _ in rows if held]
    written = hold_ldif.planned(context, held, release=True, to=to or None)
    hold_ldif.tell(context, written)
    context.out.document({"dry_run": True, "releases": planned, "directory": [one.json() for one in written]})
    return Exit.OK
