"""
The ways in which one address can be read, in their order of precedence. Pure.

    the whole local part    as an entry     in its own domain, then in the domain that one is an alias of
                            of a family     likewise
    without its extension   as an entry     likewise
                            of a family     likewise
    the domain              as a catch-all  likewise, where a directory may have one; never for a postmaster

An entry is a mailbox, a service or a posting address of a list with exactly that name: so a list really called
`foo-request` is that list, and a person really called `foo-owner` is that person. A list's token is always cut at the
first `+`, whatever delimiter people's sub-addresses have.

postmaster is read before everything else, as the configured postmaster.

Nothing here fails, except `BadRouteData` for a list manager's address that two stores claim.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from router.classify.domains import DomainPolicy
from router.classify.lists import ListMatch
from router.classify.rules import AddressRules
from router.classify.subaddress import Split, split
from router.model.address import Address

POSTMASTER = "postmaster"
TOKEN = "+"  # noqa: S105 - the delimiter in front of a list manager's token


@dataclass(frozen=True, slots=True)
class Reading:
    """
    One way to read the address.

    `key` is the mailbox to ask for. In a family reading that is the mailbox with the list's own name, which must not
    exist, unless it is the same list in the directory. `split` is set where an extension was cut; `catch_all` where
    only the domain was read.
    """

    key: str
    domain: str
    family: bool = False
    mailing_list: ListMatch | None = None
    service: str = ""
    split: Split | None = None
    catch_all: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """
    All readings of one recipient. `target` is the address they are readings of: the recipient itself, or the
    configured postmaster. `keys` are to be asked for, all in one read.
    """

    address: Address
    target: Address
    policy: DomainPolicy
    readings: tuple[Reading, ...]
    keys: tuple[str, ...]

    @property
    def postmaster(self) -> bool:
        return self.target is not self.address


def is_postmaster(rules: AddressRules, address: Address) -> bool:
    """The bare postmaster (RFC 5321 4.5.1), or the one of a domain of ours, in any case."""
    return address.local == POSTMASTER and (not address.domain or address.domain in rules.domains)


def plan(rules: AddressRules, address: Address) -> Plan | None:
    """The readings, or None for an address (or a postmaster) that is not in a domain of ours."""
    target = rules.postmaster if is_postmaster(rules, address) else address
    policy = rules.domains.get(target.domain)
    if policy is None:
        return None
    readings = tuple(_readings(rules, target.local, policy))
    if rules.catch_all and not is_postmaster(rules, address):
        readings += tuple(Reading(f"@{domain}", domain, catch_all=True) for domain in policy.names)
    keys = tuple(dict.fromkeys(reading.key for reading in readings))
    return Plan(address, target, policy, readings, keys)


def _readings(rules: AddressRules, local: str, policy: DomainPolicy) -> Iterator[Reading]:
    yield from _entries(rules, local, local, policy, None)
    yield from _families(rules, local, policy, None)
    cut = split(local, rules.delimiters)
    name, token, _ = local.partition(TOKEN)
    if cut is not None:
        yield from _entries(rules, cut.base, name if token else "", policy, cut)
    elif token and name:
        yield from _list_entries(rules, name, policy)
    if token and name:
        yield from _families(rules, name, policy, cut)


def _entries(
    rules: AddressRules, local: str, list_local: str, policy: DomainPolicy, cut: Split | None
) -> Iterator[Reading]:
    for domain in policy.names:
        key = f"{local}@{domain}"
        posting = rules.lists.posting(f"{list_local}@{domain}")
        yield Reading(key, domain, mailing_list=posting, service=rules.services.store(key), split=cut)


def _list_entries(rules: AddressRules, name: str, policy: DomainPolicy) -> Iterator[Reading]:
    for domain in policy.names:
        key = f"{name}@{domain}"
        posting = rules.lists.posting(key)
        if posting is not None:
            yield Reading(key, domain, family=True, mailing_list=posting)


def _families(rules: AddressRules, local: str, policy: DomainPolicy, cut: Split | None) -> Iterator[Reading]:
    for domain in policy.names:
        match = rules.lists.family(local, domain) or rules.lists.site(local, domain)
        if match is not None:
            yield Reading(match.base or f"{local}@{domain}", domain, family=True, mailing_list=match, split=cut)
