"""
What is asked of a directory: filters for addresses, domains and everything, and the attributes to ask for.

Guarantees: pure. An address is a literal in every filter, whatever characters it has, and is asked for as given: no
wildcard, no shortening, no parent domain. The spellings of one address key (quoted local part, domain in letters of
its own script) are all asked for; which entry really has the key, `carries` tells.
"""

from collections.abc import Iterable, Iterator, Sequence

import idna

from router.directory.versions import CHANGE_ATTRIBUTES
from router.model.address import AddressSyntaxError, parse_address
from router.model.directory import DirectoryItem, Entry, is_catch_all
from router.model.ldap_filter import FilterSyntaxError, escape, names_in, parse_filter
from router.settings.directory import AttributeMap

DC = "dc"


def filter_for(schema: AttributeMap, keys: Sequence[str]) -> str:
    """
    One search for the people and groups that have any of these address keys (`local@domain`, `@domain`).

    `(&(|PEOPLE GROUPS)(|(mail=a)(mail=b)…))`; '' when there is nothing to ask.
    """
    terms = dict.fromkeys(term for key in keys for term in _terms(schema, key))
    kinds = _either(schema.people, schema.groups)
    return f"(&{kinds}{_either(*terms)})" if terms and kinds else ""


def domain_filter_for(schema: AttributeMap, domains: Sequence[str]) -> str:
    """One search for the entries of these domains (A-labels, folded); '' for a schema without domains."""
    terms = dict.fromkeys(
        f"({attribute}={escape(_first_label(name) if attribute.lower() == DC else name)})"
        for domain in domains
        for name in domain_spellings(domain)
        for attribute in schema.domain_name
    )
    return f"(&{schema.domains}{_either(*terms)})" if terms and schema.domains else ""


def all_filter(schema: AttributeMap) -> str:
    """Every person, group and domain there is."""
    return _either(schema.people, schema.groups, schema.domains)


def attributes(schema: AttributeMap) -> tuple[str, ...]:
    """The attributes to ask for by name, operational ones included; each once."""
    statuses = (*schema.statuses, *schema.group_statuses, *schema.domain_statuses)
    wanted = (
        "objectClass",
        schema.canonical,
        *schema.addresses,
        schema.prefixed,
        schema.catch_all,
        schema.home,
        *schema.home_also,
        schema.route,
        schema.redirect,
        *(status.attribute for status in statuses),
        schema.delivery,
        *schema.forward,
        schema.no_copy,
        *schema.domain_name,
        schema.domain_home,
        schema.domain_catch_all,
        *schema.members,
        *schema.show,
        *_in_filters(schema),
        *CHANGE_ATTRIBUTES,
    )
    return tuple({name.lower(): name for name in reversed(wanted) if name}.values())[::-1]


def carries(item: DirectoryItem, key: str) -> bool:
    """Whether the item is the answer for an address key: an entry that has it, or the entry of its domain."""
    if isinstance(item, Entry):
        return key in item.addresses
    domain = key.rpartition("@")[2]
    return domain == item.domain or domain in item.also


def spellings(key: str) -> tuple[str, ...]:
    """How a directory may spell an address key."""
    local, _, domain = key.rpartition("@")
    return tuple(f"{one}@{name}" for name in domain_spellings(domain) for one in _local_spellings(local))


def domain_spellings(domain: str) -> tuple[str, ...]:
    """A domain as A-label and, where it has one, in the letters of its own script."""
    if "xn--" not in domain:
        return (domain,)
    try:
        own_script = idna.decode(domain)
    except (idna.IDNAError, UnicodeError):
        return (domain,)
    return (domain, own_script)


def _local_spellings(local: str) -> tuple[str, ...]:
    """As it is, and quoted where RFC 5321 4.1.2 asks for it."""
    try:
        parse_address(f"{local}@example")
    except AddressSyntaxError:
        inner = local.replace("\\", "\\\\").replace('"', '\\"')
        return (f'"{inner}"', local)
    return (local,)


def _terms(schema: AttributeMap, key: str) -> Iterator[str]:
    if is_catch_all(key):
        if schema.catch_all:
            yield from (f"({schema.catch_all}={escape(f'@{name}')})" for name in domain_spellings(key[1:]))
        return
    names = dict.fromkeys(name for name in (schema.canonical, *schema.addresses) if name)
    for spelling in spellings(key):
        yield from (f"({name}={escape(spelling)})" for name in names)
        if schema.prefixed:
            yield f"({schema.prefixed}={escape(schema.address_prefix + spelling)})"


def _either(*filters: str) -> str:
    given = [one for one in filters if one]
    return f"(|{''.join(given)})" if len(given) > 1 else "".join(given)


def _first_label(domain: str) -> str:
    return domain.partition(".")[0]


def _in_filters(schema: AttributeMap) -> Iterable[str]:
    for text in (schema.people, schema.groups, schema.domains):
        try:
            yield from names_in(parse_filter(text)) if text else ()
        except FilterSyntaxError:  # refused by the configuration's checks
            continue
