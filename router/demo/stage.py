"""
The processes of the demo: three recording stores, the relay, and their directory.

Guarantees: everything is on loopback and below one new directory on a real disk; `close` leaves no process behind,
whatever happened before, and keeps the directory only if `keep_files` was set. A Ctrl-C at the terminal reaches the
demo alone, so that the demo can end its processes in order.

On failure: `RelayFailed`, `RuntimeError` (a store) or `OSError`, with everything closed again by the caller's `close`.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from router.demo.books import Books
from router.demo.cast import LISTS, NEW, OLD, Cast
from router.demo.config import Layout, Port, StoreAt, write_config
from router.demo.movers import Stop
from router.demo.office import Office
from router.demo.relay import RelayProcess
from router.ledger.stores import StoreProcess
from router.settings.loader import load

_DISK = Path("/var/tmp")  # noqa: S108 - mkdtemp makes a private directory in it
"""Unlike /tmp never a memory file system by custom: fsync is to be real."""


class Stage:
    """Set up by its constructor's caller step by step; `close` is always the last step."""

    def __init__(self, cast: Cast, workers: int, stop: Stop) -> None:
        self.keep_files = False
        self._stack = ExitStack()
        self.directory = Path(tempfile.mkdtemp(prefix="sluice-demo-", dir=_DISK if os.access(_DISK, os.W_OK) else None))
        self._stack.callback(self._remove)
        self.config = self.directory / "sluice.yaml"
        self.state_dir = self.directory / "state"
        self._cast = cast
        self._workers = workers
        self._stop = stop
        self.stores: Mapping[str, StoreProcess] = {
            name: StoreProcess(name, self.directory / f"{name}.jsonl") for name in (OLD, NEW, LISTS)
        }
        self.port = 0
        self.relay: RelayProcess
        self.office: Office
        self.books: Books

    def open_stores(self) -> None:
        """Start the stores and write the configuration that names them. Blocks."""
        for store in self.stores.values():
            self._stack.callback(store.stop)
            with undisturbed():
                store.start()
        port = Port()
        self._stack.callback(port.release)
        self.port = port.number
        roles = {OLD: "old", NEW: "new", LISTS: "other"}
        layout = Layout(
            state_dir=self.state_dir,
            port=self.port,
            stores=[StoreAt(name, self.stores[name].port, role) for name, role in roles.items()],
            smarthost=self.stores[LISTS].port,
            workers=self._workers,
            keys={"lists": [{"store": LISTS, "manager": "majordomo", "addresses": list(self._cast.lists)}]},
        )
        write_config(layout, self.config)

    def import_users(self) -> int:
        """Create the control database and import everybody by the real import; how many. Blocks."""
        self.office = Office(load(self.config), sleep=self._stop.sleep)
        self._stack.callback(self.office.close)
        users = self.directory / "users.csv"
        users.write_text(self._cast.users_csv(), encoding="utf-8")
        return self.office.import_users(users).created

    def start_relay(self) -> None:
        """Start `sluice serve` and wait until it serves. Blocks."""
        self.relay = RelayProcess(self.config, self.directory / "relay.log")
        self._stack.callback(self.relay.kill)
        self.relay.start()
        self.books = Books(self.state_dir)
        self._stack.callback(self.books.close)

    def close(self) -> None:
        """End every process and remove the directory, unless it is to be kept. Idempotent."""
        with undisturbed():
            self._stack.close()

    def _remove(self) -> None:
        if not self.keep_files:
            shutil.rmtree(self.directory, ignore_errors=True)


@contextmanager
def undisturbed() -> Iterator[None]:
    """No Ctrl-C meanwhile (it comes right after), and none ever for processes that are started in here."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
