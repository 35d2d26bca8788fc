"""
The checks of `directory:`: sources, servers, log-in, what is sent in the clear, times. The schema has its own.

Guarantees: pure (no file, no network); each check says everything it finds; none raises; no password is shown.
"""

import re
from collections.abc import Iterator

from router.model.dn import DnSyntaxError, parse_dn
from router.settings.directory import Ldap
from router.settings.draft import Draft, Entry
from router.settings.findings import Findings
from router.settings.ldap_uri import LdapUri, parse_ldap_uri
from router.settings.problem import KeyPath
from router.settings.values import BadValue, parse_host, shown

LONGEST_DEADLINE = 9.0
"""Seconds. The classifier gives up a lookup after ten, whatever else it knows by then."""
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


def check_directory(draft: Draft, findings: Findings) -> None:
    """There is a source, and each stands there once; what each LDAP source says fits together."""
    directory = draft.raw.get("directory")
    if directory == []:
        findings.add(("directory",), "is empty: nobody would be known", "write [database]")
    elif isinstance(directory, list) and directory.count("database") > 1:
        findings.add(("directory",), "names the database twice", "write [database]")
    _check_names(draft, findings)
    for entry in draft.ldaps:
        _check_servers(entry, findings)
        _check_login(entry, findings)
        _check_tls(entry, findings)
        _check_places(entry, findings)
        _check_times(entry, findings)


def _check_names(draft: Draft, findings: Findings) -> None:
    names: set[str] = set()
    places: set[tuple[tuple[str, ...], str, str]] = set()
    for entry in draft.ldaps:
        ldap = entry.value
        if not _NAME.fullmatch(ldap.name) or ldap.name == "database":
            message = "is the name of another source" if ldap.name == "database" else "is no name for a source"
            findings.add((*entry.path, "name"), f"{shown(ldap.name)} {message}", "write small letters, digits, dashes")
        elif ldap.name in names:
            remedy = "give each directory a `name` of its own"
            findings.add((*entry.path, "name"), f"{shown(ldap.name)} names two directories", remedy)
        place = (tuple(sorted(uri.lower() for uri in ldap.uri)), ldap.base.lower(), ldap.domain_base.lower())
        if place in places and not entry.faulty & {"uri", "base", "domain_base"}:
            findings.add(entry.path, "is the same directory a second time", "remove one of them")
        names.add(ldap.name)
        places.add(place)


def _check_servers(entry: Entry[Ldap], findings: Findings) -> None:
    ldap, path = entry.value, entry.path
    if not ldap.uri and "uri" not in entry.faulty:
        findings.add((*path, "uri"), "is empty", "write for instance ldaps://ldap.example.edu")
    for number, uri in enumerate(ldap.uri):
        if uri in ldap.uri[:number]:
            findings.add((*path, "uri", number), "stands here twice", "remove one of them")
    for place, uri in _uris(entry):
        try:
            parse_ldap_uri(uri)
        except BadValue as error:
            findings.add_error(place, error)


def _check_login(entry: Entry[Ldap], findings: Findings) -> None:
    ldap, path = entry.value, entry.path
    if entry.faulty & {"bind_dn", "password_file", "external"}:
        return
    if ldap.external:
        for key in ("bind_dn", "password_file"):
            if getattr(ldap, key):
                findings.add((*path, key), "has no use with external: true", "remove one of them")
        _check_external(entry, findings)
    elif ldap.bind_dn and ldap.password_file is None:  # RFC 4513 5.1.2: a DN without a password logs nobody in
        findings.add((*path, "bind_dn"), "needs a password", "add password_file: /etc/sluice/ldap.password")
    elif ldap.password_file is not None and not ldap.bind_dn:
        findings.add((*path, "password_file"), "has no use without bind_dn", "add bind_dn, or remove the key")


def _check_external(entry: Entry[Ldap], findings: Findings) -> None:
    ldap = entry.value
    local = bool(ldap.uri) and all(uri.scheme == "ldapi" for _, uri in _good_uris(entry))
    if not local and ldap.certificate is None and "certificate" not in entry.faulty:
        message = "has nothing to show who we are"
        findings.add((*entry.path, "external"), message, "add certificate and key, or use ldapi://")


