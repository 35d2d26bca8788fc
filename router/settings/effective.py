"""
The configuration as it takes effect: names folded, aliases followed to their end, defaults filled in, fingerprint.

Guarantees: pure but for the digests of the files named. Two files that mean the same give equal settings and the
same fingerprint, whatever their comments, order of keys and spelling of sizes.
"""

import hashlib
import json
from pathlib import Path

from router.model.address import parse_address
from router.settings.draft import Draft, fold_domain
from router.settings.file_checks import file_digest
from router.settings.schema import Domain, Settings


def effective(settings: Settings, draft: Draft) -> Settings:
    """Fold and fill in. `settings` has passed every check."""
    complete = settings.model_copy(
        update={
            "hostname": settings.hostname.lower(),
            "domains": {fold_domain(name): _domain(value, draft) for name, value in settings.domains.items()},
            "services": {parse_address(text).key: store for text, store in settings.services.items()},
            "lists": tuple(
                entry.model_copy(update={"addresses": tuple(parse_address(text).key for text in entry.addresses)})
                for entry in settings.lists
            ),
        }
    )
    return complete.model_copy(update={"fingerprint": fingerprint(complete)})


def fingerprint(settings: Settings) -> str:
    """
    SHA-256, in hexadecimal, over the canonical JSON of the settings and the content of list and CA files.

    Certificates and passwords are left out: they are renewed without any change of routing, and no digest of a
    password is ever written anywhere. Raises `OSError` when a file cannot be read.
    """
    files = [entry.file for entry in settings.lists] + [store.ca_file for store in settings.stores.values()]
    files += [ldap.ca_file for ldap in settings.ldaps.values()]
    canonical = {
        "settings": settings.model_dump(mode="json", exclude={"fingerprint"}, by_alias=True),
        "files": {str(file): file_digest(Path(file)) for file in files if file is not None},
    }
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _domain(domain: Domain, draft: Draft) -> Domain:
    if domain.alias_of:
        return domain.model_copy(update={"alias_of": draft.end_of_alias(fold_domain(domain.alias_of))})
    if domain.unknown == "probe" and not domain.probe:
        return domain.model_copy(update={"probe": draft.probe_default})
    return domain
