"""
LDIF for directories of tests: people, groups and domains as Sun, Zimbra, Active Directory and sendmail keep them.

Pure text; `record` writes any entry, `replace` and `delete` change one. Values that LDIF cannot hold as they are become
base64. An attribute whose value is None is left out, a tuple has several values.
"""

from collections.abc import Iterator

from router.directory.ldif import line
from support.slapd import BASE

Value = str | bytes | tuple[str | bytes, ...] | None
PEOPLE, GROUPS, DOMAINS = (f"ou={name},{BASE}" for name in ("people", "groups", "domains"))
OLD_HOST, NEW_HOST = "oldmail.example.edu", "newmail.example.edu"


def record(dn: str, **attributes: Value) -> str:
    """One entry (RFC 2849)."""
    lines = [line("dn", dn.encode())]
    for name, value in attributes.items():
        lines += [line(name, _octets(one)) for one in _values(value)]
    return "\n".join(lines) + "\n"


def replace(dn: str, **attributes: Value) -> str:
    """A change record that gives attributes these values; None takes an attribute away."""
    lines = [line("dn", dn.encode()), "changetype: modify"]
    for name, value in attributes.items():
        lines += [f"replace: {name}", *(line(name, _octets(one)) for one in _values(value)), "-"]
    return "\n".join(lines) + "\n\n"


def delete(dn: str) -> str:
    return f"{line('dn', dn.encode())}\nchangetype: delete\n\n"


def sun_dn(name: str) -> str:
    return f"uid={name},{PEOPLE}"


def sun_person(name: str, host: str | None = OLD_HOST, domain: str = "example.edu", **more: Value) -> str:
    """`name@domain` at `host`, active; `more` adds or overrides attributes."""
    attributes: dict[str, Value] = {
        "objectClass": ("inetOrgPerson", "inetUser", "inetMailUser"),
        "uid": name,
        "cn": name,
        "sn": name,
        "mail": f"{name}@{domain}",
        "mailHost": host,
        "mailUserStatus": "active",
        "inetUserStatus": "active",
        "mailDeliveryOption": "mailbox",
    }
    return record(sun_dn(name), **(attributes | more))


def sun_people(count: int) -> Iterator[str]:
    """`user0@example.edu` and so on, each with one further address `User.N@example.edu`; every third one is moved."""
    for number in range(count):
        host = NEW_HOST if number % 3 == 0 else OLD_HOST
        yield sun_person(f"user{number}", host, mailAlternateAddress=f"User.{number}@example.edu")


def sun_group(name: str, host: str | None = None, **more: Value) -> str:
    attributes: dict[str, Value] = {
        "objectClass": ("groupOfUniqueNames", "inetMailGroup"),
        "cn": name,
        "uniqueMember": f"cn=nobody,{BASE}",
        "mail": f"{name}@example.edu",
        "mailHost": host,
        "inetMailGroupStatus": "active",
    }
    return record(f"cn={name},{GROUPS}", **(attributes | more))


def sun_domain(name: str, **more: Value) -> str:
    attributes: dict[str, Value] = {
        "objectClass": ("organization", "inetDomain", "mailDomain"),
        "o": name,
        "sunPreferredDomain": name,
        "inetDomainStatus": "active",
        "mailDomainStatus": "active",
    }
    return record(f"o={name},{DOMAINS}", **(attributes | more))


def zimbra_account(name: str, host: str = "zimbra1.example.edu", **more: Value) -> str:
    attributes: dict[str, Value] = {
        "objectClass": ("inetOrgPerson", "zimbraAccount"),
        "uid": name,
        "cn": name,
        "sn": name,
        "mail": f"{name}@example.edu",
        "zimbraMailDeliveryAddress": f"{name}@example.edu",
        "zimbraMailTransport": f"lmtp:{host}:7025",
        "zimbraMailHost": host,
        "zimbraAccountStatus": "active",
        "zimbraMailStatus": "enabled",
    }
    return record(f"uid={name},{PEOPLE}", **(attributes | more))


def zimbra_domain(name: str, **more: Value) -> str:
    attributes: dict[str, Value] = {
        "objectClass": ("organization", "zimbraDomain"),
        "o": name,
        "zimbraDomainName": name,
        "zimbraDomainType": "local",
    }
    return record(f"o={name},{DOMAINS}", **(attributes | more))


def ad_user(name: str, number: int, **more: Value) -> str:
    """`number` is uSNChanged, which no slapd counts by itself."""
    attributes: dict[str, Value] = {
        "objectClass": "user",
        "cn": name,
        "sn": name,
        "sAMAccountName": name,
        "mailNickname": name,
        "mail": f"{name}@example.edu",
        "proxyAddresses": (f"SMTP:{name}@example.edu", f"smtp:{name}.alias@example.edu", "X500:/o=Example"),
        "homeMDB": f"cn=mailbox database 1,cn=exchange,{BASE}",
        "uSNChanged": str(number),
        "userAccountControl": "512",
    }
    return record(f"cn={name},{PEOPLE}", **(attributes | more))


def sendmail_recipient(name: str, host: str | None = OLD_HOST, routing: str | None = None, **more: Value) -> str:
    attributes: dict[str, Value] = {
        "objectClass": ("inetOrgPerson", "inetLocalMailRecipient"),
        "uid": name,
        "cn": name,
        "sn": name,
        "mailLocalAddress": f"{name}@example.edu",
        "mailHost": host,
        "mailRoutingAddress": routing,
    }
    return record(f"uid={name},{PEOPLE}", **(attributes | more))


def referral(name: str, uri: str) -> str:
    """An entry that stands for a subtree somewhere else: a search below its parent meets a reference (RFC 3296)."""
    dn = f"ou={name},{PEOPLE}"
    return record(dn, objectClass=("referral", "extensibleObject"), ou=name, ref=f"{uri}/{dn}")


def _values(value: Value) -> tuple[str | bytes, ...]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def _octets(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
