"""
A site whose people are in a real slapd (Sun's schema), for scenarios: the relay follows it as in production.

    with Slapd([*sun_people(100), sun_domain("example.edu")]) as ldap:
        site = directory_site(tmp_path, stores, ldap)
        with site: …

`OLD_HOST` and `NEW_HOST` of `people_ldif` are the homes old and new; `ldap` are further keys of the source.
"""

import smtplib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from router.admin.cli.directories import Directories
from router.control import following
from router.control.changes import current_epoch
from router.demo.office import Office
from router.model.directory import DirectoryState
from support.people_ldif import NEW_HOST, OLD_HOST
from support.site import Site, StoreAt
from support.slapd import BASE, READER, Slapd

FOLLOW = "100ms"
QUICK = {"connect_timeout": "1s", "receive_timeout": "1s", "deadline": "2s"}
"""Keys of a source whose server says nothing for a while; others have time, for a machine may stand still."""
SENDER = "sender@outside.example"
HOMES = {OLD_HOST: "old", NEW_HOST: "new"}


def source_of(server: Slapd, ldap: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The `ldap:` section for a server."""
    keys: dict[str, Any] = {
        "uri": server.uri,
        "base": BASE,
        "bind_dn": READER,
        "password_file": str(server.password_file),
        "plain_password": True,
        "schema": "sun",
        "homes": HOMES,
        "follow": FOLLOW,
        "connect_timeout": "8s",
        "receive_timeout": "9s",
        "deadline": "9s",
    }
    return keys | dict(ldap or {})


class DirectorySite(Site):
    """A `Site` whose operations write into the directories, as the commands do."""

    _access: Directories | None = None

    @property
    def office(self) -> Office:
        if self._office is None:
            settings = self.settings
            made: list[Office] = []
            self._access = Directories(settings, lambda: made[0].database)
            made.append(Office(settings, writers=self._access.writers(), fetch=self._access.fetch))
            self._office = made[0]
        return self._office

    def close(self) -> None:
        if self._access is not None:
            self._access.close()
        super().close()


def directory_site(
    directory: Path,
    stores: Sequence[StoreAt],
    server: Slapd,
    *,
    ldap: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> "DirectorySite":
    """A site that has nobody but the people of the directory."""
    keys = {"directory": ["database", {"ldap": source_of(server, ldap)}], **(settings or {})}
    return DirectorySite(directory, stores, settings=keys, **more)


def states(site: Site) -> tuple[DirectoryState, ...]:
    """How the directories are followed, by the control database."""
    return site.office.database.run_read(following.states)


def followed(site: Site) -> bool:
    """Whether every directory was swept and has no fault, and every worker has seen that."""
    found = states(site)
    if not found or not all(one.swept_at and one.followed_at and not one.fault for one in found):
        return False
    # A worker that was there before says that mail waits, and then that it goes on.
    said = site.relay.log.read_text(errors="replace")
    return said.count("waits: it was not followed yet") <= said.count("goes on: it is followed again")


def applied(site: Site) -> bool:
    """Whether every worker has applied all that the control database says."""
    epoch = site.office.database.run_read(current_epoch)
    return all(member.applied >= epoch for member in site.office.members())


def answer(site: Site, address: str) -> str:
    """What RCPT is answered now: code and text. Blocks, at most a minute."""
    with smtplib.SMTP("127.0.0.1", site.port, timeout=60) as client:
        client.ehlo()
        client.mail(SENDER)
        code, text = client.rcpt(address)
        client.rset()
    return f"{code} {text.decode()}"


def submit(site: Site, *recipients: str, tag: str) -> None:
    """One message to recipients who must all be accepted. Blocks."""
    body = f"Message-ID: <{tag}@outside.example>\r\nX-Ledger: {tag}\r\nSubject: {tag}\r\n\r\nhello\r\n"
    with smtplib.SMTP("127.0.0.1", site.port, timeout=60) as client:
        refused = client.sendmail(SENDER, list(recipients), body.encode())
    assert not refused, refused
