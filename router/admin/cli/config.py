"""
`sluice config show`: the configuration as it takes effect, with every default, in the form of the file itself.

Guarantees: what it prints is a configuration that means the same.
"""

from typing import Annotated

import typer
import yaml

from router.admin.cli.context import Context
from router.admin.cli.output import safe
from router.settings.schema import HostPort, Settings


class _Plain(yaml.SafeDumper):
    """YAML without anchors: a value that occurs twice is written twice."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - as the base says
        return True


app = typer.Typer(help="Show the configuration as it takes effect.")


@app.callback()
def _group() -> None:
    """Show the configuration as it takes effect."""


@app.command()
def show(
    ctx: typer.Context,
    non_default: Annotated[bool, typer.Option("--non-default", help="Only what differs from the defaults.")] = False,
) -> None:
    """Show the effective configuration as YAML, or with --json as `{"file", "settings", "fingerprint"}`."""
    context = Context.of(ctx)
    settings = context.settings()
    values = in_force(settings, non_default=non_default)
    context.out.document({"file": str(context.config), "settings": values, "fingerprint": settings.fingerprint})
    text = yaml.dump(values, Dumper=_Plain, sort_keys=False, allow_unicode=False, width=100)
    for line in text.splitlines():
        context.out.line(safe(line))


def in_force(settings: Settings, *, non_default: bool) -> dict[str, object]:
    """The settings as plain values, in the order of the schema."""
    dumped = settings.model_dump(
        mode="json", by_alias=True, exclude={"fingerprint"}, exclude_defaults=non_default, exclude_none=True
    )
    values = {name: _as_written(value) for name, value in dumped.items()}
    domains = values.get("domains")
    if isinstance(domains, dict):  # an alias has nothing else: what counts is the domain it stands for
        values["domains"] = {name: _alias(value) or value for name, value in domains.items()}
    if "workers" in values and settings.workers == 0:
        values["workers"] = "auto"
    return values


def _as_written(value: object) -> object:
    """A host with its port is one text in the file."""
    if isinstance(value, dict):
        if value.keys() == {"host", "port"}:
            return str(HostPort(**value))
        return {name: _as_written(one) for name, one in value.items()}
    return [_as_written(one) for one in value] if isinstance(value, list | tuple) else value


def _alias(value: object) -> dict[str, object]:
    real = value.get("alias_of") if isinstance(value, dict) else ""
    return {"alias_of": real} if real else {}
