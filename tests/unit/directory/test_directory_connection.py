"""One connection to a real slapd: every way to log in, what TLS proves, and that an answer is whole or an error."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.people_ldif import PEOPLE, referral, replace, sun_dn
from support.slapd import ADMIN, BASE, Security, Slapd, stalled

from router.directory.connection import LdapConnection
from router.directory.faults import Fault, Lost, TimedOut, Troubled, Unfit
from router.directory.reading import Reading
from router.directory.search_message import Question
from router.errors import LookupFailed, reply_for
from router.model.directory import RawEntry
from router.settings.directory import Ldap

pytestmark = pytest.mark.slow
Make = Callable[..., Slapd]
Source = Callable[..., Ldap]
ASK = Question(BASE, "(mail=user1@example.edu)", ("mail", "mailHost"))
PATIENCE = 60.0
"""Seconds for an answer that does come: the machine may pause."""
SOON = 20.0
"""Seconds within which a limit of a second has ended a wait that would otherwise last for a minute or for ever."""


@contextmanager
def opened(source: Ldap, seconds: float = PATIENCE) -> Iterator[LdapConnection]:
    with closing(LdapConnection(source, source.uri[0], time.monotonic() + seconds)) as connection:
        yield connection


def ask(source: Ldap, question: Question = ASK) -> list[str]:
    with opened(source) as connection:
        return [raw.dn for raw in connection.search(question, time.monotonic() + PATIENCE)]


def trust(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def test_a_password_from_a_file_logs_in(shared: Slapd, source: Source) -> None:
    assert ask(source(shared)) == [sun_dn("user1")]


def test_attributes_come_with_names_in_lower_case_and_as_octets(shared: Slapd, source: Source) -> None:
    with opened(source(shared)) as connection:
        (raw,) = connection.search(ASK, time.monotonic() + PATIENCE)
    assert raw.attributes == {"mail": (b"user1@example.edu",), "mailhost": (b"oldmail.example.edu",)}


def test_the_password_is_read_at_each_login_and_shown_nowhere(shared: Slapd, source: Source, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("quite wrong\n")
    with pytest.raises(Troubled, match="login: result 49") as caught:
        ask(source(shared, password_file=file))
    assert "quite wrong" not in f"{caught.value!r} {caught.value.__cause__!r}"
    file.write_bytes(shared.password_file.read_bytes())
    assert ask(source(shared, password_file=file)) == [sun_dn("user1")]


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_password_is_no_anonymous_login(shared: Slapd, source: Source, tmp_path: Path, content: str) -> None:
    file = tmp_path / "password"
    file.write_text(content)
    with pytest.raises(Troubled, match="empty"):
        ask(source(shared, password_file=file))


def test_a_password_file_that_is_not_there_is_temporary(shared: Slapd, source: Source, tmp_path: Path) -> None:
    with pytest.raises(LookupFailed, match="cannot be read") as caught:
        ask(source(shared, password_file=tmp_path / "gone"))
    assert reply_for(caught.value).code == 451


def test_external_over_a_local_socket(shared: Slapd) -> None:
    assert ask(Ldap(uri=shared.local_uri, base=BASE, external=True)) == [sun_dn("user1")]


# --- TLS


def secured(server: Slapd, ca: Path | None, **more: Any) -> Ldap:
    keys: dict[str, Any] = {"uri": server.tls_uri, "ca_file": ca, **more}
    return Ldap(base=BASE, bind_dn=keys.pop("bind_dn", f"cn=sluice,{BASE}"), password_file=server.password_file, **keys)


def test_ldaps_with_a_certificate_of_a_known_authority(make: Make, authority: trustme.CA, tmp_path: Path) -> None:
    server = make(security=Security(authority.issue_cert("localhost")))
    assert ask(secured(server, trust(authority, tmp_path))) == [sun_dn("user1")]


def test_an_unknown_authority_is_refused_unless_that_is_switched_off(make: Make, authority: trustme.CA) -> None:
    server = make(security=Security(authority.issue_cert("localhost")))
    with pytest.raises(Lost, match="certificate verify failed"):
        ask(secured(server, None))
    assert ask(secured(server, None, tls_verify=False)) == [sun_dn("user1")]


@pytest.mark.parametrize("starttls", [False, True])
def test_a_certificate_for_another_host_is_refused(
    make: Make, authority: trustme.CA, tmp_path: Path, starttls: bool
) -> None:
    server = make(security=Security(authority.issue_cert("ldap.elsewhere.example")))
    uri = f"ldap://localhost:{server.port}" if starttls else server.tls_uri
    seen = server.mark()
    with pytest.raises(Lost, match=r"[Hh]ostname mismatch"):
        ask(secured(server, trust(authority, tmp_path), uri=uri, starttls=starttls))
    assert " BIND " not in server.log(seen), "the password has been shown to a stranger"


def test_an_expired_certificate_is_refused(make: Make, authority: trustme.CA, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    old = authority.issue_cert("localhost", not_before=now - timedelta(9), not_after=now - timedelta(1))
    server = make(security=Security(old))
    with pytest.raises(Lost, match="expired"):
        ask(secured(server, trust(authority, tmp_path)))


def test_starttls_comes_before_the_password(make: Make, authority: trustme.CA, tmp_path: Path) -> None:
    server = make(security=Security(authority.issue_cert("localhost"), required=True))
    uri = f"ldap://localhost:{server.port}"
    with pytest.raises(Troubled, match="result 13"):  # confidentialityRequired
        ask(secured(server, None, uri=uri))
    seen = server.mark()
    assert ask(secured(server, trust(authority, tmp_path), uri=uri, starttls=True)) == [sun_dn("user1")]
    log = server.log(seen)
    assert log.index("STARTTLS") < log.index("TLS established") < log.index(" BIND ")


def test_starttls_that_the_server_does_not_offer_is_not_done_without(shared: Slapd, source: Source) -> None:
    seen = shared.mark()
    with pytest.raises(Troubled, match="StartTLS"):
        ask(source(shared, starttls=True))
    assert " BIND " not in shared.log(seen)


def test_external_by_a_client_certificate(make: Make, authority: trustme.CA, tmp_path: Path) -> None:
    server = make(security=Security(authority.issue_cert("localhost"), clients=authority))
    mine = authority.issue_cert("sluice@example.edu", common_name="sluice")
    mine.cert_chain_pems[0].write_to_path(str(tmp_path / "mine.pem"))
    mine.private_key_pem.write_to_path(str(tmp_path / "mine.key"))
    shown = {"certificate": tmp_path / "mine.pem", "key": tmp_path / "mine.key", "external": True, "bind_dn": ""}
    assert ask(secured(server, trust(authority, tmp_path), **shown)) == [sun_dn("user1")]


def test_a_client_certificate_that_cannot_be_read_is_temporary(make: Make, authority: trustme.CA) -> None:
    server = make(security=Security(authority.issue_cert("localhost")))
    with pytest.raises(Lost, match="TLS"):
        ask(secured(server, None, certificate=Path("/nowhere/mine.pem")))


# --- whole or an error


def test_a_base_that_is_not_there_is_no_empty_answer(shared: Slapd, source: Source) -> None:
    with pytest.raises(Troubled, match="result 32"):
        ask(source(shared), Question(f"ou=nowhere,{BASE}", "(mail=a@b)", ("mail",)))


def test_more_entries_than_the_server_gives_are_no_answer(make: Make, source: Source) -> None:
    server = make(limits="sizelimit 5")
    with pytest.raises(Unfit, match="result 4"):
        ask(source(server), Question(BASE, "(objectClass=inetMailUser)", ("mail",)))


def test_a_part_of_the_tree_that_is_elsewhere_is_no_answer(shared: Slapd, source: Source) -> None:
    shared.modify(referral("away", "ldap://127.0.0.1:1"))
    try:
        with pytest.raises(Unfit, match="on another server"):
            ask(source(shared))
        assert ask(source(shared, schema="activedirectory")) == [sun_dn("user1")], "the domain scope control"
    finally:
        shared.modify(f"dn: ou=away,{PEOPLE}\nchangetype: delete\n\n")


def test_a_base_that_is_elsewhere_is_no_answer(shared: Slapd, source: Source) -> None:
    shared.modify(referral("away", "ldap://127.0.0.1:1"))
    try:
        with pytest.raises(Troubled, match="result 10"):
            ask(source(shared), Question(f"ou=away,{PEOPLE}", "(mail=a@b)", ("mail",)))
    finally:
        shared.modify(f"dn: ou=away,{PEOPLE}\nchangetype: delete\n\n")


def test_a_filter_that_is_none_concerns_that_question_only(shared: Slapd, source: Source) -> None:
    with opened(source(shared)) as connection:
        with pytest.raises(Unfit):
            connection.search(Question(BASE, "(mail=a", ("mail",)), time.monotonic() + PATIENCE)
        assert connection.search(ASK, time.monotonic() + PATIENCE)


def test_pages_are_whole_together(shared: Slapd, source: Source) -> None:
    question = Question(BASE, "(objectClass=inetMailUser)", ("mail",))
    with opened(source(shared)) as connection:
        sizes, cookie = [], b""
        while True:
            page = connection.page(question, time.monotonic() + PATIENCE, 8, cookie)
            sizes.append(len(page.entries))
            cookie = page.cookie
            if not cookie:
                break
    assert sizes == [8, 8, 4]


# --- time


def test_a_stopped_server_costs_no_more_than_the_deadline(shared: Slapd, source: Source) -> None:
    with opened(source(shared)) as connection, stalled(shared):
        began = time.monotonic()
        with pytest.raises(TimedOut):
            connection.search(ASK, began + 0.5)
        assert time.monotonic() - began < SOON
        with pytest.raises(Fault):
            connection.search(ASK, time.monotonic() + PATIENCE)


def test_a_server_that_accepts_and_says_nothing(silent: str, shared: Slapd, source: Source) -> None:
    began = time.monotonic()
    with pytest.raises(TimedOut):
        ask(source(shared, uri=silent, receive_timeout=0.5))
    assert time.monotonic() - began < SOON


@pytest.mark.parametrize("starttls", [False, True])
def test_a_server_that_drips_is_given_up_at_the_deadline(
    shared: Slapd, source: Source, authority: trustme.CA, starttls: bool
) -> None:
    """Each octet comes before the receive timeout; only the deadline for the whole helps."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            with suppress(OSError), server.accept()[0] as client:
                client.sendall(b"\x30\x84\x00\x00\x10\x00")
                while not stop.wait(0.1):
                    client.sendall(b"\x00")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        uri = f"ldap://127.0.0.1:{server.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(TimedOut):
            LdapConnection(source(shared, uri=uri, starttls=starttls), uri, began + 1.0)
        assert time.monotonic() - began < SOON
        stop.set()
        server.shutdown(socket.SHUT_RDWR)  # after a pause nobody has connected
        thread.join()


