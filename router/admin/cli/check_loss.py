"""
`sluice check --accept-loss DOMAIN`: an operator says that the people whom a directory has lost are really gone.

Guarantees: only as many are given up as are missing now; what disappears beyond that is a loss again. On return every
worker knows: absent addresses of the domain are unknown. The people themselves go with the next complete sweep.

On failure: `NotFound` when no directory has lost people of the domain; nothing was changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed, Exit
from router.admin.cli.hold_operations import operations
from router.control import changes
from router.control.audit import Act
from router.control.losses import Loss, accept_loss
from router.control.members import Member
from router.model.address import AddressSyntaxError, parse_domain


@dataclass(frozen=True, slots=True)
class Given:
    """What was given up, one for each directory; `lagging` do not know it yet."""

    losses: tuple[Loss, ...]
    lagging: tuple[Member, ...]


def accept(context: Context, domain: str, reason: str, timeout: float) -> Given:
    """Raises `CommandFailed`, `NotFound`, `ControlUnavailable`."""
    try:
        name = parse_domain(domain)
    except AddressSyntaxError as error:
        raise CommandFailed(Exit.USAGE, f"--accept-loss: {error}") from error
    work = partial(_accept, domain=name, act=context.act(reason))
    losses, epoch = context.database().run_write(work)
    return Given(tuple(losses), operations(context).wait_applied(epoch, timeout))


def _accept(connection: Connection, domain: str, act: Act) -> tuple[Sequence[Loss], int]:
    return accept_loss(connection, domain, act), changes.current_epoch(connection)
