"""
`sluice` commands, forked from one process for each test process that has imported everything before.

    process = MOTHER.launch(["--config", path, "serve"], environment, log)     # what `subprocess.Popen` would return

What runs is the command's own `main`, in a session of its own, with the environment, the working directory and the
descriptors that a new interpreter would have got. Only the imports are shared, most of a second of processor time for
each start. Mask, groups and limits are those of the time when the first was launched.

Guarantees: a status is told once to whoever waits, from any thread; a process that was reaped is never signalled.
On failure: `ChildProcessError` when the mother has died. Its children end (SIGKILL) with the test process.
"""

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, NoReturn

LONGEST = 200_000
PRELOADED = (
    "router.__main__",
    *("router.admin.cli.app", "router.daemon.serve", "router.daemon.worker_process", "router.daemon.directory_process"),
    *("uvloop", "alembic.command", "encodings.idna"),
)


class Forked:
    """A process of the mother, as far as `router.demo.relay.Launched` goes."""

    def __init__(self, pid: int, handle: int, told: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._handle = handle
        self._told = told
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Its exit code, or minus a signal; None while it runs."""
        with self._lock:
            if self.returncode is None and readable(self._told, 0):
                text = os.read(self._told, 64)
                if not text:
                    raise ChildProcessError("the mother of the relay's processes has died")
                self.returncode = int(text)
                os.close(self._told)
                os.close(self._handle)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises `subprocess.TimeoutExpired`."""
        if self.returncode is None:
            readable(self._told, timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("sluice", timeout or 0.0)
        return code

    def send_signal(self, sig: int) -> None:
        """Nothing when it has ended, as with `subprocess.Popen`."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, sig)


class Mother:
    """Started when it is first needed; it ends with this process."""

    def __init__(self) -> None:
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def launch(
        self, arguments: list[str], environment: Mapping[str, str], output: IO[bytes], error: IO[bytes] | None = None
    ) -> Forked:
        """`sluice` with these arguments. See `router.demo.relay.Launch`; `error`: where standard error goes."""
        sys.audit("support.mother.launch", ["sluice", *arguments])
        order = json.dumps({"arguments": arguments, "environment": dict(environment), "place": str(Path.cwd())})
        told, tell = os.pipe()
        try:
            with self._lock:
                channel = self._channel or self._found()
                socket.send_fds(channel, [order.encode()], [output.fileno(), (error or output).fileno(), tell])
                answer, handles, _, _ = socket.recv_fds(channel, LONGEST, 1, socket.MSG_CMSG_CLOEXEC)
        finally:
            os.close(tell)
        if not answer:
            raise ChildProcessError("the mother of the relay's processes has died")
        return Forked(int(answer), handles[0], told)

    def run(self, arguments: list[str], timeout: float) -> "subprocess.CompletedProcess[bytes]":
        """A command to its end, in the environment of this process. Raises `subprocess.TimeoutExpired`."""
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error:
            process = self.launch(arguments, os.environ, output, error)
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                raise
            return subprocess.CompletedProcess(["sluice", *arguments], code, *(rewound(one) for one in (output, error)))

    def _found(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        paths = os.pathsep.join(path for path in sys.path if path)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": paths},
            )
        self._channel = ours
        return ours


MOTHER = Mother()
"""Of this test process. What it founds is not of any one test."""


def rewound(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def readable(descriptor: int, timeout: float | None) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        return bool(selector.select(timeout))


# --- the mother's own process -----------------------------------------------------------------------------------


class _Home:
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, tuple[int, int]] = {}
        """By handle: the number of the process, and where its status is told."""

    def run(self) -> None:
        self._selector.register(self._channel, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fd in self._children:
                    self._ended(key.fd)
                elif not self._take():
                    return

    def end(self) -> None:
        for pid, _ in self._children.values():
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def _take(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._channel, LONGEST, 3, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return False
        output, error, tell = descriptors
        pid = os.fork()
        if pid == 0:
            self._be(json.loads(data), output, error)
        os.close(output)
        os.close(error)
        handle = os.pidfd_open(pid)
        self._children[handle] = (pid, tell)
        self._selector.register(handle, selectors.EVENT_READ)
        socket.send_fds(self._channel, [str(pid).encode()], [handle])
        return True

    def _ended(self, handle: int) -> None:
        pid, tell = self._children.pop(handle)
        self._selector.unregister(handle)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with suppress(BrokenPipeError):
            os.write(tell, str(status).encode())
        os.close(tell)
        os.close(handle)

    def _be(self, order: Mapping[str, object], output: int, error: int) -> NoReturn:
        status = 70
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            os.dup2(output, 1)
            os.dup2(error, 2)
            os.closerange(3, 1 + max(int(one.name) for one in Path("/proc/self/fd").iterdir()))
            environment, arguments = order["environment"], order["arguments"]
            assert isinstance(environment, dict)
            assert isinstance(arguments, list)
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(str(order["place"]))
            run: Callable[[list[str]], int] = importlib.import_module("router.admin.cli.app").run
            status = run(arguments)
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        except BaseException:  # noqa: BLE001 - the process ends here
            traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)


def main() -> None:
    """Bear children until the test process has gone."""
    # Ctrl-C of a terminal is for the test process, which ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in PRELOADED:
        importlib.import_module(name)
    for place, _ in importlib.import_module("router.admin.cli.app").VERBS.values():
        importlib.import_module(place)
    gc.collect()
    gc.freeze()
    home = _Home(socket.socket(fileno=int(sys.argv[1])))
    try:
        home.run()
    finally:
        home.end()


if __name__ == "__main__":
    main()
