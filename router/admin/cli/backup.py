"""`sluice backup FILE`: a consistent copy of the control database while mail flows. It holds no mail."""

from pathlib import Path
from typing import Annotated

import typer

from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed, Exit
from router.admin.cli.output import octets
from router.control.backup import backup as copy_database
from router.control.database import ControlDatabase
from router.errors import ControlUnavailable

app = typer.Typer()


@app.command()
def backup(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The copy; one that exists is replaced, when complete.")],
) -> None:
    """
    Copy the control database: mailboxes, homes, holds, audit. The copy has mode 0600.

    Exit 73: the copy cannot be made, and nothing is left under the name.
    """
    context = Context.of(ctx)
    database = context.database()
    _require_place(database, file)
    try:
        size = copy_database(database, file)
    except ControlUnavailable as error:
        raise CommandFailed(Exit.CANNOT_CREATE, f"{file}: {error.private}") from error
    context.out.line(f"{file}: {octets(size)}")
    context.out.document({"file": str(file), "octets": size})


def _require_place(database: ControlDatabase, file: Path) -> None:
    """Never the database itself: the copy would take its place under running workers."""
    if not file.absolute().parent.is_dir():
        raise CommandFailed(Exit.CANNOT_CREATE, f"{file}: there is no directory {file.absolute().parent}")
    if file.is_dir():
        raise CommandFailed(Exit.CANNOT_CREATE, f"{file}: is a directory", "name a file in it")
    if database.path is not None and file.exists() and file.samefile(database.path):
        raise CommandFailed(Exit.CANNOT_CREATE, f"{file}: is the control database itself", "name another file")
