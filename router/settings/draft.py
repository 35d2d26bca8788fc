"""
What of a document is usable already, entry by entry, so that the checks across sections run beside other errors.

Guarantees: a faulty key of an entry is reported by the schema alone and stands here with a placeholder, marked in
`Entry.faulty`, so that one mistyped port neither hides the other errors of its entry nor brings new ones elsewhere.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from router.model.address import AddressSyntaxError, parse_domain
from router.settings.base import Section
from router.settings.directory import Ldap
from router.settings.problem import KeyPath
from router.settings.schema import Domain, Listener, ListSet, Settings, Store
from router.settings.yaml_loader import Value

S = TypeVar("S", bound=Section)

_PLACEHOLDERS: Mapping[type[Section], Mapping[str, Value]] = {
    Listener: {"port": 0},
    Store: {"role": "other", "hosts": []},
    Domain: {},
    ListSet: {"store": "", "manager": "majordomo"},
    Ldap: {"uri": [], "base": ""},
}


@dataclass(frozen=True, slots=True)
class Entry(Generic[S]):
    """One entry of a section and where it stands."""

    path: KeyPath
    value: S
    faulty: frozenset[str]
    """Keys whose values are no valid ones: what stands in `value` for them means nothing."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The entries of a document. `raw` is the document itself, for the keys outside these sections."""

    raw: Mapping[str, Value]
    listeners: tuple[Entry[Listener], ...]
    stores: tuple[Entry[Store], ...]
    domains: tuple[Entry[Domain], ...]
    lists: tuple[Entry[ListSet], ...]
    ldaps: tuple[Entry[Ldap], ...]
    store_names: frozenset[str]
    domain_names: frozenset[str]
    """All names in `domains`, folded, whether their entries are valid or not."""
    aliases: Mapping[str, str]
    """Alias domain to what it is an alias of, both folded."""

    def text(self, key: str) -> str | None:
        """A top-level key's text, or None where there is none (the schema has reported that)."""
        value = self.raw.get(key)
        return value if isinstance(value, str) else None

    @property
    def probe_default(self) -> tuple[str, ...]:
        """Whom a domain with `unknown: probe` asks when it names nobody: every old and new store, by name."""
        return tuple(sorted(str(entry.path[-1]) for entry in self.stores if entry.value.role in {"old", "new"}))

    def end_of_alias(self, name: str) -> str:
        """The real domain behind an alias domain, or '' for a circle."""
        for _ in range(len(self.aliases) + 1):
            if name not in self.aliases:
                return name
            name = self.aliases[name]
        return ""

    def valid(self, key: str) -> Any:
        """A top-level key's value (or default) as the schema understands it, or None where it is not valid."""
        field = Settings.model_fields[key]
        if key not in self.raw:
            return field.get_default()
        try:
            return TypeAdapter(Settings.__annotations__[key]).validate_python(self.raw[key])
        except ValidationError:
            return None


def draft(raw: Mapping[str, Value]) -> Draft:
    """Take over every entry that is valid by itself."""
    domains = tuple(_entries(raw, "domains", Domain))
    return Draft(
        raw=raw,
        listeners=tuple(_entries(raw, "listen", Listener)),
        stores=tuple(_entries(raw, "stores", Store)),
        domains=domains,
        lists=tuple(_entries(raw, "lists", ListSet)),
        ldaps=tuple(_ldaps(raw.get("directory"))),
        store_names=frozenset(name for name, _ in items(raw.get("stores"))),
        domain_names=frozenset(fold_domain(name) for name, _ in items(raw.get("domains"))),
        aliases={
            fold_domain(str(entry.path[-1])): fold_domain(entry.value.alias_of)
            for entry in domains
            if entry.value.alias_of
        },
    )


def items(value: Value) -> list[tuple[str, Value]]:
    """The items of a mapping; none where the value is no mapping."""
    return list(value.items()) if isinstance(value, dict) else []


def fold_domain(name: str) -> str:
    """The domain as it is compared; what is no domain stays as it is and is reported where it stands."""
    try:
        return parse_domain(name)
    except AddressSyntaxError:
        return name


def _entries(raw: Mapping[str, Value], key: str, model: type[S]) -> Iterator[Entry[S]]:
    section = raw.get(key)
    numbered = list(enumerate(section)) if isinstance(section, list) else []
    for name, value in items(section) or numbered:
        yield from _entry((key, name), value, model)


def _ldaps(section: Value) -> Iterator[Entry[Ldap]]:
    for number, value in enumerate(section if isinstance(section, list) else ()):
        if isinstance(value, dict) and isinstance(value.get("ldap"), dict):
            yield from _entry(("directory", number, "ldap"), value["ldap"], Ldap)


def _entry(path: KeyPath, value: Value, model: type[S]) -> Iterator[Entry[S]]:
    content = {} if value is None else value
    faulty: frozenset[str] = frozenset()
    for _ in range(3):  # a model's own validator hides what its fields would say until it is satisfied
        try:
            yield Entry(path, model.model_validate(content), faulty)
            break
        except ValidationError as error:
            faulty |= {str(detail["loc"][0]) for detail in error.errors(include_url=False) if detail["loc"]}
        if not faulty or not isinstance(value, dict):
            break
        content = {**_PLACEHOLDERS[model], **{part: value[part] for part in value if part not in faulty}}
