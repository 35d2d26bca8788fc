"""
The filter options that all `sluice queue` verbs share, and what they mean.

Guarantees: each verb has the same options with the same meaning. Addresses are looked up in the control database, so
that any address of a mailbox names it; where the database cannot be read, the address is taken to be the mailbox's
own, and the command says so. An empty list of queue-ids on standard input selects nothing, never everything.

On failure: `CommandFailed` (64) for values that cannot be read.
"""

import inspect
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import Annotated

import typer

from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed, Exit, explain
from router.admin.cli.queue_select import STATES, BadSelection, Selection, SpoolPlace, queue_ids, spool_places
from router.control import mailboxes
from router.control.database import ControlDatabase
from router.control.mailboxes import Filter
from router.errors import ControlBusy, ControlUnavailable
from router.model.address import AddressSyntaxError, parse_address
from router.model.mailbox import Hold
from router.settings.values import BadValue, parse_duration
from router.spool.finding import QueueFilter

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Conditions:
    """The options as given; `None` and () are no condition."""

    ids: tuple[str, ...] = ()
    mailbox: str | None = None
    batch: str | None = None
    store: str | None = None
    sender: str | None = None
    recipient: str | None = None
    older: str | None = None
    reason_text: str | None = None
    state: str | None = None


def _options(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Queue-ids; - reads them from stdin.")] = None,
    more_ids: Annotated[list[str] | None, typer.Option("--id", help="A queue-id; may be given several times.")] = None,
    mailbox: Annotated[str | None, typer.Option(help="Mail for this mailbox, named by any of its addresses.")] = None,
    batch: Annotated[str | None, typer.Option(help="Mail of the mailboxes on hold in this batch.")] = None,
    store: Annotated[str | None, typer.Option(help="Mail that is to go to this store (or mx:DOMAIN).")] = None,
    sender: Annotated[str | None, typer.Option(help="Envelope sender; <> is the null sender.")] = None,
    recipient: Annotated[str | None, typer.Option(help="Recipient as received, or @DOMAIN.")] = None,
    older: Annotated[
        str | None, typer.Option(metavar="TIME", help="Received longer ago than this: 90s, 4h, 5d.")
    ] = None,
    reason_text: Annotated[
        str | None, typer.Option(help="Part of the last reply or of the reason for parking.")
    ] = None,
    state: Annotated[str | None, typer.Option(help=f"One of: {', '.join(STATES)}.")] = None,
) -> None:
    """The options themselves."""


def filtered(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the filter options; it is called with `conditions` in their place."""
    shared = inspect.signature(_options).parameters
    own = [one for name, one in inspect.signature(command).parameters.items() if name != "conditions"]

    @wraps(command)
    def run(**values: object) -> int:
        given = {name: values.pop(name) for name in shared}
        ids = (*(given.pop("ids") or ()), *(given.pop("more_ids") or ()))  # type: ignore[misc]  # lists of Typer's
        return command(conditions=Conditions(ids, **given), **values)  # type: ignore[arg-type]  # text, as declared

    parameters = [*own, *shared.values()]
    keyword = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    run.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]  # as inspect documents
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def select(conditions: Conditions, database: ControlDatabase | None) -> Selection:
    """The selection that the options mean. Raises `CommandFailed`."""
    try:
        return _select(conditions, database)
    except (BadSelection, BadValue) as error:
        raise CommandFailed(Exit.USAGE, str(error), getattr(error, "remedy", "")) from error


def places(context: Context) -> list[SpoolPlace]:
    """The spools of this node."""
    return spool_places(context.settings().state_dir)


def control(context: Context, *, changing: bool = False) -> ControlDatabase | None:
    """
    The control database, or None with a remark: the queue can be read without it. One that is locked is there: who is
    `changing` something is told, for the audit must have it.
    """
    context.settings()
    try:
        return context.database()
    except (CommandFailed, ControlUnavailable) as error:
        if changing and isinstance(error, ControlBusy):
            raise
        context.out.note(f"holds and addresses are not known: {explain(error).message}")
        return None


def open_holds(database: ControlDatabase | None) -> dict[str, Hold]:
    """Open holds by mailbox; empty without a database."""
    return {} if database is None else database.run_read(mailboxes.all_open_holds)


def _select(conditions: Conditions, database: ControlDatabase | None) -> Selection:
    if conditions.state is not None and conditions.state not in STATES:
        raise BadSelection(f"there is no state {conditions.state!r}; there are {', '.join(STATES)}")
    ids = queue_ids(_words(conditions.ids))
    limited = None if conditions.batch is None else _of_batch(conditions.batch, database)
    wanted = QueueFilter(
        mailbox=_mailbox(conditions.mailbox, database),
        lane=conditions.store,
        sender=None if conditions.sender is None else _null(conditions.sender),
        recipient=conditions.recipient,
        state=conditions.state,
        reason=conditions.reason_text,
        older_than=None if conditions.older is None else time.time() - parse_duration(conditions.older),
    )
    if conditions.ids and not ids:
        return Selection(wanted, mailboxes=frozenset())
    return Selection(wanted, ids, limited)


def _words(ids: tuple[str, ...]) -> list[str]:
    words: list[str] = []
    for one in ids:
        words += sys.stdin.read().split() if one == "-" else [one]
    return words


def _null(sender: str) -> str:
    return "" if sender.upper() in {"<>", "MAILER-DAEMON"} else sender.removeprefix("<").removesuffix(">")


def _mailbox(text: str | None, database: ControlDatabase | None) -> str | None:
    if not text:
        return text
    try:
        key = parse_address(text).key
    except AddressSyntaxError as error:
        raise BadSelection(f"{text!r} is no address: {error}") from error
    if database is None:
        return key
    return database.run_read(partial(mailboxes.owners, addresses=[key])).get(key, key)


def _of_batch(batch: str, database: ControlDatabase | None) -> frozenset[str]:
    if database is None:
        raise BadSelection("batches are in the control database, which cannot be read")
    found: set[str] = set()
    after = ""
    while page := database.run_read(partial(mailboxes.listing, wanted=Filter(batch=batch), after=after, limit=_PAGE)):
        found.update(one.key for one in page)
        after = page[-1].key
    return frozenset(found)
