"""
`sluice status`: the state of the relay in one screen.

Exit status 1 while an alarm is open, no worker runs, a directory is not followed, the accounts do not balance, a
spool cannot be read or one is set aside because it is damaged, so that a monitor can run it; 0 otherwise. 69 without a
control database (what the spools say is shown).
"""

import typer

from router.admin.cli import status_document, status_screen
from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed, Exit, explain
from router.admin.cli.queue_options import places
from router.admin.cli.status_view import gather
from router.control.database import ControlDatabase
from router.errors import ControlUnavailable

app = typer.Typer()


@app.command()
def status(ctx: typer.Context) -> int:
    """Show alarms, queue, balance, workers, stores and holds. Exit status 1: an alarm is open, or no worker runs."""
    context = Context.of(ctx)
    settings = context.settings()
    database, why = _database(context)
    view = gather(database, places(context), why, settings.ldaps, settings.state_dir / "spool")
    context.out.document(status_document.document(view, settings))
    status_screen.show(context.out, view, settings)
    if view.control is None:
        return Exit.UNAVAILABLE
    return Exit.OK if view.sound else Exit.FAILED


def _database(context: Context) -> tuple[ControlDatabase | None, str]:
    try:
        return context.database(), ""
    except (CommandFailed, ControlUnavailable) as error:
        return None, explain(error).message
