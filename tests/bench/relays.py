"""
The two relays side by side: Sluice as in production, and Debian's Postfix as its administrator would set it up.

Both get the same people, one store (or two) and the same load, and give the same promise: what they said 250 to is on
the disk. Postfix has a table of recipients and a table of transports, as hash files or in LDAP; its process limits and
its connection cache were tried out, and what was fastest is set.

Not equalised: Sluice writes a journal and keeps accounts, Postfix does neither; Postfix passes every message through
five processes of one purpose each, which gives it isolation that Sluice has not.
"""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.directory_site import directory_site, followed
from support.postfix_peer import Instance, why_not
from support.site import Site, StoreAt
from support.slapd import BASE, READER, Slapd

from bench.tools import free_port

LANES = 20
"""Connections to a store: Sluice's default, and Postfix's."""
WORKERS = 2
_PATIENCE = 120.0


@dataclass(frozen=True)
class Plan:
    """What both relays are to be. `people` are addresses whose home is `home`; `ldap` is who has them instead."""

    stores: Mapping[str, int]
    people: Sequence[str] = ("p0@example.edu",)
    home: str = "old"
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Further people, and the store that each of them is at. Not with LDAP."""
    ldap: Slapd | None = None
    workers: int = WORKERS
    size_limit: int = 20 << 20
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of Sluice's configuration."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of Sluice's directory, if it has one."""
    database: Path | None = None
    """A control database to begin with, instead of an empty one."""
    postfix: Mapping[str, object] = field(default_factory=dict)
    """Further lines of main.cf."""

    def homes(self) -> dict[str, str]:
        """Everybody's store."""
        return {**dict.fromkeys(self.people, self.home), **self.elsewhere}


class Sluice:
    """A `Site` with real fsync, log and journal."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        settings = {"log": {"level": "info"}, "message_size_limit": plan.size_limit, **plan.settings}
        stores = [StoreAt(name, port, "old" if name == "old" else "new") for name, port in plan.stores.items()]
        people = plan.homes()
        if plan.ldap is None:
            self.site = Site(directory, stores, users=people, workers=plan.workers, settings=settings, fresh=True)
        else:
            ldap = {"follow": "2s", **plan.source}
            self.site = directory_site(
                directory, stores, plan.ldap, ldap=ldap, settings=settings, workers=plan.workers, fresh=True
            )
        if plan.database is not None:
            self.site.state_dir.mkdir(mode=0o700)
            shutil.copy(plan.database, self.site.state_dir / "control.db")
        self._follows = plan.ldap is not None
        self.port = self.site.port

    def start(self) -> None:
        self.site.__enter__()
        end = time.monotonic() + _PATIENCE
        while self._follows and not followed(self.site):
            assert time.monotonic() < end, "the directory is not followed"
            time.sleep(0.1)

    def root(self) -> int:
        """The process all others descend from."""
        return self.site.relay.pid

    def settle(self, patience: float) -> None:
        """Wait until its queue is empty; assert that, and that its accounts balance."""
        with self.site.books() as books:
            left = books.drain(patience)
        assert not left, f"{left} recipients are left: the run does not count"
        self.site.balance()

    def stop(self) -> None:
        self.site.close()


class Postfix:
    """`support.postfix_peer`, with tables of recipients and transports."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        self.port = free_port()
        directory.chmod(0o755)  # its daemons are not root
        tables = _ldap_tables(directory, plan) if plan.ldap else _hash_tables(directory, plan)
        settings = {
            "mynetworks": "127.0.0.0/8",
            "relay_domains": "example.edu",
            "message_size_limit": plan.size_limit,
            "smtpd_client_connection_count_limit": 0,
            "default_destination_concurrency_limit": LANES,
            "initial_destination_concurrency": LANES,
            # Without it Postfix makes a client wait that is faster than its disk: the figure would be of the pause.
            "in_flow_delay": 0,
            **tables,
            **plan.postfix,
        }
        self.instance = Instance(directory, self.port, settings)

    def start(self) -> None:
        self.instance.start()

    def root(self) -> int:
        return int((self.instance.queue / "pid" / "master.pid").read_text())

    def settle(self, patience: float) -> None:
        self.instance.drain(patience)

    def stop(self) -> None:
        self.instance.stop()


def _hash_tables(directory: Path, plan: Plan) -> dict[str, str]:
    homes = plan.homes()
    tables = {
        "recipients": dict.fromkeys(homes, "x"),
        "transports": {address: f"smtp:[127.0.0.1]:{plan.stores[home]}" for address, home in homes.items()},
    }
    # postmap wants a main.cf, and a machine whose own mail system is not Postfix has none.
    (directory / "main.cf").write_text("compatibility_level = 3.6\n")
    for name, table in tables.items():
        path = directory / name
        path.write_text("".join(f"{address} {value}\n" for address, value in table.items()))
        subprocess.run(["/usr/sbin/postmap", "-c", directory, f"hash:{path}"], check=True, timeout=600)
    return {
        "relay_recipient_maps": f"hash:{directory / 'recipients'}",
        "transport_maps": f"hash:{directory / 'transports'}",
    }


def _ldap_tables(directory: Path, plan: Plan) -> dict[str, str]:
    """mailHost as transport, as a site with Sun's schema would have it; one connection for all, by proxymap."""
    assert plan.ldap is not None
    lines = {
        "server_host": plan.ldap.uri,
        "version": "3",
        "search_base": BASE,
        "bind": "yes",
        "bind_dn": READER,
        "bind_pw": plan.ldap.password_file.read_text().strip(),
        "query_filter": "(|(mail=%s)(mailAlternateAddress=%s))",
        "result_attribute": "mailHost",
    }
    results = {"recipients": "%s", "transports": f"smtp:[127.0.0.1]:{plan.stores[plan.home]}"}
    for name, result in results.items():
        keys = lines | {"result_format": result}
        (directory / f"{name}.cf").write_text("".join(f"{key} = {value}\n" for key, value in keys.items()))
    return {
        "relay_recipient_maps": f"proxy:ldap:{directory / 'recipients.cf'}",
        "transport_maps": f"proxy:ldap:{directory / 'transports.cf'}",
        "proxy_read_maps": "proxy:unix:passwd.byname $relay_recipient_maps $transport_maps",
    }


RELAYS: dict[str, type[Sluice] | type[Postfix]] = {"Postfix": Postfix, "Sluice": Sluice}


@contextmanager
def running(name: str, plan: Plan) -> Iterator[Sluice | Postfix]:
    """The relay `name`, started below a new directory, stopped and removed in the end."""
    reason = why_not()
    assert name != "Postfix" or not reason, reason
    directory = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
    try:
        relay = RELAYS[name](directory, plan)
        try:
            relay.start()
            time.sleep(0.3)  # what a start still does is not the run's
            yield relay
        finally:
            relay.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
