"""
`sluice store list|test`: which stores there are and what waits for them; whether they answer as mail needs it.

`list` exits 0. `test` exits 0 when every address of every store asked for is fit for mail (and took the recipient),
1 otherwise.
"""

import asyncio
from collections import Counter
from typing import Annotated, Any

import typer

from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed, Exit
from router.admin.cli.output import Column, moment
from router.admin.cli.queue_options import control, places
from router.admin.cli.status_accounts import lanes_of
from router.admin.cli.store_probe import Finding, StoreProbe
from router.control import mailboxes, stores
from router.control.stores import Pause
from router.errors import NotFound, SpoolUnavailable
from router.model.address import Address, AddressSyntaxError, parse_address


def list_stores(ctx: typer.Context) -> int:
    """List stores: role, hosts, whether paused, mail that waits for them, mailboxes they are home of."""
    context = Context.of(ctx)
    settings, database = context.settings(), control(context)
    paused: dict[str, Pause] = {}
    homes: dict[str, int] = {}
    if database is not None:
        paused = {one.store: one for one in database.run_read(stores.paused)}
        homes = database.run_read(mailboxes.homes)
    queued, status = queued_by_lane(context)
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "role": store.role,
            "protocol": store.protocol,
            "hosts": [str(host) for host in store.hosts],
            "tls": store.tls,
            "paused": name in paused,
            "paused_since": moment(paused[name].at) if name in paused else None,
            "pause_reason": paused[name].reason if name in paused else "",
            "pause_actor": paused[name].actor if name in paused else "",
            "queued": queued.get(name, 0),
            "homes": homes.get(name, 0),
        }
        for name, store in settings.stores.items()
    ]
    context.out.document({"stores": rows})
    columns = ("name", "role", "protocol", "hosts", "tls", "paused", "queued", "homes")
    context.out.table(
        [Column(one, right=one in {"queued", "homes"}) for one in columns],
        [[row[one] for one in columns] for row in ({**row, "hosts": ", ".join(row["hosts"])} for row in rows)],
    )
    for name, one in paused.items():
        context.out.line(f"{name} is paused since {moment(one.at)} by {one.actor}: {one.reason}")
    return status


def try_stores(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="STORE", help="Stores to test.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All stores.")] = False,
    rcpt: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Also ask whether it takes this address.")] = None,
    step: Annotated[float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="For each reply.")] = 10.0,
) -> int:
    """Connect to every address of a store as a delivery would: EHLO or LHLO, TLS by its policy, RCPT; never DATA."""
    context = Context.of(ctx)
    known = context.settings().stores
    chosen = list(known) if everything else list(names or ())
    if not chosen:
        raise CommandFailed(Exit.USAGE, "which store?", f"name some, or say --all; there are {', '.join(known)}")
    for name in chosen:
        if name not in known:
            raise NotFound(f"there is no store {name}; there are {', '.join(known)}")
    findings = asyncio.run(_probe(context, chosen, _address(rcpt), step))
    context.out.document({"tests": [_json(one) for one in findings]})
    context.out.table(
        ["store", "address", "result", "tls", Column("seconds", right=True), "offers", "rcpt"],
        [
            (
                one.store,
                one.endpoint,
                one.trouble or "ok",
                one.tls or "none",
                f"{one.seconds:.3f}",
                " ".join(one.offers),
                one.rcpt,
            )
            for one in findings
        ],
    )
    for one in findings:
        for note in one.notes:
            context.out.note(f"{one.endpoint}: {note}")
    return Exit.OK if all(one.ok for one in findings) else Exit.FAILED


def queued_by_lane(context: Context) -> tuple[Counter[str], Exit]:
    """Queued recipients by lane over all spools; 74 when a spool could not be read."""
    total: Counter[str] = Counter()
    status = Exit.OK
    for place in places(context):
        try:
            total.update(lanes_of(place))
        except SpoolUnavailable as error:
            status = Exit.IO_ERROR
            context.out.note(f"not counted: {error}")
    return total, status


async def _probe(context: Context, names: list[str], rcpt: Address | None, step: float) -> list[Finding]:
    probe = StoreProbe(context.settings(), step)
    try:
        found = await asyncio.gather(*(probe.probe(name, rcpt) for name in names))
    finally:
        probe.close()
    return [one for findings in found for one in findings]


def _address(text: str | None) -> Address | None:
    if text is None:
        return None
    try:
        return parse_address(text)
    except AddressSyntaxError as error:
        raise CommandFailed(Exit.USAGE, f"{text!r} is no address: {error}") from error


def _json(one: Finding) -> dict[str, object]:
    return {
        "store": one.store,
        "address": one.endpoint,
        "ok": one.ok,
        "failed": one.trouble,
        "tls": one.tls,
        "seconds": round(one.seconds, 4),
        "offers": list(one.offers),
        "rcpt": str(one.rcpt) if one.rcpt else None,
        "rcpt_code": one.rcpt.code if one.rcpt else None,
        "notes": list(one.notes),
    }
