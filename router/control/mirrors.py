"""
The mirrors of the configured directories, made in one way for everybody who writes one: the process that follows a
directory, workers after a miss, and commands.

Guarantees: the order of the sources and the mailboxes that are never held are the same for all of them; an entry that
one has placed is no news to the other.

On failure: `ControlUnavailable`.
"""

from functools import partial

from router.control import mailboxes
from router.control.database import ControlDatabase
from router.control.mirror import QUIET_SECONDS, Mirror
from router.control.schema import DATABASE
from router.model.address import parse_address
from router.settings.directory import LdapSource
from router.settings.schema import Settings


def source_names(settings: Settings) -> tuple[str, ...]:
    """All sources in the order of the configuration; the database stands last where the file does not name it."""
    names = [one.ldap.name if isinstance(one, LdapSource) else DATABASE for one in settings.directory]
    return tuple(names if DATABASE in names else [*names, DATABASE])


def never_held(database: ControlDatabase, settings: Settings) -> frozenset[str]:
    """The postmaster's mailbox: its address, and whose that is. Raises `ControlUnavailable`."""
    address = parse_address(settings.postmaster)
    domain = settings.domains.get(address.domain)
    names = [address.domain, *([domain.alias_of] if domain is not None and domain.alias_of else [])]
    keys = [f"{address.local}@{name}" for name in names]
    found = database.run_read(partial(mailboxes.find, keys=keys))
    return frozenset([*keys, *(mailbox.key for mailbox in found.mailboxes.values())])


def mirror_of(database: ControlDatabase, settings: Settings, source: str) -> Mirror:
    """The mirror of the directory with that name, for one thread. Raises `ControlUnavailable`."""
    ldap = settings.ldaps[source]
    never = never_held(database, settings)
    # A row that moves seldom makes data look older than they are: never by more than a part of what makes mail wait.
    quiet = min(QUIET_SECONDS, ldap.stale_delivery / 4)
    return Mirror(database, source, source_names(settings), never_held=never, max_loss=ldap.max_loss, quiet=quiet)
