"""
One server of a directory: does it answer, is it who it should be, may we log in and read what we need.

Guarantees: nothing is written; rights to write are told and not tried. Each question has the directory's own deadline.

On failure: nothing raises; what does not work is a finding, and what depends on it is not asked.
"""

import re
import time
from contextlib import closing
from dataclasses import dataclass

from router.admin.cli.check_finding import Finding, Level, error, ok, warning
from router.directory.connection import LdapConnection
from router.directory.faults import NO_SUCH_OBJECT, Fault, Lost, Troubled
from router.directory.presets import map_of
from router.directory.schema_meaning import SchemaMeaning
from router.directory.search_message import Question
from router.directory.versions import CHANGE_ATTRIBUTES, MODIFY_TIMESTAMP, change_attributes
from router.settings.directory import Ldap

AREA = "directory"
_ANYTHING = "(objectClass=*)"
_NAMES = re.compile(r"\bNAME\s+(?:'([^']+)'|\(([^)]*)\))")
_RIGHTS = "see What the bind DN needs in docs/directory.md"


@dataclass(frozen=True, slots=True)
class Server:
    """One address of one directory. `writes`: changes are written there."""

    source: Ldap
    meaning: SchemaMeaning
    uri: str
    reads: bool = True
    writes: bool = False

    @property
    def subject(self) -> str:
        return f"{self.source.name} {self.uri}"

    def until(self) -> float:
        return time.monotonic() + self.source.deadline


def servers_of(source: Ldap, meaning: SchemaMeaning) -> list[Server]:
    """All addresses of a directory, the master's too."""
    master = source.write_uri or source.uri[0]
    uris = dict.fromkeys((*source.uri, master))
    return [Server(source, meaning, uri, uri in source.uri, uri == master) for uri in uris]


def check_server(server: Server) -> list[Finding]:
    """Blocking. The first finding says whether the server can be used at all."""
    begun = time.monotonic()
    try:
        connection = LdapConnection(server.source, server.uri, server.until())
    except Fault as failure:
        return [error(AREA, server.subject, failure.private, _way_in(failure))]
    with closing(connection):
        text = f"logs in as {_who(server.source)} in {(time.monotonic() - begun) * 1000:.0f} ms, {_tls(server)}"
        try:
            return [ok(AREA, server.subject, text), *_check_inside(server, connection)]
        except Fault as failure:
            return [error(AREA, server.subject, failure.private, _RIGHTS)]


def _check_inside(server: Server, connection: LdapConnection) -> list[Finding]:
    found = []
    subschema = ""
    for base in dict.fromkeys((server.source.base, server.source.domain_base or server.source.base)):
        finding, named = _check_base(server, connection, base)
        found.append(finding)
        subschema = subschema or named
    if any(one.level is Level.ERROR for one in found):
        return found
    found.append(_check_schema(server, connection, subschema))
    if server.reads:
        found.append(_check_changes(server, connection))
    return [*found, *_rights(server)]


def _check_base(server: Server, connection: LdapConnection, base: str) -> tuple[Finding, str]:
    """Whether the base can be read, and where the server's schema is."""
    question = Question(base, _ANYTHING, ("objectClass", "subschemaSubentry"), whole=False)
    try:
        entries = connection.search(question, server.until())
    except Lost:
        raise
    except Fault as failure:
        gone = isinstance(failure, Troubled) and failure.code == NO_SUCH_OBJECT
        text = "there is no such entry, or it may not be seen" if gone else failure.private
        return error(AREA, server.subject, f"search base {base}: {text}", _RIGHTS), ""
    if not entries:
        return error(AREA, server.subject, f"search base {base}: may not be read", _RIGHTS), ""
    named = entries[0].attributes.get("subschemasubentry", ())
    where = named[0].decode("utf-8", "replace") if named else ""
    return ok(AREA, server.subject, f"search base {base} can be read"), where


def _check_schema(server: Server, connection: LdapConnection, place: str) -> Finding:
    """Attributes that the server does not know can be in no entry: a name is misspelled, or a schema missing."""
    known = _attribute_names(server, connection, place) if place else set()
    if not known:
        text = "its schema may not be read, so whether it knows the attributes of ours is not known"
        return ok(AREA, server.subject, text)
    changes = {name.lower() for name in CHANGE_ATTRIBUTES}  # some servers have them and do not say so
    unknown = [name for name in server.meaning.attributes() if name.lower() not in known | changes]
    if not unknown:
        return ok(AREA, server.subject, "its schema has all attributes of ours")
    needed = {map_of(server.source).canonical, server.meaning.write_status, server.meaning.write_home}
    text = f"its schema has no {', '.join(unknown)}"
    remedy = "mend `schema` in the configuration, or load the schema into the server"
    if needed.intersection(unknown):
        return error(AREA, server.subject, text, remedy)
    return warning(AREA, server.subject, f"{text}: nobody has such values", remedy)


def _attribute_names(server: Server, connection: LdapConnection, place: str) -> set[str]:
    question = Question(place, _ANYTHING, ("attributeTypes",), whole=False)
    try:
        entries = connection.search(question, server.until())
    except Lost:
        raise
    except Fault:
        return set()
    texts = [value.decode("utf-8", "replace") for one in entries for value in one.attributes.get("attributetypes", ())]
    return {name.lower() for text in texts for name in _names_in(text)}


def _names_in(definition: str) -> list[str]:
    """The names in an AttributeTypeDescription (RFC 4512, 4.1.2)."""
    found = _NAMES.search(definition)
    if found is None:
        return []
    return [found[1]] if found[1] else re.findall(r"'([^']+)'", found[2])


def _check_changes(server: Server, connection: LdapConnection) -> Finding:
    names = change_attributes(server.source.change_attribute)
    question = Question(server.source.base, server.meaning.all_filter(), names)
    entries = connection.page(question, server.until(), 1).entries
    if not entries:
        text = "no person, group or domain is found below the search base"
        return warning(AREA, server.subject, text, "correct `base` or `schema`, or give the bind DN the rights")
    told = next((name for name in names if entries[0].attributes.get(name.lower())), "")
    if not told:
        text = f"entries have none of {', '.join(names)} that we may read: changes go unseen"
        return error(AREA, server.subject, text, _RIGHTS)
    coarse = ", in steps of one second" if told == MODIFY_TIMESTAMP else ""
    return ok(AREA, server.subject, f"changes are told by {told}{coarse}")


def _rights(server: Server) -> list[Finding]:
    meaning = server.meaning
    names = [name for name in (meaning.write_status, meaning.write_home) if name]
    if not server.writes:
        return []
    if not names:
        return [ok(AREA, server.subject, "nothing is ever written to it")]
    text = f"hold, release and move write {' and '.join(names)} here; whether that is allowed was not tried"
    return [ok(AREA, server.subject, text)]


def _way_in(failure: Fault) -> str:
    text = failure.private
    if "TLS" in text or "certificate" in text.lower():
        return "mend the server's certificate, or name its authority in `ca_file`"
    if isinstance(failure, Lost):
        return "see that the server runs and lets our address in; the other servers are used meanwhile"
    return "mend `bind_dn` and `password_file`, or the rights at the server" if "login" in text else ""


def _who(source: Ldap) -> str:
    return "whom the certificate or socket names (EXTERNAL)" if source.external else source.bind_dn or "nobody"


def _tls(server: Server) -> str:
    source = server.source
    if server.uri.startswith("ldapi:"):
        return "over a local socket"
    if not (server.uri.startswith("ldaps:") or source.starttls):
        return "without TLS"
    return "TLS, certificate verified" if source.tls_verify else "TLS, certificate NOT verified"
