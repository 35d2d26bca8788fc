"""Against Postfix's smtp-sink, in its fault modes and as LMTP: a next hop that is not of our making."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.slapd import free_port

from router.deliver.connection import Endpoint

pytestmark = pytest.mark.slow
SINK = "/usr/sbin/smtp-sink"
Sink = Callable[..., Awaitable[Endpoint]]


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    running: list[asyncio.subprocess.Process] = []

    async def start(*options: str) -> Endpoint:
        process: asyncio.subprocess.Process | None = None
        while True:
            if process is None or process.returncode is not None:  # somebody else may have taken its port
                port = free_port()
                arguments = [*options, *(["-u", "nobody"] if os.getuid() == 0 else []), f"127.0.0.1:{port}", "100"]
                process = await asyncio.create_subprocess_exec(SINK, *arguments)
                running.append(process)
            with contextlib.suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return Endpoint("smtp-sink", "127.0.0.1", port)
            await asyncio.sleep(0.01)

    yield start
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.fixture
def dump() -> Iterator[Path]:
    """A folder that the unprivileged smtp-sink may write to."""
    with tempfile.TemporaryDirectory(prefix="sink-") as folder:
        path = Path(folder)
        path.chmod(0o777)
        yield path


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.iterdir()]


@pytest.mark.parametrize("options", [(), ("-p",), ("-e",), ("-8", "-N", "-E"), ("-P",)])
@pytest.mark.parametrize("stream", [False, True])
async def test_messages_go_through(
    options: tuple[str, ...], stream: bool, sink: Sink, make_sender: Any, make_parcel: Any, permit: Any, dump: Path
) -> None:
    sender = make_sender(await sink("-d", f"{dump}/m.", *options))
    body = b"Subject: x\r\n\r\n.one\r\n..two\r\n" + b"x" * 3000 + b"\r\n"
    for _ in range(3):
        verdicts = await sender.send(make_parcel("a@b.c", "b@b.c", body=body, stream=stream), permit())
        assert [v.reply.code for v in verdicts] == [250, 250]
    await sender.close()
    kept = contents(dump)
    assert len(kept) == 3
    assert all(b".one\n..two\n" + b"x" * 3000 + b"\n" in text.replace(b"\r\n", b"\n") for text in kept)


@pytest.mark.parametrize("step", ["CONNECT", "EHLO,HELO", "MAIL", "RCPT", "DATA", ".", "RSET", "QUIT"])
@pytest.mark.parametrize("mode", ["-q", "-Q", "-r", "-f"])
async def test_inv_43_fault_modes(
    mode: str, step: str, sink: Sink, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    sender = make_sender(await sink(mode, step))
    (verdict,) = await sender.send(make_parcel(), permit())
    await sender.close()
    if step in {"RSET", "QUIT"}:
        assert verdict.reply.positive
        return
    refused_message = mode == "-f" and step in {"MAIL", "RCPT", "DATA", "."}
    assert (500 if refused_message else 400) <= verdict.reply.code < (600 if refused_message else 500)
    assert verdict.in_doubt is (mode == "-q" and step == ".")
    assert verdict.unreachable is (step in {"CONNECT", "EHLO,HELO"} or (mode == "-Q" and step == "MAIL"))


async def test_refused_in_the_middle_of_data(sink: Sink, make_sender: Any, make_parcel: Any, permit: Any) -> None:
    async def blocks() -> Any:
        while True:
            yield b"x" * 65534 + b"\r\n"

    sender = make_sender(await sink("-A", "0"))
    gate = permit()
    (verdict,) = await sender.send(make_parcel(stream=True, blocks=blocks), gate)
    assert (verdict.reply.code, verdict.in_doubt, gate.asked) == (451, False, 0)


@pytest.mark.parametrize("options", [(), ("-p",)])
async def test_inv_34_lmtp(
    options: tuple[str, ...], sink: Sink, make_sender: Any, make_parcel: Any, permit: Any
) -> None:
    sender = make_sender(await sink("-L", *options), protocol="lmtp")
    for _ in range(2):
        verdicts = await sender.send(make_parcel("a@b.c", "b@b.c", "c@b.c"), permit())
        assert [v.reply.code for v in verdicts] == [250, 250, 250]


async def test_barrier_8_a_killed_process_completes_no_message() -> None:
    """
    A child has written a whole message, dot included, to a hop that does not read yet, and is killed: what waits in
    its kernel must be dropped. Without the linger option the kernel would go on sending it.
    """
    child = """
import asyncio, socket, sys
from router.deliver.protocol import NextHopProtocol
async def main():
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    await loop.sock_connect(sock, ("127.0.0.1", int(sys.argv[1])))
    _, protocol = await loop.create_connection(lambda: NextHopProtocol(loop, sock), sock=sock)
    await protocol.reply(60)
    protocol.linger(reset=sys.argv[2] == "reset")
    protocol.send(b"x" * 1_000_000 + b"\\r\\n.\\r\\n", 1)
    while protocol.transport.get_write_buffer_size():
        await asyncio.sleep(0.01)
    print("written", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    outcomes = {}
    for kind in ("reset", "default"):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", child, port, kind, stdout=asyncio.subprocess.PIPE
        )
        hop, _ = await asyncio.to_thread(listener.accept)
        hop.sendall(b"220 x\r\n")
        assert process.stdout is not None
        assert await process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
        await process.wait()
        outcomes[kind] = await asyncio.to_thread(read_all, hop)
        hop.close()
        listener.close()
    assert not outcomes["reset"].endswith(b"\r\n.\r\n")
    assert outcomes["default"].endswith(b"\r\n.\r\n")


def read_all(hop: socket.socket) -> bytes:
    hop.settimeout(60)
    octets = b""
    with contextlib.suppress(ConnectionResetError):
        while block := hop.recv(65536):
            octets += block
    return octets
