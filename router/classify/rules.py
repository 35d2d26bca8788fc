"""
What the configuration says about addresses, as one immutable value that a reload replaces as a whole.

Guarantees: every name in it is folded and every list file was read. On failure: `ValueError` (`ListFileError` for the
list files) at construction.
"""

from dataclasses import dataclass

from router.classify.domains import DomainTable
from router.classify.listfiles import load_lists
from router.classify.lists import ListTable
from router.classify.services import ServiceTable
from router.model.address import Address, parse_address
from router.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class AddressRules:
    """
    `postmaster` receives the mail of every postmaster address; `delimiters` are those of sub-addresses. `catch_all`
    says that a source may know a mailbox by `@domain`.
    """

    domains: DomainTable
    lists: ListTable
    services: ServiceTable
    postmaster: Address
    delimiters: str = "+"
    catch_all: bool = False


def load_rules(settings: Settings) -> AddressRules:
    """Rules from the configuration; blocking, as list files are read. Raises `ValueError`."""
    domains = DomainTable(settings.domains)
    return AddressRules(
        domains=domains,
        lists=load_lists(settings.lists, domains),
        services=ServiceTable(settings.services),
        postmaster=parse_address(settings.postmaster),
        delimiters=settings.recipient_delimiter,
        catch_all=bool(settings.ldaps),
    )
