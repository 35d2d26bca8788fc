"""A real slapd, its settings as Sluice would have them, and a server that takes connections and says nothing."""

import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import trustme
from support.people_ldif import sun_domain, sun_group, sun_people
from support.slapd import BASE, READER, Slapd
from support.sunlike import SunLike

from router.directory.lookups import LdapLookups
from router.settings.directory import Ldap

PEOPLE = 20
SourceOf = Callable[..., Ldap]


def settings(server: Slapd, *others: Slapd | str, **more: Any) -> Ldap:
    """As in the configuration; with time for a machine that pauses. Who tests a limit gives a short one."""
    uris = [one if isinstance(one, str) else one.uri for one in (server, *others)]
    keys: dict[str, Any] = {
        "uri": uris,
        "base": BASE,
        "bind_dn": READER,
        "password_file": server.password_file,
        "connect_timeout": 60.0,
        "receive_timeout": 60.0,
        "deadline": 60.0,
    }
    return Ldap(**(keys | more))


@pytest.fixture
def source() -> SourceOf:
    return settings


def standard() -> list[str]:
    return [*sun_people(PEOPLE), sun_domain("example.edu"), sun_group("staff")]


@pytest.fixture(scope="module")
def shared() -> Iterator[Slapd]:
    """One server for the tests of a file; who stops or changes it puts it right again."""
    with Slapd(standard()) as server:
        yield server


@pytest.fixture
def make() -> Iterator[Callable[..., Slapd]]:
    """`make(entries, security=…)`: a started server of one's own."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **keys: stack.enter_context(Slapd(*(args or (standard(),)), **keys))


@pytest.fixture
async def lookups() -> AsyncIterator[Callable[[Ldap], LdapLookups]]:
    """`lookups(settings)`: closed at the end."""
    made: list[LdapLookups] = []

    def build(of: Ldap) -> LdapLookups:
        made.append(LdapLookups(of, SunLike()))
        return made[-1]

    yield build
    for one in made:
        await one.close()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def silent() -> Iterator[str]:
    """The URI of a server that accepts and never answers."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(server.accept()[0])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"ldap://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for one in held:
        one.close()
