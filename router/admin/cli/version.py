"""`sluice version`: our version, and those of what a bug report should name."""

import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version

import typer

from router import __version__
from router.admin.cli.context import Context

_LIBRARIES = ("aiosmtpd", "aiosmtplib", "SQLAlchemy", "dnspython", "uvloop")

app = typer.Typer()


@app.command()
def show(ctx: typer.Context) -> None:
    """Show the version of Sluice, Python, SQLite and the libraries that handle mail."""
    out = Context.of(ctx).out
    parts = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    parts |= {name.lower(): _installed(name) for name in _LIBRARIES}
    out.line(f"sluice {__version__}")
    out.fields((name, found or "not installed") for name, found in parts.items())
    out.document({"sluice": __version__, "parts": parts})


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