def _check_tls(entry: Entry[Ldap], findings: Findings) -> None:
    ldap, path = entry.value, entry.path
    uris = list(_good_uris(entry))
    for place, uri in uris:
        if ldap.starttls and uri.scheme != "ldap":
            remedy = "remove starttls, or write ldap://"
            findings.add(place, f"is {uri.scheme}://, which starttls: true does not go with", remedy)
        if _in_the_clear(ldap, uri) and ldap.password_file is not None and not ldap.plain_password:
            remedy = "write ldaps://, or starttls: true, or (never over a network of others) plain_password: true"
            findings.add(place, "would show the password to everybody on the way", remedy)
    _check_pair(entry, findings)
    if not ldap.tls_verify and ldap.ca_file is not None:
        findings.add((*path, "ca_file"), "has no use with tls_verify: false", "remove one of them")
    tls = ldap.starttls or any(uri.scheme == "ldaps" for _, uri in uris)
    for key in ("ca_file", "certificate", "key") if uris and not tls and "starttls" not in entry.faulty else ():
        if getattr(ldap, key) is not None:
            findings.add((*path, key), "has no use without TLS", "write ldaps://, or starttls: true")


def _check_pair(entry: Entry[Ldap], findings: Findings) -> None:
    for one, other in (("certificate", "key"), ("key", "certificate")):
        if getattr(entry.value, one) is not None and getattr(entry.value, other) is None and other not in entry.faulty:
            findings.add((*entry.path, one), f"needs the {other} that belongs to it", f"add {other}: /etc/sluice/…")


def _in_the_clear(ldap: Ldap, uri: LdapUri) -> bool:
    return uri.scheme == "ldap" and not ldap.starttls and not uri.local


def _check_places(entry: Entry[Ldap], findings: Findings) -> None:
    for key in ("base", "domain_base", "bind_dn"):
        text = getattr(entry.value, key)
        if key == "base" and not text.strip() and key not in entry.faulty:
            findings.add((*entry.path, key), "is empty", "write for instance dc=example,dc=edu")
        try:
            parse_dn(text)
        except DnSyntaxError as error:
            message = f"{shown(text)} is no distinguished name: {error}"
            findings.add((*entry.path, key), message, "write for instance ou=people,dc=example,dc=edu")
    for number, host in enumerate(entry.value.local_hosts):
        try:
            parse_host(host)
        except BadValue as error:
            findings.add_error((*entry.path, "local_hosts", number), error)


def _check_times(entry: Entry[Ldap], findings: Findings) -> None:
    ldap, path = entry.value, entry.path
    for key in ("connect_timeout", "receive_timeout", "deadline", "follow", "sweep"):
        if not getattr(ldap, key) > 0:
            findings.add(
                (*path, key), "must be longer than 0", f"write for instance {Ldap.model_fields[key].default:g}s"
            )
    if ldap.deadline > LONGEST_DEADLINE:
        message = "is too long: known people's sub-addresses and lists wait for it too, and a session for 10 s at most"
        findings.add((*path, "deadline"), message, f"write at most {LONGEST_DEADLINE:g}s")
    if ldap.follow <= ldap.stale_delivery < 2 * ldap.follow and not entry.faulty & {"follow", "stale_delivery"}:
        message = "must be twice as long as `follow`: otherwise mail would wait between two polls"
        findings.add((*path, "stale_delivery"), message, f"write at least {2 * ldap.follow:g}s")
    for shorter, longer, reason in (
        ("follow", "sweep", "a sweep reads everything, a poll only what has changed"),
        ("follow", "stale_delivery", "otherwise mail would wait between two polls"),
        ("stale_delivery", "stale", "what may be delivered may be accepted"),
        ("connect_timeout", "deadline", "otherwise no lookup could wait for a connection"),
    ):
        if getattr(ldap, shorter) > getattr(ldap, longer) and not entry.faulty & {shorter, longer}:
            remedy = f"write at least {getattr(ldap, shorter):g}s"
            findings.add((*path, longer), f"must not be shorter than `{shorter}`: {reason}", remedy)


def _uris(entry: Entry[Ldap]) -> Iterator[tuple[KeyPath, str]]:
    for number, uri in enumerate(entry.value.uri):
        yield (*entry.path, "uri", number), uri
    if entry.value.write_uri:
        yield (*entry.path, "write_uri"), entry.value.write_uri


def _good_uris(entry: Entry[Ldap]) -> Iterator[tuple[KeyPath, LdapUri]]:
    for place, text in _uris(entry):
        try:
            yield place, parse_ldap_uri(text)
        except BadValue:  # reported by _check_servers
            continue