def test_a_server_that_talks_nonsense_is_lost(shared: Slapd, source: Source) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def babble() -> None:
            client, _ = server.accept()
            with client:
                client.recv(100)
                client.sendall(b"\x30\x05\x02\x01\x01\x61\x00")

        thread = threading.Thread(target=babble, daemon=True)
        thread.start()
        uri = f"ldap://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(Lost):
            LdapConnection(source(shared, uri=uri), uri, time.monotonic() + PATIENCE)
        thread.join()


def test_nobody_listens_and_nobody_has_the_name(shared: Slapd, source: Source) -> None:
    for uri in ("ldap://127.0.0.1:1", "ldap://nowhere.invalid", "http://example.edu", "ldapi://%2Fnowhere%2Fldapi"):
        with pytest.raises(Lost):
            ask(source(shared, uri=uri))


def test_a_restarted_server_is_another_connection(shared: Slapd, source: Source) -> None:
    with opened(source(shared)) as connection:
        shared.kill()
        shared.start()
        with pytest.raises(Lost):
            connection.search(ASK, time.monotonic() + PATIENCE)
    assert ask(source(shared)) == [sun_dn("user1")]


def test_an_administrator_sees_what_ldapmodify_did(shared: Slapd) -> None:
    """The fixture itself: a change, and what the entry says of it."""
    before = shared.entry(sun_dn("user3"))
    shared.modify(replace(sun_dn("user3"), mailUserStatus="hold"))
    after = shared.entry(sun_dn("user3"))
    assert (before["mailUserStatus"], after["mailUserStatus"]) == (["active"], ["hold"])
    assert after["entryCSN"] > before["entryCSN"]
    assert after["modifiersName"] == [ADMIN]
    shared.modify(replace(sun_dn("user3"), mailUserStatus="active"))


def test_a_value_list_that_was_cut_short_says_so() -> None:
    """Active Directory sends at most 1,500 values of an attribute (`proxyAddresses;range=0-1499`)."""
    sent = {"mail": (b"a@example.edu",), "proxyaddresses": (b"SMTP:a@example.edu",), "proxyaddresses;range=0-1499": ()}
    reading = Reading(RawEntry("cn=a", sent))
    assert reading.values("proxyAddresses") == ("SMTP:a@example.edu",)
    assert reading.cut_short("proxyAddresses")
    assert not reading.cut_short("mail")
