"""One row for each thing that can be wrong: what is written, the key and message of the problem, its remedy."""

from collections.abc import Callable

import pytest

from router.settings.problem import Problem
from router.settings.schema import Settings

Read = Callable[..., Settings]
Fail = Callable[..., list[Problem]]

STORE = '{role: old, hosts: ["a.example.edu:25"]}'


def stores(**keys: str) -> str:
    entry = {"role": "old", "hosts": '["a.example.edu:25"]', **keys}
    return "{cliff: {" + ", ".join(f"{key}: {value}" for key, value in entry.items()) + "}}"


ERRORS = [
    # identity
    ({"hostname": "mx"}, "hostname", "no full host name", "mx.example.edu"),
    ({"hostname": "mx.example.edu."}, "hostname", "no full host name", ""),
    ({"hostname": "192.0.2.1"}, "hostname", "no full host name", ""),
    ({"hostname": "mx_1.example.edu"}, "hostname", "no full host name", ""),
    ({"hostname": '"[192.0.2.1]"'}, "hostname", "no full host name", ""),
    ({"hostname": "1.10"}, "hostname", "must be text, not the number 1.1", "quotes"),
    ({"hostname": None}, "hostname", "is missing", "add"),
    ({"hostname": ""}, "hostname", "is empty", "value"),
    ({"postmaster": "root"}, "postmaster", "no mail address", "local@domain"),
    ({"postmaster": "postmaster"}, "postmaster", "no domain", "local@domain"),
    ({"postmaster": "'<root@example.edu>'"}, "postmaster", "no mail address", ""),
    # state and processes
    ({"state_dir": "var/lib"}, "state_dir", "no absolute path", "absolute"),
    ({"state_dir": "/etc/passwd"}, "state_dir", "no directory", ""),
    ({"state_dir": "[a]"}, "state_dir", "must be a file name, not a list", ""),
    ({"database": "mysql://u:secret@h/d"}, "database", "'mysql' are not supported", "write sqlite"),
    ({"database": "'nonsense secret'"}, "database", "neither sqlite nor", "write sqlite"),
    ({"database": "postgresql://u:p@h/d"}, "database", "PostgreSQL is not supported yet: use sqlite", "sqlite"),
    ({"database": "postgresql+psycopg://h/d"}, "database", "PostgreSQL is not supported yet", "write sqlite"),
    ({"database": "postgres://h/d"}, "database", "PostgreSQL is not supported yet", "write sqlite"),
    ({"database": "sqlite+pysqlcipher:////a/b"}, "database", "'sqlite+pysqlcipher' are not supported", "write sqlite"),
    ({"database": "sqlite://h//var/lib/c.db"}, "database", "neither host nor account", "four slashes"),
    ({"database": "sqlite:///control.db"}, "database", "absolute path", "four slashes"),
    ({"database": "'sqlite://'"}, "database", "names no database", ""),
    ({"workers": "many"}, "workers", "whole number", "auto"),
    ({"workers": "2:00"}, "workers", "base 60", "auto"),
    ({"workers": "-1"}, "workers", "greater than or equal to 0", ""),
    ({"user": "no-such-account"}, "user", "there is no account", ""),
    ({"user": "root"}, "user", "superuser", "unprivileged"),
    # listeners
    ({"listen": "[]"}, "listen", "nothing would be accepted", "port: 25"),
    ({"listen": "[{port: 65536}]"}, "listen[0].port", "less than or equal to 65535", ""),
    ({"listen": "[{port: 0025}]"}, "listen[0].port", "leading zero", "decimal"),
    ({"listen": "[{port: '25'}]"}, "listen[0].port", "whole number", "without quotes"),
    ({"listen": "[{address: mx.example.edu, port: 25}]"}, "listen[0].address", "no IP address", "::"),
    ({"listen": "[{port: 25}, {port: 26}, {port: 25}]"}, "listen[2]", "port 25 a second time", ""),
    ({"listen": '[{address: "::0", port: 25}, {port: 25}]'}, "listen[1]", "second time", ""),
    ({"listen": "[{address: 0.0.0.0, port: 25}, {port: 25}]"}, "listen[1]", "second time", ""),
    ({"listen": "[{address: 0.0.0.0, port: 25}, {address: 192.0.2.1, port: 25}]"}, "listen[1]", "second time", ""),
    ({"listen": "[{port: 25, require_tls: true}]"}, "listen[0].require_tls", "needs a certificate", "tls:"),
    ({"listen": "[{port: 25, require_tls: yes}]"}, "listen[0].require_tls", "neither true nor false", "true or false"),
    ({"listen": "[{port: 25, proxy_protocol: true}]"}, "listen[0].proxy_protocol", "`relays` only", ""),
    ({"listen": "[{port: 25, tls: {certifcate: /a}}]"}, "listen[0].tls.certifcate", "unknown key", "certificate"),
    ({"listen": "{port: 25}"}, "listen", "must be a list, not a mapping", "[ITEM"),
    # networks
    ({"trusted_networks": "[192.0.2.10/24]"}, "trusted_networks[0]", "beside its prefix", "192.0.2.10/32"),
    ({"trusted_networks": "[0.0.0.0/0]"}, "trusted_networks[0]", "open relay", "one by one"),
    ({"trusted_networks": "[0.0.0.0/1, 128.0.0.0/1]"}, "trusted_networks[1]", "open relay", ""),
    ({"trusted_networks": '["::/0"]'}, "trusted_networks[0]", "open relay", ""),
    ({"trusted_networks": '["::ffff:0:0/96"]'}, "trusted_networks[0]", "open relay", ""),
    ({"trusted_networks": "[x, 0.0.0.0/0]"}, "trusted_networks[1]", "open relay", ""),
    ({"relays": '["2000::/3"]'}, "relays[0]", "open relay", ""),
    ({"relays": "192.0.2.1"}, "relays", "must be a list, not the text", ""),
    # stores
    ({"stores": "{}"}, "stores", "nowhere to deliver", ""),
    ({"stores": "{smarthost: " + STORE + "}"}, "stores.smarthost", "reserved", ""),
    ({"stores": "{a b: " + STORE + "}"}, "stores.a b", "no name for a store", "letters"),
    ({"stores": "{cliff: }"}, "stores.cliff", "is empty", ""),
    ({"stores": "{cliff: {hosts: []}}"}, "stores.cliff.role", "is missing", ""),
    ({"stores": "{cliff: {hosts: [], role: odl}}"}, "stores.cliff.hosts", "is empty", "mail.example.edu:25"),
    ({"stores": stores(role="odl")}, "stores.cliff.role", "'odl' is not one of old, new, other", "did you mean old?"),
    ({"stores": stores(hosts="[a.example.edu]")}, "stores.cliff.hosts[0]", "not host:port", "a.example.edu:25"),
    ({"stores": stores(hosts='["a.edu:25", "A.edu:25"]')}, "stores.cliff.hosts[1]", "twice", ""),
    ({"stores": stores(hosts='["mx.example.edu:25"]')}, "stores.cliff.hosts[0]", "this relay itself", ""),
    ({"stores": stores(hosts='["127.0.0.1:25"]')}, "stores.cliff.hosts[0]", "this relay itself", ""),
    ({"stores": stores(protocol="lmtp")}, "stores.cliff.hosts[0]", "LMTP must not", "another port"),
    ({"stores": stores(protocol="uucp")}, "stores.cliff.protocol", "not one of smtp, lmtp", ""),
    ({"stores": stores(tls="no")}, "stores.cliff.tls", "YAML 1.1 would read a true or false", ""),
    ({"stores": stores(ca_file="/etc/hostname")}, "stores.cliff.ca_file", "has no use with tls: opport", "verify"),
    ({"stores": stores(max_connections="0")}, "stores.cliff.max_connections", "greater than or equal to 1", ""),
    ({"stores": stores(max_conections="5")}, "stores.cliff.max_conections", "unknown key", "max_connections"),
    ({"stores": stores(settle="22:30")}, "stores.cliff.settle", "base 60", "22m30s"),
    ({"stores": stores(settle="-1")}, "stores.cliff.settle", "between 0 and ten years", ""),
    # domains
    ({"domains": "{}"}, "domains", "no mail would be accepted", ""),
    ({"domains": "{example.edu., }"}, "domains.example.edu.", "no mail domain", "final dot"),
    ({"domains": "{Example.edu: , example.EDU: }"}, "domains.example.EDU", "stands here twice", ""),
    ({"domains": "{a.edu: {alias_of: b.edu}}"}, "domains.a.edu.alias_of", "no domain 'b.edu'", ""),
    ({"domains": "{a.edu: {alias_of: A.edu}}"}, "domains.a.edu.alias_of", "circle", ""),
    ({"domains": "{a.edu: {alias_of: b.edu}, b.edu: {alias_of: a.edu}}"}, "domains.b.edu.alias_of", "circle", ""),
    (
        {"domains": "{example.edu: , a.edu: {alias_of: exampel.edu}}"},
        "domains.a.edu.alias_of",
        "there is no domain",
        "did you mean example.edu?",
    ),
    (
        {"domains": "{example.edu: , a.edu: {alias_of: example.edu, unknown: reject}}"},
        "domains.a.edu.unknown",
        "no use beside `alias_of`",
        "example.edu",
    ),
    ({"domains": "{a.edu: {unknown: 'store: clif'}}"}, "domains.a.edu.store", "no store 'clif'", "cliff"),
    ({"domains": "{a.edu: {unknown: {store: clif}}}"}, "domains.a.edu.store", "no store 'clif'", "cliff"),
    ({"domains": "{a.edu: {unknown: store}}"}, "domains.a.edu.unknown", "needs a store", "{store: NAME}"),
    ({"domains": "{a.edu: {unknown: 'store:'}}"}, "domains.a.edu.unknown", "needs a store", ""),
    ({"domains": "{a.edu: {store: cliff}}"}, "domains.a.edu.store", "no use with unknown: reject", ""),
    ({"domains": "{a.edu: {unknown: {store: cliff}, store: cliff}}"}, "domains.a.edu", "named twice", "remove"),
    ({"domains": "{a.edu: {unknown: off}}"}, "domains.a.edu.unknown", "not one of reject, probe, store", ""),
    ({"domains": "{a.edu: {probe: [cliff]}}"}, "domains.a.edu.probe", "no use with unknown: reject", "probe"),
    ({"domains": "{a.edu: {unknown: probe, probe: [zimbr]}}"}, "domains.a.edu.probe[0]", "no store", "zimbra"),
    ({"domains": "{a.edu: {unknown: probe, probe: [cliff, cliff]}}"}, "domains.a.edu.probe", "twice", ""),
    (
        {"stores": stores(role="other"), "domains": "{a.edu: {unknown: probe}}"},
        "domains.a.edu.unknown",
        "no old or new store to probe",
        "probe: [NAME]",
    ),
    # lists and services
    (
        {"lists": "[{store: lists, manager: majordomo, addresses: [a@example.edu]}]"},
        "lists[0].store",
        "no store 'lists'",
        "",
    ),
    ({"lists": "[{store: cliff, manager: mailman, addresses: [a@example.edu]}]"}, "lists[0].manager", "not one", "mai"),
    ({"lists": "[{store: cliff, manager: mailman2}]"}, "lists[0]", "neither `addresses` nor a `file`", ""),
    (
        {"lists": "[{store: cliff, manager: mailman2, addresses: [a@example.com]}]"},
        "lists[0].addresses[0]",
        "no domain 'example.com'",
        "example.edu",
    ),
    (
        {"lists": "[{store: cliff, manager: mailman2, addresses: [a@ALIAS.edu]}]"},
        "lists[0].addresses[0]",
        "alias domain",
        "write a@example.edu",
    ),
    (
        {"lists": "[{store: cliff, manager: mailman2, addresses: [a b@example.edu]}]"},
        "lists[0].addresses[0]",
        "no mail address",
        "",
    ),
    (
        {
            "lists": "[{store: cliff, manager: mailman2, addresses: [A@example.edu]}]",
            "services": "{a@Example.edu: cliff}",
        },
        "services.a@Example.edu",
        "stands in lists already",
        "",
    ),
    (
        {"services": "{a@example.edu: cliff, A@example.edu: cliff}"},
        "services.A@example.edu",
        "stands in services already",
        "",
    ),
    ({"services": "{a@example.edu: clif}"}, "services.a@example.edu", "no store 'clif'", "cliff"),
    ({"services": "{postmaster: cliff}"}, "services.postmaster", "no domain", ""),
    # the rest
    ({"directory": "[ldap]"}, "directory[0]", "says nothing of the directory", "- ldap: {uri"),
    ({"directory": "[ldap: ]"}, "directory[0]", "says nothing of the directory", "- ldap: {uri"),
    ({"directory": "[{ldpa: {}}]"}, "directory[0].ldpa", "unknown key", "did you mean ldap?"),
    ({"directory": "[5]"}, "directory[0]", "not one of database", ""),
    ({"directory": "[ldap: 5]"}, "directory[0].ldap", "must be a mapping, not the number 5", ""),
    ({"directory": "[databse]"}, "directory[0]", "not one of database", "did you mean database?"),
    ({"directory": "[]"}, "directory", "nobody would be known", "[database]"),
    ({"directory": "[database, database]"}, "directory", "twice", ""),
    ({"message_size_limit": "10M"}, "message_size_limit", "no unit known", "10 MiB"),
    ({"message_size_limit": "0"}, "message_size_limit", "more than 0", ""),
    ({"recipient_delimiter": "'+-'"}, "recipient_delimiter", "no delimiter", "one of"),
    ({"recipient_delimiter": "a"}, "recipient_delimiter", "no delimiter", "one of"),
    ({"limits": "{recipients: 99}"}, "limits.recipients", "greater than or equal to 100", ""),
    ({"limits": "{recipients: 32769}"}, "limits.recipients", "less than or equal to 32768", ""),
    ({"limits": "{data_timeout: 3:00}"}, "limits.data_timeout", "base 60", "3m00s"),
    ({"retry": "{first: 0}"}, "retry.first", "longer than 0", ""),
    ({"retry": "{longest: 1m}"}, "retry.longest", "shorter than `first`", "240s"),
    ({"retry": "{lifetime: 1h}"}, "retry.lifetime", "shorter than `longest`", ""),
    ({"retry": "{factor: 0.5}"}, "retry.factor", "greater than or equal to 1", ""),
    ({"retry": "{factor: '2'}"}, "retry.factor", "not a number", "1.7"),
    ({"safety": "{protekt: 7d}"}, "safety.protekt", "unknown key", "did you mean protect?"),
    ({"outbound": "{smarthost: relay.example.net}"}, "outbound.smarthost", "not host:port", "relay.example.net:25"),
    ({"outbound": "{nameservers: [ns.example.edu]}"}, "outbound.nameservers[0]", "no IP address", ""),
    ({"log": "5"}, "log", "must be a mapping, not the number 5", ""),
    ({"smtputf8": "on"}, "smtputf8", "neither true nor false", "true or false"),
    ({"listn": "[]"}, "listn", "unknown key", "did you mean listen?"),
    ({"zzz": "1"}, "zzz", "unknown key", "hostname"),
    ({"fingerprint": "abc"}, "fingerprint", "unknown key", ""),
]


