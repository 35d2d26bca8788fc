"""
`sluice serve`: the relay in the foreground, until SIGTERM.

The daemon is imported when it is started, and loads the configuration itself: it reads it again at each SIGHUP.
"""

from importlib import import_module

import typer

from router.admin.cli.context import Context, require_readable

app = typer.Typer()


@app.command()
def serve(ctx: typer.Context) -> int:
    """
    Run the relay in the foreground: SIGTERM drains and ends it, SIGHUP reads the configuration again.

    Exit status 78: the configuration is faulty; 71: it cannot start or go on (a port, the disk, the control database).
    """
    context = Context.of(ctx)
    require_readable(context.config)
    return int(import_module("router.daemon.serve").serve(context.config))
