"""`sluice queue`: mail that is accepted and not delivered yet. The verbs are in the modules beside this one."""

import typer

from router.admin.cli import queue_act, queue_export, queue_look, queue_recover

app = typer.Typer(no_args_is_help=True, help="List, show, retry and remove mail that is not delivered yet.")
app.command("list")(queue_look.list_queue)
app.command("show")(queue_look.show)
app.command("cat")(queue_look.cat)
app.command("shape")(queue_look.shape)
app.command("flush")(queue_act.flush)
app.command("requeue")(queue_act.requeue)
app.command("delete")(queue_act.delete)
app.command("park")(queue_act.park)
app.command("unpark")(queue_act.unpark)
app.command("export")(queue_export.export)
app.command("recover")(queue_recover.recover)