@pytest.mark.parametrize(("keys", "key", "message", "remedy"), ERRORS, ids=[f"{row[1]}-{row[2]}" for row in ERRORS])
def test_each_error_is_named_with_its_key(
    fail: Fail, keys: dict[str, str | None], key: str, message: str, remedy: str
) -> None:
    problems = fail(**keys)
    matching = [problem for problem in problems if problem.key == key and message in problem.message]
    assert matching, [str(problem) for problem in problems]
    assert remedy in matching[0].remedy
    assert matching[0].line >= 1


def test_no_password_is_shown(fail: Fail) -> None:
    for database in ("mysql://u:secret@h/d", "'nonsense secret'", "'postgresql://u:secret@h'", "'a:secret@h:x/y'"):
        told = [f"{problem}{problem.remedy}" for problem in fail(database=database)]
        assert all("secret" not in one and "postgresql" not in one for one in told)


def test_a_faulty_store_brings_no_second_error_elsewhere(fail: Fail) -> None:
    """The store exists, whatever is wrong inside it."""
    problems = fail(
        stores="{cliff: {role: odl, hosts: [x]}}",
        domains="{example.edu: {unknown: probe}, b.edu: {unknown: {store: cliff}}}",
        services="{a@example.edu: cliff}",
    )
    assert {problem.key for problem in problems} == {"stores.cliff.role", "stores.cliff.hosts[0]"}


