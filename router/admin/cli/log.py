"""
`sluice log [ID|ADDRESS|MESSAGE-ID]`: what became of messages, with the next hops' own replies.

Reads the journals of this node's spools, beside running workers or without any. Exit status 0; 1 when nothing was
found for a name; 74 when a spool cannot be read. `--follow` goes on until it is interrupted.
"""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Annotated

import typer

from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed, Exit
from router.admin.cli.log_format import as_json, as_line
from router.admin.cli.log_rows import Following, Wanted, history, is_queue_id
from router.admin.cli.log_waiting import waiting
from router.admin.cli.output import Output
from router.admin.cli.queue_options import places
from router.model.outcome import JournalRow
from router.settings.values import BadValue, parse_duration
from router.spool.offline import view

POLL = 0.5
"""Seconds between two looks of `--follow`."""

TAIL = 10
"""Rows that `--follow` begins with, as tail(1) does."""

app = typer.Typer()


@app.command()
def log(
    ctx: typer.Context,
    what: Annotated[
        str, typer.Argument(metavar="ID|ADDRESS", help="Queue-id, recipient or mailbox, or Message-ID; none: all.")
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens from now on.")] = False,
    since: Annotated[str, typer.Option(metavar="TIME", help="Not older than this: 90s, 4h, 5d.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="The newest so many.")] = 200,
) -> int:
    """
    Show what became of messages: deliveries, holds, returns, removals, with the next hop's own reply.

    A history of one name ends with what is still in the queue and the last reply it got.
    """
    context = Context.of(ctx)
    here, wanted = places(context), Wanted(_name(what), _since(since))
    if not follow:
        found = [*history(here, wanted, limit), *waiting(here, wanted, time.time(), limit)]
        show(context.out, found)
        if what and not found:
            context.out.note(f"nothing is known of {what}")
        return Exit.OK if found or not what else Exit.FAILED
    with ExitStack() as stack:
        opened = [stack.enter_context(view(place.directory)) for place in wanted.places(here)]
        following = Following(opened, wanted)
        show(context.out, following.before(min(limit, TAIL)))
        follow_on(context.out, following)
    return Exit.OK


def follow_on(out: Output, following: Following, sleep: Callable[[float], None] = time.sleep) -> None:
    """Show what comes until Ctrl-C."""
    try:
        while True:
            show(out, following.look())
            sleep(POLL)
    except KeyboardInterrupt:
        return


def show(out: Output, rows: Sequence[JournalRow]) -> None:
    """Write rows and let the reader have them."""
    for row in rows:
        out.record(as_json(row))
        out.line(as_line(row))
    sys.stdout.flush()


def _name(what: str) -> str:
    text = what.strip()
    return text.upper() if is_queue_id(text.upper()) else text


def _since(text: str) -> float:
    try:
        return time.time() - parse_duration(text) if text else 0.0
    except BadValue as error:
        raise CommandFailed(Exit.USAGE, str(error), error.remedy) from error
