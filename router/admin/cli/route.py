"""
`sluice route`: explain what becomes of mail to an address, without sending any and without a daemon.

The exit status is that of a person's question "is anything wrong with these addresses": 0 all would be delivered or
held, 1 some cannot be resolved now, 2 some would be refused.

JSON: `{"routes": [{address, class, mailbox, status, status_source, moved_at, protected_until, hold, extension, steps,
action, store, next_hop, protocol, rcpt, paused, reply, loop, verdict, remarks, source, live, dn, attributes, age_s,
followed_at, fault, forwards, keeps, routing_address, chain}], "at", "exit"}`. `action` is one of deliver, forward,
hold, refuse, later; `verdict` one of ok, unresolved, refused.
"""

import asyncio
import time
from typing import Annotated

import typer

from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed, Exit
from router.admin.cli.output import moment
from router.admin.cli.route_answer import AS_HOLD, Explained, Question
from router.admin.cli.route_ask import explain_all
from router.admin.cli.route_time import parse_moment
from router.admin.cli.user_selection import FromFile, read_addresses
from router.model.address import AddressSyntaxError, parse_address
from router.model.mailbox import Status

app = typer.Typer()
_STATES = (AS_HOLD, *(status.value for status in Status))


@app.command()
def route(
    ctx: typer.Context,
    addresses: Annotated[
        list[str] | None,
        typer.Argument(metavar="ADDR...", help="Addresses; @FILE reads them from a file, - from standard input."),
    ] = None,
    file: FromFile = None,
    at: Annotated[str, typer.Option("--at", metavar="TIME", help="As of then: 22:30, 2026-05-01T08:00, +2h.")] = "",
    as_status: Annotated[
        str, typer.Option("--as", metavar="STATUS", help=f"As if the mailbox were {', '.join(_STATES)}.")
    ] = "",
    sender: Annotated[str, typer.Option("--from", metavar="SENDER", help="As mail from this sender; <> is none.")] = "",
    probe: Annotated[bool, typer.Option("--probe", help="Ask stores where only they could tell (one RCPT).")] = False,
    steps: Annotated[bool, typer.Option("--steps", help="All steps of each address, not one line each.")] = False,
) -> int:
    """
    Explain what becomes of mail to an address: normalised address, class, mailbox, status, route, next hop, loops.

    Exit 0: all would be delivered or held. 1: some cannot be resolved now. 2: some would be refused.
    """
    context = Context.of(ctx)
    texts = list(dict.fromkeys(read_addresses(addresses or (), file)))
    if not texts:
        raise CommandFailed(Exit.USAGE, "no address is given", "name addresses, @FILE, or - for standard input")
    now = parse_moment(at, time.time()) if at else time.time()
    question = Question(now, _state(as_status), _sender(sender), probe)
    found = asyncio.run(explain_all(context, texts, question))
    status = _status(found)
    _tell(context, found, long=steps or len(found) == 1)
    context.out.document({"routes": [one.json() for one in found], "at": moment(now), "exit": int(status)})
    return status


def _state(text: str) -> str:
    if text and text not in _STATES:
        raise typer.BadParameter(f"--as {text} is none of {', '.join(_STATES)}")
    return text


def _sender(text: str) -> str:
    """The sender as it would stand in MAIL FROM; '' when none was given, `<>` for the null sender."""
    if text in {"", "<>"}:
        return text
    try:
        return parse_address(text).wire
    except AddressSyntaxError as error:
        raise typer.BadParameter(f"--from {text}: {error}") from error


def _status(found: list[Explained]) -> Exit:
    verdicts = {one.verdict for one in found}
    if "refused" in verdicts:
        return Exit.REFUSED
    return Exit.FAILED if "unresolved" in verdicts else Exit.OK


def _tell(context: Context, found: list[Explained], *, long: bool) -> None:
    out = context.out
    if not long:
        out.table(
            ["address", "class", "mailbox", "status", "action", "next hop"],
            [(one.address, one.kind, one.mailbox, one.status, one.action, one.next_hop or one.reply) for one in found],
        )
        return
    for place, one in enumerate(found):
        if place:
            out.line()
        for step in one.steps:
            out.line(step)
        out.fields(one.fields())
        for link in one.chain:
            out.line(link.text())
        for remark in one.remarks:
            out.line(f"note: {remark}")
