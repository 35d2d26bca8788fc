"""`directory:` with LDAP: one row for each thing that can be wrong, and what a good one is read as."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from router.settings.directory import AttributeMap, Ldap, LdapSource
from router.settings.ldap_uri import LdapUri, parse_ldap_uri
from router.settings.problem import Problem
from router.settings.published import keep, recall
from router.settings.schema import Settings
from router.settings.values import BadValue

Read = Callable[..., Settings]
Fail = Callable[..., list[Problem]]

URI, BASE = "ldaps://ldap.example.edu", '"dc=example,dc=edu"'


def ldap(**keys: str) -> str:
    entry = {"uri": URI, "base": BASE, **keys}
    return "{ldap: {" + ", ".join(f"{key}: {value}" for key, value in entry.items()) + "}}"


def schema(**keys: str) -> str:
    return ldap(schema="{" + ", ".join(f"{key}: {value}" for key, value in keys.items()) + "}")


HOLD = "[{attribute: s, values: {Umzug: hold}}]"
ERRORS = [
    # servers
    ({"uri": "[]"}, "uri", "is empty", "ldaps://"),
    ({"uri": "ldap.example.edu"}, "uri[0]", "is no LDAP URI", "write ldap://HOST"),
    ({"uri": '"http://ldap.example.edu"'}, "uri[0]", "is no LDAP URI", ""),
    ({"uri": '"ldaps://"'}, "uri[0]", "names no host", ""),
    ({"uri": '"ldaps://h/dc=x"'}, "uri[0]", "more than a host", "`base`"),
    ({"uri": '"ldaps://h?x"'}, "uri[0]", "more than a host", ""),
    ({"uri": '"ldaps://h:0"'}, "uri[0]", "no port", ""),
    ({"uri": '"ldaps://h..example.edu"'}, "uri[0]", "no host name", ""),
    ({"uri": '"ldapi://socket"'}, "uri[0]", "names no socket", "%2F"),
    ({"uri": f"[{URI}, {URI}]"}, "uri[1]", "stands here twice", ""),
    ({"write_uri": "nonsense"}, "write_uri", "is no LDAP URI", ""),
    ({"uri": "5"}, "uri", "must be a list, not the number 5", ""),
    # places
    ({"base": "''"}, "base", "is empty", "dc=example"),
    ({"base": "example.edu"}, "base", "no distinguished name", "ou=people"),
    ({"domain_base": "'dc=a,'"}, "domain_base", "no distinguished name", ""),
    ({"bind_dn": "'EXAMPLE\\sluice'", "password_file": "/p"}, "bind_dn", "no distinguished name", ""),
    ({"local_hosts": "['a b']"}, "local_hosts[0]", "is no host name", ""),
    # log-in
    ({"bind_dn": "cn=s"}, "bind_dn", "needs a password", "password_file"),
    ({"password_file": "/etc/hostname"}, "password_file", "has no use without bind_dn", ""),
    ({"external": "true", "bind_dn": "cn=s"}, "bind_dn", "no use with external", ""),
    ({"external": "true"}, "external", "nothing to show who we are", "certificate"),
    ({"external": "true", "uri": '[ldapi://, "ldaps://h.edu"]'}, "external", "nothing to show who we are", ""),
    # in the clear
    ({"uri": '"ldap://h.edu"', "bind_dn": "cn=s", "password_file": "/p"}, "uri[0]", "would show the password", "ldaps"),
    ({"uri": '[ldapi://, "ldap://10.0.0.1"]', "bind_dn": "cn=s", "password_file": "/p"}, "uri[1]", "show the pass", ""),
    ({"write_uri": '"ldap://h.edu"', "bind_dn": "cn=s", "password_file": "/p"}, "write_uri", "show the password", ""),
    ({"starttls": "true"}, "uri[0]", "is ldaps://", "remove starttls"),
    ({"starttls": "true", "uri": "ldapi://"}, "uri[0]", "is ldapi://", ""),
    ({"uri": '"ldap://h.edu"', "ca_file": "/c"}, "ca_file", "no use without TLS", "starttls"),
    ({"uri": '"ldap://h.edu"', "certificate": "/c", "key": "/k"}, "certificate", "no use without TLS", ""),
    ({"tls_verify": "false", "ca_file": "/c"}, "ca_file", "no use with tls_verify: false", ""),
    ({"tls_verify": "no"}, "tls_verify", "neither true nor false", ""),
    ({"certificate": "/c"}, "certificate", "needs the key", "add key"),
    ({"key": "/k"}, "key", "needs the certificate", "add certificate"),
    # names
    ({"name": "database"}, "name", "name of another source", ""),
    ({"name": "My LDAP"}, "name", "no name for a source", "small letters"),
    # stores
    ({"homes": "{old: clif}"}, "homes.old", "no store 'clif'", "cliff"),
    ({"homes": "{old: cliff, OLD.: zimbra}"}, "homes.OLD.", "stands here twice", ""),
    ({"homes": "{' ': cliff}"}, "homes. ", "is empty", ""),
    ({"homes": "{Z.example.edu: cliff}"}, "homes.Z.example.edu", "is a host of zimbra", "write zimbra"),
    ({"lists": "zimbr"}, "lists", "no store 'zimbr'", "zimbra"),
    ({"write_homes": "{clif: old}"}, "write_homes.clif", "no store 'clif'", "cliff"),
    ({"write_homes": "{cliff: ''}"}, "write_homes.cliff", "is empty", ""),
    ({"homes": "{old: cliff}", "write_homes": "{zimbra: old}"}, "write_homes.zimbra", "means cliff in `homes`", ""),
    # times
    ({"follow": "0"}, "follow", "longer than 0", "2s"),
    ({"sweep": "0"}, "sweep", "longer than 0", ""),
    ({"deadline": "0"}, "deadline", "longer than 0", ""),
    ({"connect_timeout": "10s"}, "deadline", "shorter than `connect_timeout`", "10s"),
    ({"sweep": "1s"}, "sweep", "shorter than `follow`", ""),
    ({"stale": "1m"}, "stale", "shorter than `stale_delivery`", "120s"),
    ({"stale_delivery": "1s"}, "stale_delivery", "shorter than `follow`", "2s"),
    ({"stale_delivery": "3s"}, "stale_delivery", "twice as long as `follow`", "4s"),
    ({"deadline": "9100ms"}, "deadline", "is too long", "9s"),
    ({"max_loss": "0"}, "max_loss", "greater than 0", ""),
    ({"max_loss": "2"}, "max_loss", "less than or equal to 1", ""),
    ({"connections": "0"}, "connections", "greater than or equal to 1", ""),
    ({"page_size": "1"}, "page_size", "greater than or equal to 10", ""),
    ({"follow": "22:30"}, "follow", "base 60", ""),
    ({"folow": "2s"}, "folow", "unknown key", "did you mean follow?"),
    ({"schema_": "sun"}, "schema_", "unknown key", "did you mean schema?"),
    ({"change_attribute": "csn"}, "change_attribute", "is not one of auto", ""),
    # schemas
    ({"schema": "son"}, "schema", "is not one of sun, zimbra", "did you mean sun?"),
    ({"schema": "5"}, "schema", "is not one of sun, zimbra", ""),
]
MAP_ERRORS = [
    ({"peple": "x"}, "peple", "unknown key", "did you mean people?"),
    ({"people": "objectClass=x"}, "people", "is no filter: an opening bracket", "(objectClass="),
    ({"people": "'(a=b'"}, "people", "is no filter", ""),
    ({"groups": "'(|(a=b)(c=d)'"}, "groups", "is no filter", ""),
    ({"domains": "'(a=\\zz)'", "domain_name": "[d]"}, "domains", "is no filter", ""),
    ({"people": "''"}, "people", "nobody would be found", ""),
    ({"canonical": "''", "addresses": "[]"}, "canonical", "nobody would have an address", "mail"),
    ({"home": "mail host"}, "home", "is no attribute's name", ""),
    ({"addresses": '["a)(b"]'}, "addresses[0]", "is no attribute's name", ""),
    ({"statuses": "[{attribute: ''}]"}, "statuses[0].attribute", "is no attribute's name", ""),
    ({"statuses": "[{attribute: s, values: {a: frozen}}]"}, "statuses[0].values.a", "not one of active", ""),
    ({"statuses": "[{attribute: s, values: {On: active, on: hold}}]"}, "statuses[0].values.on", "here twice", ""),
    ({"delivery": "d"}, "delivery", "no use without `forward`", ""),
    ({"members": "[m]"}, "members", "no use without `groups`", ""),
    ({"domains": "(a=b)"}, "domains", "no use without `domain_name`", ""),
    ({"domain_home": "h"}, "domain_home", "no use without `domains`", ""),
    ({"home_also": "[h]"}, "home_also", "no use without `home`", ""),
    ({"write_home": "true"}, "write_home", "needs `home`", ""),
    ({"prefixed": "p", "address_prefix": "''"}, "address_prefix", "is empty", "smtp:"),
    ({"write_status": "s"}, "write_status", "none of the attributes in `statuses`", ""),
    ({"write_status": "s", "statuses": HOLD}, "write_hold", "'hold' does not mean hold", "means hold"),
    ({"home_form": "dns"}, "home_form", "not one of host, transport, server", ""),
]


def check(problems: list[Problem], key: str, message: str, remedy: str) -> None:
    matching = [problem for problem in problems if problem.key == key and message in problem.message]
    assert matching, [str(problem) for problem in problems]
    assert remedy in matching[0].remedy
    assert matching[0].line >= 1


@pytest.mark.parametrize(("keys", "key", "message", "remedy"), ERRORS, ids=[f"{row[1]}-{row[2]}" for row in ERRORS])
def test_each_error_is_named_with_its_key(
    fail: Fail, keys: dict[str, str], key: str, message: str, remedy: str
) -> None:
    check(fail(directory=f"[{ldap(**keys)}]"), f"directory[0].ldap.{key}", message, remedy)


@pytest.mark.parametrize(
    ("keys", "key", "message", "remedy"), MAP_ERRORS, ids=[f"{row[1]}-{row[2]}" for row in MAP_ERRORS]
)
def test_each_error_of_an_attribute_map(fail: Fail, keys: dict[str, str], key: str, message: str, remedy: str) -> None:
    check(fail(directory=f"[database, {schema(**keys)}]"), f"directory[1].ldap.schema.{key}", message, remedy)


def test_all_errors_of_a_source_come_at_once(fail: Fail) -> None:
    problems = fail(directory=f"[{ldap(base='x', follow='0', stale='x', lists='nowhere', connections='0')}]")
    assert {problem.key.removeprefix("directory[0].ldap.") for problem in problems} == {
        "base",
        "follow",
        "stale",
        "lists",
        "connections",
    }


def test_a_source_stands_there_once(fail: Fail) -> None:
    twice = fail(directory=f"[{ldap()}, {ldap(name='other')}]")
    check(twice, "directory[1].ldap", "the same directory a second time", "")
    same_name = fail(directory=f"[{ldap()}, {ldap(base='o=x')}]")
    check(same_name, "directory[1].ldap.name", "names two directories", "of its own")


def test_no_password_is_shown(fail: Fail) -> None:
    for uri in ("ldap://joe:secret@h.edu", "http://joe:secret@h", "ldaps://joe:secret@", "ldapi://joe:secret@x"):
        told = [f"{problem}{problem.remedy}" for problem in fail(directory=f"[{ldap(uri=uri)}]")]
        assert told
        assert all("secret" not in one for one in told)


def test_a_source_as_it_is_read(read: Read) -> None:
    homes = "{oldmail.example.edu: cliff}"
    settings = read(directory=f"[database, {ldap(homes=homes, follow='500ms', name='people')}]")
    assert settings.directory[0] == "database"
    (people,) = settings.ldaps.values()
    assert settings.directory[1] == LdapSource(ldap=people)
    assert list(settings.ldaps) == ["people"]
    assert people.uri == (URI,)
    assert (people.base, people.follow, people.stale, people.homes) == (
        "dc=example,dc=edu",
        0.5,
        14400.0,
        {"oldmail.example.edu": "cliff"},
    )
    assert people.schema_ == "sun"
    assert people.tls_verify
    own = read(directory=f"[{schema(people='(a=b)', home='server')}]").ldaps["ldap"].schema_
    assert own == AttributeMap(people="(a=b)", home="server")


@pytest.mark.parametrize(
    "keys",
    [
        {"uri": '"ldap://h.edu"'},
        {"uri": '"ldap://h.edu"', "starttls": "true", "bind_dn": "cn=s", "password_file": "P"},
        {"uri": '"ldap://h.edu"', "plain_password": "true", "bind_dn": "cn=s", "password_file": "P"},
        {"uri": '"ldap://127.0.0.1:3890"', "bind_dn": "cn=s", "password_file": "P"},
        {"uri": '"ldap://[::1]"', "bind_dn": "cn=s", "password_file": "P"},
        {"uri": '"ldap://localhost/"', "bind_dn": "cn=s", "password_file": "P"},
        {"uri": '["ldapi://%2Frun%2Fldapi"]', "external": "true"},
        {"write_homes": "{zimbra: new.example.edu}", "lists": "zimbra"},
        {"homes": "{cliff.example.edu: cliff}"},
    ],
)
def test_what_is_fine(read: Read, tmp_path: Path, keys: dict[str, str]) -> None:
    password = tmp_path / "password"
    password.write_text("secret\n")
    password.chmod(0o640)
    given = {key: str(password) if value == "P" else value for key, value in keys.items()}
    assert "ldap" in read(directory=f"[{ldap(**given)}]").ldaps


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        ("hunter2\n", 0o644, "open to every account"),
        ("hunter2\n", 0o602, "open to every account"),
        ("", 0o600, "is empty"),
        ("\n", 0o600, "is empty"),
        ("one\ntwo\n", 0o600, "more than one line"),
        ("a\0b", 0o600, "more than one line"),
        ("x" * 2000, 0o600, "longer than any password"),
        (None, 0o600, "No such file"),
    ],
    ids=["readable", "writable", "empty", "blank", "two-lines", "nul", "long", "missing"],
)
def test_password_files(fail: Fail, tmp_path: Path, content: str | None, mode: int, message: str) -> None:
    password = tmp_path / "password"
    if content is not None:
        password.write_text(content)
        password.chmod(mode)
    problems = fail(directory=f"[{ldap(bind_dn='cn=s', password_file=str(password))}]")
    check(problems, "directory[0].ldap.password_file", message, "")
    assert all("hunter2" not in f"{problem}{problem.remedy}" for problem in problems)


@pytest.fixture
def pem(tmp_path: Path) -> dict[str, Path]:
    authority = trustme.CA()
    issued, other = authority.issue_cert("sluice"), authority.issue_cert("other")
    files = {name: tmp_path / name for name in ("certificate", "key", "foreign", "ca", "text")}
    issued.cert_chain_pems[0].write_to_path(files["certificate"])
    issued.private_key_pem.write_to_path(files["key"])
    other.private_key_pem.write_to_path(files["foreign"])
    authority.cert_pem.write_to_path(files["ca"])
    files["text"].write_text("no PEM\n")
    for name in ("key", "foreign"):
        files[name].chmod(stat.S_IRUSR)
    return files


def test_certificates_of_a_directory(read: Read, fail: Fail, pem: dict[str, Path]) -> None:
    good = {"certificate": str(pem["certificate"]), "key": str(pem["key"]), "external": "true"}
    assert read(directory=f"[{ldap(**good, ca_file=str(pem['ca']))}]").ldaps["ldap"].key == pem["key"]
    crossed = fail(directory=f"[{ldap(**{**good, 'key': str(pem['foreign'])})}]")
    check(crossed, "directory[0].ldap", "cannot be used together", "")
    check(fail(directory=f"[{ldap(ca_file=str(pem['text']))}]"), "directory[0].ldap.ca_file", "no certificates", "PEM")
    pem["key"].chmod(0o644)
    check(fail(directory=f"[{ldap(**good)}]"), "directory[0].ldap.key", "open to every account", "chmod")


def test_the_fingerprint_covers_authorities_and_no_password(read: Read, tmp_path: Path, pem: dict[str, Path]) -> None:
    password = tmp_path / "password"
    password.write_text("secret\n")
    password.chmod(0o600)
    directory = f"[{ldap(bind_dn='cn=s', password_file=str(password), ca_file=str(pem['ca']))}]"
    before = read(directory=directory).fingerprint
    password.write_text("another\n")
    assert read(directory=directory).fingerprint == before
    pem["ca"].write_bytes(pem["ca"].read_bytes() + b"\n")
    assert read(directory=directory).fingerprint != before
    assert read(directory=f"[{ldap(follow='3s')}]").fingerprint != read(directory=f"[{ldap()}]").fingerprint


def test_a_published_configuration_comes_back_whole(read: Read, tmp_path: Path) -> None:
    own = schema(people="(a=b)", statuses="[{attribute: s, values: {Umzug: hold}}]", home="h")
    settings = read(
        directory=f"[database, {ldap(schema='zimbra')}, {own.replace('uri:', 'name: own, domain_base: o=d, uri:')}]"
    )
    keep(settings, tmp_path)
    assert recall(tmp_path, settings.fingerprint) == settings
    assert isinstance(settings.ldaps["own"].schema_, AttributeMap)


@pytest.mark.parametrize(
    ("text", "uri", "local"),
    [
        ("ldap://Ldap.Example.EDU", LdapUri("ldap", "ldap.example.edu", 389), False),
        ("LDAPS://h.edu:1636/", LdapUri("ldaps", "h.edu", 1636), False),
        ("ldap://[2001:DB8::1]:390", LdapUri("ldap", "2001:db8::1", 390), False),
        ("ldap://[::1]", LdapUri("ldap", "::1", 389), True),
        ("ldap://127.1.2.3", LdapUri("ldap", "127.1.2.3", 389), True),
        ("ldapi://", LdapUri("ldapi", path="/var/run/slapd/ldapi"), True),
        ("ldapi://%2Frun%2Fldapi", LdapUri("ldapi", path="/run/ldapi"), True),
    ],
)
def test_uris(text: str, uri: LdapUri, local: bool) -> None:
    assert parse_ldap_uri(text) == uri
    assert uri.local is local


@pytest.mark.parametrize("text", ["", "ldap", "ldap:/h", "ldap://a b", "ldap://h:x", "ldap://[::1", "ldap://\u202eh"])
def test_texts_that_are_no_uris(text: str) -> None:
    with pytest.raises(BadValue):
        parse_ldap_uri(text)


def test_a_status_map_without_values_speaks_our_names() -> None:
    source = Ldap.model_validate({"uri": URI, "base": "o=x", "schema": {"statuses": [{"attribute": "s"}]}})
    assert isinstance(source.schema_, AttributeMap)
    (status,) = source.schema_.statuses
    assert [status.meaning(value) for value in ("HOLD", " active ", "frozen")] == ["hold", "active", None]
