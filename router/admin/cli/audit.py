"""
`sluice audit`: who changed what, when and why.

JSON: `{"changes": [{number, at, actor, verb, key, reason, before, after}]}`, newest first; go on with `--before` and
the last number.
"""

import json
from functools import partial
from typing import Annotated

import typer
from sqlalchemy import Connection

from router.admin.cli.context import Context
from router.admin.cli.output import Column, moment
from router.control import audit as trail
from router.control import mailboxes
from router.model.address import AddressSyntaxError, parse_address

app = typer.Typer()


@app.command()
def audit(
    ctx: typer.Context,
    key: Annotated[str, typer.Option("--key", help="Only this mailbox (by any of its addresses) or store.")] = "",
    actor: Annotated[str, typer.Option("--actor", help="Only changes by this person.")] = "",
    verb: Annotated[str, typer.Option("--verb", help="Only this kind of change: hold, release, set, import …")] = "",
    before: Annotated[int, typer.Option("--before", min=0, help="Only what is older than this number.")] = 0,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")] = 100,
) -> None:
    """Show changes, newest first."""
    context = Context.of(ctx)
    database = context.database()
    wanted = database.run_read(partial(_key_of, text=key)) if key else ""
    rows = database.run_read(partial(trail.rows, key=wanted, actor=actor, verb=verb, before=before, limit=limit))
    context.out.table(
        [Column("number", right=True), "time", "actor", "change", "of", "reason", "before", "after"],
        [
            (
                one.number,
                moment(one.at),
                one.actor,
                one.verb,
                one.key,
                one.reason,
                _short(one.before),
                _short(one.after),
            )
            for one in rows
        ],
    )
    context.out.document(
        {
            "changes": [
                {
                    "number": one.number,
                    "at": moment(one.at),
                    "actor": one.actor,
                    "verb": one.verb,
                    "key": one.key,
                    "reason": one.reason,
                    "before": one.before,
                    "after": one.after,
                }
                for one in rows
            ]
        }
    )


def _key_of(connection: Connection, text: str) -> str:
    """The mailbox of an address; anything else as it was typed (a store, a mailbox that is gone)."""
    try:
        address = parse_address(text).key
    except AddressSyntaxError:
        return text
    return mailboxes.owners(connection, [address]).get(address, address)


def _short(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={_short(one)}" for name, one in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=True)
