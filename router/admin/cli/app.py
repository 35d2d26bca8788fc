"""
The root command: finds the verb, runs it, and turns whatever happens into one message and one exit status.

Guarantees: the module of a verb is imported when that verb is used and not before, so help and completion are quick
and need nothing of the daemon. `--json` and `--config` may stand before or behind the verb. Errors go to standard
error: `sluice: message` and a remedy, or with `--json` one document `{"version", "error", "exit", "remedy",
"details"}`.

A verb's module has an `app`, a Typer with one command or several. A command takes `ctx: typer.Context`, gets its
`Context` by `Context.of(ctx)`, and returns its exit status (None is 0).
"""

import json
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from router.admin.cli.context import Context, find_config, who
from router.admin.cli.exits import CommandFailed, Exit, explain
from router.admin.cli.output import VERSION, safe

if TYPE_CHECKING:
    from types import ModuleType

PROGRAM = "sluice"
VERBS: dict[str, tuple[str, str]] = {
    "serve": ("router.admin.cli.serve", "Run the relay in the foreground, as systemd does."),
    "check": ("router.admin.cli.check", "Find every error of the configuration; with --live ask the world, too."),
    "config": ("router.admin.cli.config", "Show the configuration as it takes effect."),
    "route": ("router.admin.cli.route", "Explain what becomes of mail to an address."),
    "user": ("router.admin.cli.user", "Import, list, show and change mailboxes."),
    "hold": ("router.admin.cli.hold", "Keep the mail of mailboxes here, and wait until nothing is under way."),
    "release": ("router.admin.cli.release", "End holds: kept mail is delivered."),
    "move": ("router.admin.cli.move", "Hold, copy, change the home and release, in one."),
    "queue": ("router.admin.cli.queue", "List, show, retry and remove mail that is not delivered yet."),
    "store": ("router.admin.cli.store", "List, test, pause and resume stores."),
    "status": ("router.admin.cli.status", "Show the state of the relay in one screen."),
    "log": ("router.admin.cli.log", "Show what became of messages."),
    "audit": ("router.admin.cli.audit", "Show who changed what, when and why."),
    "backup": ("router.admin.cli.backup", "Copy the control database while mail flows."),
    "demo": ("router.admin.cli.demo", "Watch two hundred people being moved under load, on loopback."),
    "version": ("router.admin.cli.version", "Show the version of Sluice and of what it stands on."),
}
"""Verb to the module that has its `app`, and its line in the list. The order is that of the help."""

_USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]
"""The base of all complaints about arguments; Typer brings it under different names."""


class Verbs(TyperGroup):
    """A group whose commands are imported when they are used; until then each is a name and a line."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (_, line) in VERBS.items():
            self.commands[name] = TyperCommand(name, help=line, short_help=line)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name in VERBS:
            self.commands[name] = _load(name)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=Verbs,
    name=PROGRAM,
    help="Sluice, the SMTP relay at the primary MX while mailboxes move from old mail hosts to new ones.",
    epilog="Exit statuses are those of sysexits.h unless a verb says otherwise.",
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_common = typer.Typer(add_completion=False)
_OF_COMPLETION = ("install_completion", "show_completion")
"""Options that Typer adds to every app; only the root command keeps them."""


@app.callback()
def _root(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Configuration; else $SLUICE_CONFIG, else /etc/sluice/sluice.yaml."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    ctx.obj = Context(find_config(config), json=as_json, actor=who())
    ctx.call_on_close(ctx.obj.close)
    if version:
        from router import __version__  # noqa: PLC0415 - this once

        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(Exit.USAGE)


def _set_json(ctx: typer.Context, value: bool) -> None:
    if value and isinstance(ctx.obj, Context):
        ctx.obj = replace(ctx.obj, json=True)


def _set_config(ctx: typer.Context, value: Path | None) -> None:
    if value is not None and isinstance(ctx.obj, Context):
        ctx.obj = replace(ctx.obj, config=value)


@_common.command()
def _options(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", callback=_set_config, expose_value=False, help="As before the verb."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", callback=_set_json, expose_value=False, help="As before the verb.")
    ] = False,
) -> None:
    """Options that every verb takes, too."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line; its exit status. Never raises."""
    try:
        command = typer.main.get_command(app)
        status = command.main(args=list(arguments), prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_output()
        return Exit.OK
    except SystemExit as error:  # completion ends the process by itself
        return error.code if isinstance(error.code, int) else Exit.OK
    except BaseException as error:  # noqa: BLE001 - whatever it is becomes one message
        return _report(error, arguments)
    if status == Exit.INTERRUPTED:  # Typer has caught it
        return _report(KeyboardInterrupt(), arguments)
    return int(status) if isinstance(status, int) else Exit.OK


def _load(name: str) -> Any:
    return _command(_import(name).app, name)


@cache
def _command(app: typer.Typer, name: str) -> Any:
    """The command of a verb: it remembers nothing of a call, so one serves all of this process."""
    command = typer.main.get_command(app)
    command.name = name
    _add_common(command, typer.main.get_command(_common).params)
    return command


def _import(name: str) -> "ModuleType":
    place = VERBS[name][0]
    try:
        return import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and place.startswith(error.name):
            raise CommandFailed(Exit.UNAVAILABLE, f"this installation has no verb {name}") from error
        raise


def _add_common(command: Any, options: Sequence[Any]) -> None:
    """The common options at the end of each command's own, and the plain help of the root command."""
    command.rich_markup_mode = None
    command.params = [option for option in command.params if option.name not in _OF_COMPLETION]
    for child in getattr(command, "commands", {}).values():
        _add_common(child, options)
    if not hasattr(command, "commands"):
        taken = {text for option in command.params for text in option.opts}
        command.params.extend(one for one in options if not taken.intersection(one.opts))


def _report(error: BaseException, arguments: Sequence[str]) -> int:
    if os.environ.get("SLUICE_DEBUG"):
        traceback.print_exception(error)
    failed = _of_usage(error) if isinstance(error, _USAGE_ERROR) else explain(error)
    if isinstance(error, typer.Abort):
        failed = CommandFailed(Exit.INTERRUPTED, "nothing was done")
    _tell(failed, as_json="--json" in _before_separator(arguments))
    return failed.status


def _of_usage(error: BaseException) -> CommandFailed:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    say = getattr(error, "format_message", None)
    return CommandFailed(Exit.USAGE, str(say() if say else error), f"`{path} --help` explains it")


def _tell(failed: CommandFailed, *, as_json: bool) -> None:
    if as_json:
        document = {
            "version": VERSION,
            "error": failed.message,
            "exit": int(failed.status),
            "remedy": failed.remedy,
            "details": list(failed.details),
        }
        sys.stderr.write(json.dumps(document, ensure_ascii=True) + "\n")
        return
    lines = [f"{PROGRAM}: {safe(failed.message)}", *(f"  {safe(one)}" for one in failed.details)]
    if failed.remedy:
        lines.append(f"  {safe(failed.remedy)}")
    sys.stderr.write("\n".join(lines).encode("utf-8", "backslashreplace").decode("utf-8") + "\n")


def _before_separator(arguments: Sequence[str]) -> Sequence[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _forget_output() -> None:
    """The reader has gone: the interpreter must not fail at exit when it flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
