"""`sluice store`: the backends that take mail. The verbs are in the modules beside this one."""

import typer

from router.admin.cli import store_pause, store_show

app = typer.Typer(no_args_is_help=True, help="List, test, pause and resume stores.")
app.command("list")(store_show.list_stores)
app.command("test")(store_show.try_stores)
app.command("pause")(store_pause.pause)
app.command("resume")(store_pause.resume)
