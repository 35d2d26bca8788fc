"""
The checks of who is who: domains and their aliases, unknown addresses, lists, services, and the stores they name.

Guarantees: pure (no file, no network); each check says everything it finds; none raises.
"""

from collections.abc import Iterator

from router.model.address import Address, AddressSyntaxError, parse_address, parse_domain
from router.settings.draft import Draft, Entry, fold_domain, items
from router.settings.findings import Findings
from router.settings.problem import KeyPath
from router.settings.schema import Domain
from router.settings.values import shown


def check_domains(draft: Draft, findings: Findings) -> None:
    """Domains are names, each once; aliases end at a domain of ours; stores named exist; probes have whom to ask."""
    if draft.raw.get("domains") == {}:
        findings.add(("domains",), "is empty: no mail would be accepted", "name the domains this relay is MX for")
    seen: set[str] = set()
    for name, _ in items(draft.raw.get("domains")):
        folded = _domain(("domains", name), name, findings)
        if folded in seen:
            findings.add(("domains", name), f"the domain {folded} stands here twice", "remove one", of_key=True)
        seen.add(folded)
    for entry in draft.domains:
        if entry.value.alias_of:
            _check_alias(entry.path, entry.value, draft, findings)
        else:
            _check_unknown(entry, draft, findings)


def check_references(draft: Draft, findings: Findings) -> None:
    """Every store that is named anywhere exists."""
    for path, name in _store_references(draft):
        if name not in draft.store_names:
            findings.add_unknown_name(path, "store", name, draft.store_names)


def check_addresses(draft: Draft, findings: Findings) -> None:
    """Addresses of lists and services are ours, and each is one thing only."""
    taken: dict[str, str] = {}
    for path, text, is_key in _addresses(draft):
        address = mail_address(path, text, findings)
        if address is None:
            continue
        if address.domain in draft.aliases:
            remedy = f"write {address.local}@{draft.end_of_alias(address.domain) or draft.aliases[address.domain]}"
            findings.add(path, f"{shown(address.domain)} is an alias domain", remedy, of_key=is_key)
        elif address.domain not in draft.domain_names:
            findings.add_unknown_name(path, "domain", address.domain, draft.domain_names)
        if address.key in taken:
            findings.add(path, f"{address.key} stands in {taken[address.key]} already", "remove one", of_key=is_key)
        taken.setdefault(address.key, f"{path[0]}")


def mail_address(path: KeyPath, text: str, findings: Findings) -> Address | None:
    """The address with its domain, or None with a problem noted."""
    try:
        address = parse_address(text)
    except AddressSyntaxError as error:
        findings.add(path, f"{shown(text)} is no mail address: {error}", "write local@domain")
        return None
    if address.domain:
        return address
    findings.add(path, f"{shown(text)} has no domain", "write local@domain")
    return None


def _check_alias(path: KeyPath, domain: Domain, draft: Draft, findings: Findings) -> None:
    for key in sorted(domain.model_fields_set - {"alias_of"}):
        findings.add((*path, key), "has no use beside `alias_of`", f"set it for {domain.alias_of}")
    target = fold_domain(domain.alias_of)
    if target not in draft.domain_names:
        findings.add_unknown_name((*path, "alias_of"), "domain", domain.alias_of, draft.domain_names)
    elif not draft.end_of_alias(target):
        findings.add((*path, "alias_of"), "goes round in a circle and never ends at a domain of its own")


def _check_unknown(entry: Entry[Domain], draft: Draft, findings: Findings) -> None:
    path, domain = entry.path, entry.value
    if entry.faulty & {"unknown", "store", "probe"}:
        return
    any_role = any("role" in store.faulty for store in draft.stores)
    if domain.unknown == "store" and not domain.store:
        findings.add((*path, "unknown"), "needs a store", 'write {store: NAME} or "store: NAME"')
    if domain.unknown != "store" and domain.store:
        findings.add((*path, "store"), f"has no use with unknown: {domain.unknown}", "write unknown: {store: NAME}")
    if domain.unknown != "probe" and domain.probe:
        findings.add((*path, "probe"), f"has no use with unknown: {domain.unknown}", "write unknown: probe")
    if domain.unknown == "probe" and not domain.probe and not draft.probe_default and not any_role:
        findings.add((*path, "unknown"), "has no old or new store to probe", "write probe: [NAME]")
    if len(set(domain.probe)) < len(domain.probe):
        findings.add((*path, "probe"), "names a store twice", "remove one of them")


def _store_references(draft: Draft) -> Iterator[tuple[KeyPath, str]]:
    for domain in draft.domains:
        if domain.value.store:
            yield (*domain.path, "store"), domain.value.store
        for number, name in enumerate(domain.value.probe):
            yield (*domain.path, "probe", number), name
    for lists in draft.lists:
        if "store" not in lists.faulty:
            yield (*lists.path, "store"), lists.value.store
    for address, store in items(draft.raw.get("services")):
        if isinstance(store, str):
            yield ("services", address), store


def _addresses(draft: Draft) -> Iterator[tuple[KeyPath, str, bool]]:
    for entry in draft.lists:
        for number, text in enumerate(entry.value.addresses):
            yield (*entry.path, "addresses", number), text, False
    for text, _ in items(draft.raw.get("services")):
        yield ("services", text), text, True


def _domain(path: KeyPath, text: str, findings: Findings) -> str:
    try:
        return parse_domain(text)
    except AddressSyntaxError as error:
        findings.add(path, f"is no mail domain: {error}", "write the name without a final dot", of_key=True)
        return text
