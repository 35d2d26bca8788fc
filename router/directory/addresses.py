"""
The addresses of an entry: which there are, and which one is the mailbox's name.

Guarantees: total. A value that is no address is left out and leaves a doubt; an attribute of which the server sent
only a part is a problem, because an address that is missing here must never look unknown.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from router.directory.printable import quoted
from router.directory.reading import Reading
from router.model.address import AddressSyntaxError, parse_address, parse_domain
from router.model.directory import is_catch_all
from router.settings.directory import AttributeMap


@dataclass(frozen=True, slots=True)
class Addresses:
    """`key` is '' when there is none at all; `claimed` says whether there were values that should have been one."""

    key: str
    keys: tuple[str, ...]
    claimed: bool


def addresses(reading: Reading, schema: AttributeMap) -> Addresses:
    """
    All address keys of the entry.

    Canonical is the prefixed address whose prefix is in capitals, else the canonical attribute's, else the first in
    sorting order, and a catch-all (`@domain`) only when there is nothing else.
    """
    named = [key for _, key in _plain(reading, schema, (schema.canonical,))]
    primary, others = _prefixed(reading, schema)
    more = [key for _, key in _plain(reading, schema, _further(schema))]
    everything = sorted({*named, *primary, *others, *more})
    single = schema.canonical.lower() not in {name.lower() for name in schema.addresses}
    if len(set(named)) > 1 and single:
        reading.doubt(f"{schema.canonical} has several values, {reading.listed(tuple(sorted(set(named))))}")
    if len(set(primary)) > 1:
        reading.doubt(f"{schema.prefixed} has several primary addresses, {reading.listed(tuple(sorted(set(primary))))}")
    for name in (schema.canonical, *_further(schema), schema.prefixed):
        if name and reading.cut_short(name):
            reading.problem(f"the server sent only a part of {name}")
    return Addresses(_first(primary, named, everything), tuple(everything), _claims(reading, schema))


def _first(*choices: list[str]) -> str:
    for choice in choices:
        whole = sorted(key for key in choice if not is_catch_all(key))
        if whole:
            return whole[0]
    return min(choices[-1], default="")


def _further(schema: AttributeMap) -> tuple[str, ...]:
    """The attributes of addresses besides the canonical one, each once."""
    names = (*schema.addresses, schema.catch_all)
    return tuple({name.lower(): name for name in names if name and name.lower() != schema.canonical.lower()}.values())


def _plain(reading: Reading, schema: AttributeMap, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name in names:
        for value in reading.distinct(name):
            key = address_key(value, catch_all=bool(schema.catch_all) and name.lower() == schema.catch_all.lower())
            if key:
                yield name, key
            else:
                reading.doubt(f"{name} {quoted(value)} is no address")


def _prefixed(reading: Reading, schema: AttributeMap) -> tuple[list[str], list[str]]:
    """Primary and other addresses of the prefixed attribute; values with another prefix are no mail addresses."""
    primary: list[str] = []
    others: list[str] = []
    for value in reading.values(schema.prefixed):
        start = value[: len(schema.address_prefix)]
        if start.lower() != schema.address_prefix.lower():
            continue
        key = address_key(value[len(start) :])
        if not key:
            reading.doubt(f"{schema.prefixed} {quoted(value)} is no address")
        else:
            (primary if start == schema.address_prefix.upper() else others).append(key)
    return primary, others


def _claims(reading: Reading, schema: AttributeMap) -> bool:
    prefix = schema.address_prefix.lower()
    prefixed = (value for value in reading.values(schema.prefixed) if value.lower().startswith(prefix))
    names = (schema.canonical, *_further(schema))
    return any(reading.values(name) or reading.cut_short(name) for name in names) or any(prefixed)


def address_key(value: str, *, catch_all: bool = False) -> str:
    """The folded key of an address with a domain, or of `@domain` where that is allowed; '' for anything else."""
    try:
        if value.startswith("@"):
            return f"@{parse_domain(value[1:])}" if catch_all else ""
        address = parse_address(value)
    except AddressSyntaxError:
        return ""
    return address.key if address.domain else ""
