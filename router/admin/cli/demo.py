"""
`sluice demo`: the whole relay on loopback, people moved under load, and the balance at the end.

Exit status 0 only if the verdict is good; 1 otherwise, and the directory with spools, records and log is kept. 130:
interrupted, everything ended and removed.
"""

import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed, Exit
from router.admin.cli.output import Output

if TYPE_CHECKING:  # they bring SQLAlchemy and the ledger, which `sluice demo --help` does not need
    from router.demo.demo import Demo
    from router.demo.verdict import DemoVerdict

app = typer.Typer()

_NAP = 0.5
"""Seconds between two looks whether Ctrl-C came."""


@app.command()
def demo(
    ctx: typer.Context,
    users: Annotated[int, typer.Option(min=1, max=5000, help="People to be moved; a quarter more stay.")] = 200,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long mail comes in.")] = 15.0,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Workers of the relay.")] = 2,
    rate: Annotated[float, typer.Option(min=0, help="Messages a second; 0: as fast as it goes.")] = 100.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the relay running until Ctrl-C, keep its files.")] = False,
) -> int:
    """Move two hundred people between two stores while mail comes in, and account for every message."""
    from router.demo.demo import Options, run_demo  # noqa: PLC0415 - see above
    from router.demo.show import show_for  # noqa: PLC0415 - see above

    out = Context.of(ctx).out
    options = Options(users=users, seconds=seconds, workers=workers, rate=rate, keep=keep)
    try:
        verdict = run_demo(options, show_for(quiet=out.json), partial(_finish, out))
    except KeyboardInterrupt as error:
        raise CommandFailed(Exit.INTERRUPTED, "interrupted; every process was ended, the directory removed") from error
    except (RuntimeError, OSError) as error:
        raise CommandFailed(Exit.UNAVAILABLE, f"the demo could not run: {error}") from error
    return Exit.OK if verdict.ok else Exit.FAILED


def _finish(out: Output, demo: "Demo", verdict: "DemoVerdict") -> None:
    """Say how it ended; with `--keep` wait for Ctrl-C while the relay runs."""
    from router.demo.report import next_commands, report  # noqa: PLC0415 - see above

    stays = demo.stage.keep_files
    for line in report(verdict, demo.seconds):
        out.line(line)
    if stays:
        out.line(f"kept: {demo.stage.directory}")
    out.document(verdict.as_json(demo.seconds) | {"directory": str(demo.stage.directory) if stays else None})
    if demo.options.keep and verdict.ok:
        stay(next_commands(demo.stage.config, demo.cast.moved[-1].address), out.line)


def stay(lines: Iterable[str], say: Callable[[str], None]) -> None:
    """
    Say how to end it, and wait for that: a Ctrl-C counts from the first line on.

    In short sleeps: a signal that comes right before a long one (or before `pause`) would not end it.
    """
    with suppress(KeyboardInterrupt):
        for line in lines:
            say(line)
        sys.stdout.flush()
        while True:
            time.sleep(_NAP)
