"""
The checks of what a directory's attributes mean: stores behind `homes` and `lists`, and attribute maps.

Guarantees: pure (no file, no network); each check says everything it finds; none raises.
"""

from collections.abc import Iterator, Mapping

from router.model.ldap_filter import FilterSyntaxError, is_attribute_name, parse_filter
from router.settings.directory import AttributeMap, Ldap, StatusMap
from router.settings.draft import Draft, Entry
from router.settings.findings import Findings
from router.settings.problem import KeyPath
from router.settings.values import shown

_PLAIN = ("canonical", "prefixed", "catch_all", "home", "route", "redirect", "domain_home", "domain_catch_all")
_MORE_PLAIN = ("delivery", "no_copy", "write_status")
_LISTS = ("addresses", "home_also", "domain_name", "forward", "members", "show")
_STATUSES = ("statuses", "group_statuses", "domain_statuses")


def check_meanings(draft: Draft, findings: Findings) -> None:
    """Every store named in a directory exists, no home is claimed twice, and own attribute maps make sense."""
    for entry in draft.ldaps:
        _check_stores(entry, draft, findings)
        _check_homes(entry, draft, findings)
        if isinstance(entry.value.schema_, AttributeMap) and "schema" not in entry.faulty:
            _check_map((*entry.path, "schema"), entry.value.schema_, findings)


def _check_stores(entry: Entry[Ldap], draft: Draft, findings: Findings) -> None:
    ldap, path = entry.value, entry.path
    named = [((*path, "homes", value), store) for value, store in ldap.homes.items()]
    if ldap.lists:
        named.append(((*path, "lists"), ldap.lists))
    for place, store in named:
        if store not in draft.store_names:
            findings.add_unknown_name(place, "store", store, draft.store_names)
    for store, value in ldap.write_homes.items():
        if store not in draft.store_names:
            findings.add_unknown_name((*path, "write_homes", store), "store", store, draft.store_names)
        elif not value.strip():
            findings.add((*path, "write_homes", store), "is empty", "write the value of the home attribute")


def _check_homes(entry: Entry[Ldap], draft: Draft, findings: Findings) -> None:
    """A host of one store must not be said to mean another one: one of the two is a slip, and mail would go astray."""
    declared = _declared(draft)
    seen: set[str] = set()
    for value, store in entry.value.homes.items():
        folded, path = value.strip().rstrip(".").lower(), (*entry.path, "homes", value)
        if not folded:
            findings.add(path, "is empty", "write a value of the home attribute", of_key=True)
        elif folded in seen:
            findings.add(path, f"{shown(value)} stands here twice", "remove one of them", of_key=True)
        seen.add(folded)
        stores = declared.get(folded, set())
        if stores and store not in stores and store in draft.store_names:
            others = " and ".join(sorted(stores))
            findings.add(path, f"{shown(value)} is a host of {others}", f"write {others}, or change its hosts")
    for store, value in entry.value.write_homes.items():
        meant = {text.strip().rstrip(".").lower(): name for text, name in entry.value.homes.items()}
        found = meant.get(value.strip().rstrip(".").lower(), store)
        if found != store:
            message = f"{shown(value)} means {found} in `homes`"
            findings.add((*entry.path, "write_homes", store), message, "write a value that means this store")


def _declared(draft: Draft) -> Mapping[str, set[str]]:
    hosts: dict[str, set[str]] = {}
    for store in draft.stores:
        for host in store.value.hosts:
            hosts.setdefault(host.host, set()).add(str(store.path[-1]))
    return hosts


def _check_map(path: KeyPath, schema: AttributeMap, findings: Findings) -> None:
    for key in ("people", "groups", "domains"):
        _check_filter((*path, key), getattr(schema, key), findings)
    for place, name in _attributes(path, schema):
        if not is_attribute_name(name):
            findings.add(place, f"{shown(name)} is no attribute's name", "write letters, digits and dashes")
    if not schema.people and not schema.groups:
        findings.add((*path, "people"), "is empty, and so is `groups`: nobody would be found", "write a filter")
    if not (schema.canonical or schema.addresses or schema.prefixed):
        findings.add((*path, "canonical"), "is empty: nobody would have an address", "write for instance mail")
    for key in _STATUSES:
        for number, status in enumerate(getattr(schema, key)):
            _check_values((*path, key, number, "values"), status, findings)
    _check_company(path, schema, findings)
    _check_writing(path, schema, findings)


def _check_filter(path: KeyPath, text: str, findings: Findings) -> None:
    if not text:
        return
    try:
        parse_filter(text)
    except FilterSyntaxError as error:
        findings.add(path, f"{shown(text)} is no filter: {error}", "write for instance (objectClass=inetOrgPerson)")


def _check_values(path: KeyPath, status: StatusMap, findings: Findings) -> None:
    seen: set[str] = set()
    for value in status.values:
        folded = value.strip().lower()
        if folded in seen:
            findings.add((*path, value), f"{shown(value)} stands here twice", "remove one of them", of_key=True)
        seen.add(folded)


def _check_company(path: KeyPath, schema: AttributeMap, findings: Findings) -> None:
    """Keys that mean nothing without another one."""
    for key, other in (
        ("delivery", "forward"),
        ("no_copy", "forward"),
        ("home_also", "home"),
        ("group_statuses", "groups"),
        ("members", "groups"),
        ("domain_name", "domains"),
        ("domain_statuses", "domains"),
        ("domain_home", "domains"),
        ("domain_catch_all", "domains"),
        ("domains", "domain_name"),
    ):
        if getattr(schema, key) and not getattr(schema, other):
            findings.add((*path, key), f"has no use without `{other}`", f"add {other}, or remove the key")
    if "write_home" in schema.model_fields_set and schema.write_home and not schema.home:
        findings.add((*path, "write_home"), "needs `home`: there is nothing to write to", "add home")
    if schema.prefixed and not schema.address_prefix:
        findings.add((*path, "address_prefix"), "is empty", "write for instance smtp:")


def _check_writing(path: KeyPath, schema: AttributeMap, findings: Findings) -> None:
    """What we write as a hold must read as a hold: otherwise our own write would open the mailbox."""
    if not schema.write_status:
        return
    maps = [one for one in schema.statuses if one.attribute.lower() == schema.write_status.lower()]
    if not maps:
        message = f"{shown(schema.write_status)} is none of the attributes in `statuses`"
        findings.add((*path, "write_status"), message, "add it there, or remove the key")
    for one in maps:
        if one.meaning(schema.write_hold) != "hold":
            message = f"{shown(schema.write_hold)} does not mean hold in `statuses`"
            findings.add((*path, "write_hold"), message, "write the value that means hold")


def _attributes(path: KeyPath, schema: AttributeMap) -> Iterator[tuple[KeyPath, str]]:
    for key in (*_PLAIN, *_MORE_PLAIN):
        if getattr(schema, key):
            yield (*path, key), getattr(schema, key)
    for key in _LISTS:
        for number, name in enumerate(getattr(schema, key)):
            yield (*path, key, number), name
    for key in _STATUSES:
        for number, status in enumerate(getattr(schema, key)):
            yield (*path, key, number, "attribute"), status.attribute
