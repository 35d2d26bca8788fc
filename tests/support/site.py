"""
`Site`: the whole relay as it runs in production, on loopback and below one directory, for scenario tests.

    from router.ledger.stores import StoreProcess          # or RecordingStore in the test's loop
    from support.site import Site, StoreAt, users_csv

    old, new = StoreProcess("old", tmp_path / "old.jsonl"), StoreProcess("new", tmp_path / "new.jsonl")
    site = Site(
        tmp_path,
        [StoreAt("old", old.start()), StoreAt("new", new.start(), role="new")],
        users={"ann@example.edu": "old", "bob@example.edu": "old ann.alias@example.edu"},  # home, then aliases
        workers=2,
    )
    with site:                                              # imports the users, starts `sluice serve`, stops it
        held = await site.hold("ann@example.edu")           # HoldResult; blocking calls: site.office.operations
        await site.release("ann@example.edu", to="new")
        await site.move("bob@example.edu", "new", run=copy)
        site.worker_pids()                                  # [pid, …] by slot, for SIGSTOP and SIGKILL
        assert await site.drained() == 0
        site.tell(ledger)                                   # Ledger.kept and Ledger.journal from spools and journals
        site.balance()                                      # asserts that every spool's accounts balance

What a test may set: `settings` is laid over the configuration, section by section (`{"retry": {"first": "1s"}}`);
`StoreAt.keys` are further keys of a store (`settle`, `max_recipients`, `max_connections`, `recipient`, …);
`domains`, `lists` and `services` are YAML values. Defaults suit tests: `settle` 1 s, first retry 0.2 s, `ack_timeout`
20 s (no worker is killed because the machine stands still), 1 MiB of free space is enough, client limits out of the
way, real fsync, and no host is trusted. Notices go to the store named by `smarthost` (default: the last one).

The relay is forked from a process that has imported everything (`support.mother`), which saves a second each time. With
`fresh` it is a new interpreter that inherits this process's mask, groups and limits, as after `systemctl start`.

`site.start()`, `site.stop()`, `site.kill()` (SIGKILL to supervisor and workers) and `site.reload()` may be called in
any order; the port stays the same. `site.close()` ends everything; the `with` block calls it. `site.port` is where
mail goes in, `site.relay.tail()` the end of the relay's log, `site.books()` an open `Books` (queue, journal, counts),
`site.office.wait_for_members(wanted)` waits for workers to come or go. Stores belong to the test.
"""

import asyncio
import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from router.control.importing import ImportResult
from router.control.operations import HoldResult, MoveResult, ReleaseResult
from router.demo.books import Books
from router.demo.config import DOMAIN, Layout, Port, StoreAt, write_config
from router.demo.office import Office
from router.demo.relay import RelayProcess, launch
from router.ledger.book import Ledger
from router.model.outcome import JournalRow
from router.settings.loader import load
from router.settings.schema import Settings
from support.mother import MOTHER

__all__ = ["Site", "StoreAt", "users_csv"]

SETTINGS: dict[str, Any] = {
    "retry": {"first": "200ms", "factor": 1.2, "longest": "1s"},
    "safety": {"ack_timeout": "20s"},
}
SETTLE = "1s"


