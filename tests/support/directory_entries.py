"""Entries as a server sends them, and an interpreter for a small site."""

from collections.abc import Sequence
from typing import Any

from router.directory.interpret import Interpreter
from router.model.directory import DomainEntry, Entry, RawEntry
from router.settings.directory import Ldap
from router.settings.schema import Store

STORES = {
    "cliff": Store.model_validate({"role": "old", "hosts": ["cliff.example.edu:25", "shared.example.edu:25"]}),
    "sunray": Store.model_validate({"role": "old", "hosts": ["sunray.example.edu:25", "shared.example.edu:2525"]}),
    "zimbra": Store.model_validate({"role": "new", "hosts": ["zimbra1.example.edu:25", "zimbra2.example.edu:25"]}),
    "lists": Store.model_validate({"role": "other", "hosts": ["lists.example.edu:7025"], "protocol": "lmtp"}),
}
HOSTNAME = "mx.example.edu"
CLASSES = {
    "sun": "inetMailUser",
    "zimbra": "zimbraAccount",
    "activedirectory": "user",
    "sendmail": "inetLocalMailRecipient",
}


def source(schema: object = "sun", **keys: object) -> Ldap:
    return Ldap.model_validate({"uri": "ldap://127.0.0.1", "base": "dc=example", "schema": schema, **keys})


def raw(dn: str = "uid=joe,dc=example", /, **attributes: str | bytes | Sequence[str | bytes]) -> RawEntry:
    """An entry; names in lower case as the client makes them, text as UTF-8."""
    found: dict[str, tuple[bytes, ...]] = {}
    for name, given in attributes.items():
        values = (given,) if isinstance(given, str | bytes) else given
        found[name.lower()] = tuple(one.encode() if isinstance(one, str) else one for one in values)
    return RawEntry(dn, found)


def interpreter(schema: object = "sun", **keys: object) -> Interpreter:
    return Interpreter(source(schema, **keys), STORES, HOSTNAME)


def entry(reader: Interpreter, found: RawEntry) -> Entry:
    item = reader.item(found)
    assert isinstance(item, Entry), item
    return item


def domain(reader: Interpreter, found: RawEntry) -> DomainEntry:
    item = reader.item(found)
    assert isinstance(item, DomainEntry), item
    return item


def person(reader: Interpreter, preset: str = "sun", /, **attributes: Any) -> Entry:
    return entry(reader, raw(objectClass=["top", CLASSES[preset]], **attributes))
