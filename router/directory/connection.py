"""
One connection to one server of a directory, logged in: searches, pages, modifies. Blocking, for one thread at a time.

ldap3 (strategy SAFE_SYNC) speaks the protocol over a socket of ours (`Channel`): nothing of it opens, retries, follows
a referral or reads a schema by itself.

Guarantees: an answer is complete or an error. Every result code but success is one, so is a part of the tree that
lies elsewhere, and so is a search base that is not there. StartTLS comes before the password, which is read from its
file for each login and kept nowhere; an empty one is refused, because servers take it for an anonymous login.

On failure: a `Fault`, with ldap3's own error as its cause. After `Lost` the connection is closed and of no more use.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ldap3 import (
    ANONYMOUS,
    EXTERNAL,
    MODIFY_ADD,
    MODIFY_DELETE,
    NONE,
    SAFE_SYNC,
    SASL,
    SIMPLE,
    Connection,
    Server,
)
from ldap3.core.exceptions import LDAPExceptionError

from router.directory.channel import Channel
from router.directory.faults import SUCCESS, Lost, TimedOut, Troubled, Unfit, refused
from router.directory.ldif import Modification, Verb
from router.directory.printable import printable
from router.directory.search_message import Control, Elsewhere, End, Question, paging, search_message, told_by
from router.model.directory import RawEntry
from router.settings.directory import Ldap

_STARTTLS = "1.3.6.1.4.1.1466.20037"
_DOMAIN_SCOPE = "1.2.840.113556.1.4.1339"
_VERBS = {Verb.ADD: MODIFY_ADD, Verb.DELETE: MODIFY_DELETE}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a paged search. `cookie` asks for the next one on the same connection; empty: there is none."""

    entries: tuple[RawEntry, ...]
    cookie: bytes