def test_one_faulty_key_does_not_hide_the_others_of_its_entry(fail: Fail) -> None:
    problems = fail(stores=stores(settle="x", tls="x", ca_file="/no/such", hosts="[]"))
    assert {problem.key for problem in problems} == {
        "stores.cliff.hosts",
        "stores.cliff.settle",
        "stores.cliff.tls",
        "stores.cliff.ca_file",
    }


@pytest.mark.parametrize("network", ["10.0.0.0/8", "127.0.0.0/8", '"::1"', '"fc00::/7"', '"fe80::/10"', "192.0.2.1"])
def test_ones_own_networks_are_fine(read: Read, network: str) -> None:
    assert len(read(trusted_networks=f"[{network}]", relays=f"[{network}]").relays) == 1


def test_other_ports_of_this_host_are_fine(read: Read) -> None:
    hosts = '["127.0.0.1:2525", "mx.example.edu:2525"]'
    assert len(read(stores="{cliff: {role: old, hosts: " + hosts + "}}").stores["cliff"].hosts) == 2


def test_listeners_that_do_not_contend(read: Read) -> None:
    listen = '[{address: 0.0.0.0, port: 25}, {address: "2001:db8::1", port: 25}, {port: 26}]'
    assert len(read(listen=listen).listen) == 3


def test_listeners_on_port_0_are_as_many_as_one_likes(read: Read) -> None:
    assert len(read(listen="[{port: 0}, {port: 0}]").listen) == 2


@pytest.mark.parametrize("url", ["sqlite:////var/lib/sluice/c.db", "sqlite+pysqlite:////var/lib/sluice/c.db"])
def test_databases(read: Read, url: str) -> None:
    assert read(database=url).database_url == url