def users_csv(users: Mapping[str, str]) -> str:
    """Address to `home [alias…]`, as a file for `sluice user import`."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["address", "home", "aliases"])
    for address, entry in users.items():
        home, *aliases = entry.split()
        writer.writerow([address, home, " ".join(aliases)])
    return text.getvalue()


class Site:
    """One relay of a test. See the module's text."""

    def __init__(
        self,
        directory: Path,
        stores: Sequence[StoreAt],
        *,
        users: Mapping[str, str] | str = "",
        workers: int = 1,
        domains: Mapping[str, Any] | None = None,
        lists: Sequence[Mapping[str, Any]] = (),
        services: Mapping[str, str] | None = None,
        smarthost: str = "",
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        fresh: bool = False,
    ) -> None:
        self.directory = directory
        self._reserved = Port()
        self.port = self._reserved.number
        self.state_dir = directory / "state"
        self.config = directory / "sluice.yaml"
        self._users = users
        self._layout: dict[str, Any] = {
            "stores": [StoreAt(s.name, s.port, s.role, s.protocol, {"settle": SETTLE, **s.keys}) for s in stores],
            "smarthost": next((s.port for s in stores if s.name == smarthost), stores[-1].port),
            "workers": workers,
            "domains": domains or {DOMAIN: {"unknown": "reject"}},
        }
        fixed = {"lists": list(lists), "services": dict(services or {})}
        self._keys = _over(_over(SETTINGS, {key: value for key, value in fixed.items() if value}), settings or {})
        self._write()
        self.relay = RelayProcess(
            self.config, directory / "relay.log", environment=environment, launch=launch if fresh else MOTHER.launch
        )
        self._office: Office | None = None

    # --- processes

    def start(self, patience: float = 120.0) -> Self:
        """Start the relay and wait until it serves. Raises `RelayFailed` with the end of its log."""
        self.relay.start(patience)
        return self

    def stop(self) -> int:
        """SIGTERM and wait; the exit code. Nothing when it is not running."""
        return self.relay.stop(90.0)

    def kill(self) -> None:
        """SIGKILL to the supervisor and every worker at once."""
        self.relay.kill()

    def reload(self, settings: Mapping[str, Any] | None = None) -> None:
        """Lay `settings` over the configuration and send SIGHUP."""
        if settings:
            self._keys = _over(self._keys, settings)
            self._write()
        self.relay.reload()

    def close(self) -> None:
        """Stop the relay, or kill it if it does not stop, and let go of everything. Idempotent."""
        try:
            self.relay.stop(90.0)
        finally:
            self.leave_disk()
            self._reserved.release()

    def leave_disk(self) -> None:
        """Close what the test itself has open below the state directory; it is opened again when it is needed."""
        if self._office is not None:
            self._office.close()
            self._office = None

    def __enter__(self) -> Self:
        try:
            if self._users:
                self.import_users(self._users)
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    # --- people

    @property
    def settings(self) -> Settings:
        """The configuration as the relay loads it."""
        return load(self.config)

    @property
    def office(self) -> Office:
        """Control database and operations; blocking, usable from threads, with the relay up or down."""
        if self._office is None:
            self._office = Office(self.settings)
        return self._office

    def import_users(self, users: Mapping[str, str] | str) -> ImportResult:
        """Import `{address: "home alias…"}`, or the text of a users.csv, by the real import. Blocks."""
        path = self.directory / "users.csv"
        path.write_text(users if isinstance(users, str) else users_csv(users))
        return self.office.import_users(path)

    async def hold(self, key: str, timeout: float = 60.0) -> HoldResult:  # noqa: ASYNC109 - the operation's own limit
        """`sluice hold KEY`; look at `.quiet`."""
        office = self.office
        return (await asyncio.to_thread(office.operations.hold, [key], office.act("test"), timeout=timeout))[0]

    async def release(
        self,
        key: str,
        to: str | None = None,
        timeout: float = 60.0,  # noqa: ASYNC109 - as above
    ) -> ReleaseResult:
        """`sluice release KEY [--to STORE]`."""
        office = self.office
        return (await asyncio.to_thread(office.operations.release, [key], office.act("test"), to, timeout=timeout))[0]

    async def move(
        self,
        key: str,
        to: str,
        run: Callable[[HoldResult], int] | None = None,
        timeout: float = 60.0,  # noqa: ASYNC109 - as above
    ) -> MoveResult:
        """`sluice move KEY --to STORE`; `run` is the copy, in the operation's thread."""
        office = self.office
        return await asyncio.to_thread(office.operations.move, key, to, office.act("test"), run=run, timeout=timeout)

    def worker_pids(self) -> list[int]:
        """Process ids of the registered workers, by slot."""
        return [member.pid for member in sorted(self.office.members(), key=lambda member: member.slot)]

    # --- mail

    def books(self) -> Books:
        """Queues, journals and accounts, opened now. Close it, or use it as a context manager."""
        return Books(self.state_dir)

    def journal(self) -> list[JournalRow]:
        """Every journal row of every spool."""
        with self.books() as books:
            return books.journal()

    async def drained(self, patience: float = 60.0) -> int:
        """Wait until no recipient is undelivered, at most `patience` seconds; how many are left."""
        with self.books() as books:
            return await asyncio.to_thread(books.drain, patience)

    async def left_at(self, count: int, seconds: float = 1.0, patience: float = 60.0) -> int:
        """How many recipients are undelivered once no more than `count` are, and not before `seconds` have passed."""
        since = time.monotonic()
        with self.books() as books:
            while time.monotonic() < since + patience:
                if await asyncio.to_thread(books.undelivered) <= count:
                    break
                await asyncio.sleep(0.05)
            await asyncio.sleep(max(0.0, since + seconds - time.monotonic()))
            return await asyncio.to_thread(books.undelivered)

    def tell(self, ledger: Ledger) -> None:
        """Give the ledger what queues and journals say. Call it when mail is at rest or the relay down."""
        with self.books() as books:
            ledger.kept(books.kept())
            ledger.journal(books.delivered())

    def balance(self) -> None:
        """Assert that the accounts of every spool balance (promise 9)."""
        with self.books() as books:
            assert books.counts(), "there is no spool yet"
            assert books.unbalanced() == []

    def _write(self) -> None:
        write_config(Layout(state_dir=self.state_dir, port=self.port, keys=self._keys, **self._layout), self.config)


def _over(tree: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(tree)
    for key, value in over.items():
        mine = both.get(key)
        both[key] = _over(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return both