class LdapConnection:
    """Opens and logs in; `until` is `time.monotonic()` at which that must be done. Raises `Fault`."""

    def __init__(self, source: Ldap, uri: str, until: float) -> None:
        self.uri = uri
        self.used = time.monotonic()
        """When it was last given back, or made."""
        self._source = source
        self._channel = _open(source, uri, until)
        try:
            self._ldap = _speak(self._channel)
            if source.starttls and not uri.startswith("ldaps:"):
                self._start_tls()
            self._log_in()
        except BaseException:
            self.close()
            raise

    def search(self, question: Question, until: float) -> tuple[RawEntry, ...]:
        """Every entry that matches. Raises `Fault`."""
        return self._ask(question, until, ())[0]

    def page(self, question: Question, until: float, size: int, cookie: bytes = b"") -> Page:
        """At most `size` entries, from where the `cookie` says (RFC 2696). Raises `Fault`."""
        entries, end = self._ask(question, until, (paging(size, cookie),))
        return Page(entries, end.cookie)

    def modify(self, dn: str, changes: Sequence[Modification], until: float, controls: Sequence[Control] = ()) -> None:
        """All of the changes in their order, or none (RFC 4511, 4.6). Raises `Fault`; after `Lost` nobody knows."""
        steps: dict[str, list[tuple[str, list[bytes]]]] = {}
        for change in changes:
            steps.setdefault(change.attribute, []).append((_VERBS[change.verb], list(change.values)))
        self._channel.until = until
        _, result, _, _ = self._guarded(lambda: self._ldap.modify(dn, steps, list(controls) or None))
        _check("modify", result["result"], result.get("message") or "")

    def close(self) -> None:
        """Never raises, and may be called from another thread to end a wait."""
        self._channel.shutdown()
        self._channel.close()

    def _ask(self, question: Question, until: float, controls: Sequence[Control]) -> tuple[tuple[RawEntry, ...], End]:
        number = self._ldap.server.next_message_id()
        request = self._request(number, question, until, controls)
        self._channel.until = until
        answers, end = self._guarded(lambda: self._exchange(number, request))
        _check("search", end.code, end.text)
        if any(isinstance(answer, Elsewhere) for answer in answers):
            raise Unfit("search: a part of what was asked for is on another server, and referrals are not followed")
        return tuple(answer for answer in answers if isinstance(answer, RawEntry)), end

    def _request(self, number: int, question: Question, until: float, controls: Sequence[Control]) -> bytes:
        seconds = max(1, math.ceil(until - time.monotonic()))
        extra = [] if self._source.schema_ != "activedirectory" else [(_DOMAIN_SCOPE, False, None)]
        try:
            return search_message(number, question, seconds, [*extra, *controls])
        except ValueError as error:
            raise Unfit(f"the search cannot be written: {printable(str(error))}") from error

    def _exchange(self, number: int, request: bytes) -> tuple[list[RawEntry | Elsewhere], End]:
        """All that the server says to a request. Raises any error."""
        self._channel.sendall(request)
        answers: list[RawEntry | Elsewhere] = []
        while messages := self._ldap.strategy.receiving():
            for message in messages:
                told = told_by(message, number)
                if isinstance(told, End):
                    return answers, told
                if told is not None:
                    answers.append(told)
        raise LDAPExceptionError("the server has ended the connection")

    def _start_tls(self) -> None:
        _, result, _, _ = self._guarded(lambda: self._ldap.extended(_STARTTLS))
        if result["result"] != SUCCESS:
            raise Troubled(refused("StartTLS", result["result"], result.get("message") or "").private, result["result"])
        self._channel.secure()
        self._ldap.tls_started = True

    def _log_in(self) -> None:
        ldap, source = self._ldap, self._source
        if source.external:
            # Empty credentials, not none: without them a server asks back, and the login never ends (RFC 4422, 4.3).
            ldap.authentication, ldap.sasl_mechanism, ldap.sasl_credentials = SASL, EXTERNAL, ""
        elif source.bind_dn:
            ldap.authentication, ldap.user, ldap.password = SIMPLE, source.bind_dn, _password(source)
        try:
            _, result, _, _ = self._guarded(lambda: ldap.bind(read_server_info=False))
        finally:
            ldap.password = ldap.request = None
        if result["result"] != SUCCESS:
            raise Troubled(refused("login", result["result"], result.get("message") or "").private, result["result"])

    def _guarded(self, work: Callable[[], T]) -> T:
        """Whatever ldap3 or a socket raises, and an answer that cannot be read, is a connection of no more use."""
        try:
            return work()
        except Exception as error:
            self.close()
            what = "no answer in time" if self._channel.late else printable(str(error))
            raise (TimedOut if self._channel.late else Lost)(f"{printable(self.uri)}: {what}") from error


def _open(source: Ldap, uri: str, until: float) -> Channel:
    try:
        return Channel(source, uri, until)
    except Lost as error:
        raise type(error)(f"{printable(uri)}: {error.private}") from error
    except ValueError as error:
        raise Lost(f"{printable(uri)}: {error}") from error


def _speak(channel: Channel) -> Any:
    """An ldap3 connection on an open socket of ours. It cannot open one itself, which would not be verified."""

    def never(*_: object, **__: object) -> None:
        raise LDAPExceptionError("the connection has ended")

    # A Server of its own: shared ones mix up the addresses of their connections when one fails.
    ldap = Connection(
        Server("directory", get_info=NONE),
        authentication=ANONYMOUS,
        client_strategy=SAFE_SYNC,
        auto_referrals=False,
        auto_range=False,
        check_names=False,
        return_empty_attributes=False,
        auto_escape=False,
        auto_encode=False,
    )
    ldap.open = ldap.strategy.open = never
    ldap.socket, ldap.closed, ldap.listening = channel, False, True
    ldap.strategy._outstanding = {}  # noqa: SLF001 - what its own `open` does
    return ldap


def _password(source: Ldap) -> bytes:
    if source.password_file is None:
        raise Troubled("login: there is a bind_dn and no password_file")
    try:
        password = source.password_file.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise Troubled(f"login: the password file cannot be read: {printable(str(error))}") from error
    if not password:
        raise Troubled("login: the password file is empty")
    return password


def _check(what: str, code: int, text: str) -> None:
    if code != SUCCESS:
        raise refused(what, code, text)
