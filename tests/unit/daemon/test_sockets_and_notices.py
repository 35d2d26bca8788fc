"""What systemd hands over and is told, and the listening sockets."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from router.daemon import listen, notify
from router.daemon.notify import Notifier, inherited_sockets
from router.settings.schema import Listener


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def bound(stack: ExitStack, address: str = "127.0.0.1") -> socket.socket:
    one = stack.enter_context(socket.socket(socket.AF_INET))
    one.bind((address, 0))
    return one


def port_of(one: socket.socket) -> int:
    port: int = one.getsockname()[1]
    return port


def test_each_worker_gets_a_socket_of_its_own_on_one_port(stack: ExitStack) -> None:
    sockets = [stack.enter_context(one) for one in listen.bind(Listener(address="127.0.0.1", port=0), 3)]
    assert len({one.fileno() for one in sockets}) == 3
    assert len({port_of(one) for one in sockets}) == 1
    assert all(one.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for one in sockets)
    assert all(not one.getblocking() and not one.get_inheritable() for one in sockets)
    with socket.create_connection(sockets[0].getsockname(), timeout=60):
        pass


def test_an_address_in_use_is_named(stack: ExitStack) -> None:
    taken = bound(stack)
    taken.listen()
    with pytest.raises(OSError, match=rf"\[127\.0\.0\.1\]:{port_of(taken)}: the address is in use") as caught:
        listen.bind(Listener(address="127.0.0.1", port=port_of(taken)), 1)
    assert caught.value.errno == errno.EADDRINUSE


def test_inherited_sockets_are_matched_in_the_order_of_the_listeners(stack: ExitStack) -> None:
    one, two = bound(stack), bound(stack)
    listeners = [Listener(address="127.0.0.1", port=port_of(two)), Listener(address="::", port=port_of(one))]
    assert listen.match(listeners, [one, two]) == [two, one]
    assert not one.getblocking()


def test_one_port_on_two_addresses_is_two_sockets(stack: ExitStack) -> None:
    """Defect: sockets were told apart by port alone, and connections to one of them were never accepted."""
    one = bound(stack)
    two = stack.enter_context(socket.socket(socket.AF_INET))
    two.bind(("127.0.0.2", port_of(one)))
    listeners = [Listener(address="127.0.0.1", port=port_of(one)), Listener(address="127.0.0.2", port=port_of(one))]
    assert listen.match(listeners, [two, one]) == [one, two]


def test_a_missing_and_a_left_over_socket_are_errors(stack: ExitStack) -> None:
    """Defect: connections to a socket of the unit that no listener has would have hung for ever."""
    one, two = bound(stack), bound(stack)
    listener = Listener(address="127.0.0.1", port=port_of(one))
    with pytest.raises(OSError, match="passed no socket for"):
        listen.match([listener], [two])
    with pytest.raises(OSError, match="no listener has that"):
        listen.match([listener], [one, two])


def test_a_unix_socket_fits_no_listener(stack: ExitStack, tmp_path: Path) -> None:
    one = stack.enter_context(socket.socket(socket.AF_UNIX))
    one.bind(str(tmp_path / "s"))
    with pytest.raises(OSError, match="passed no socket for"):
        listen.match([Listener(address="127.0.0.1", port=25)], [one])


def test_sockets_for_another_process_are_not_ours() -> None:
    assert inherited_sockets({}) == []
    assert inherited_sockets({"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1"}) == []


@pytest.mark.parametrize("count", ["many", "-1", "", "\u0663"])
def test_a_count_that_is_no_number_is_an_error_of_the_start(count: str) -> None:
    """Defect: a traceback instead of one line and an exit code."""
    with pytest.raises(OSError, match="LISTEN_FDS"):
        inherited_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count})


def test_inherited_sockets_are_those_from_the_third_descriptor_on(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bound(stack)
    monkeypatch.setattr(notify, "_FIRST_FD", os.dup(one.fileno()))
    [taken] = inherited_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
    with taken:
        assert taken.getsockname() == one.getsockname()


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(stack: ExitStack, tmp_path: Path, abstract: bool) -> None:
    name = f"@sluice-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    receiver = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    receiver.bind("\0" + name[1:] if abstract else name)
    receiver.settimeout(60)
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready()
    notifier.reloading()
    notifier.stopping()
    notifier.status("x")
    told = [receiver.recv(200).decode() for _ in range(4)]
    assert told[0] == "READY=1"
    assert told[1].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert told[1].rpartition("=")[2].isdigit()
    assert told[2:] == ["STOPPING=1", "STATUS=x"]


def test_a_notice_that_cannot_be_sent_is_dropped(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready()
    Notifier({}).ready()
