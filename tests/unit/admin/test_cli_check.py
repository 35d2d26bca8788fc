"""check: the configuration, and with --live DNS, stores, certificates, disk, database and spools."""

import asyncio
import socketserver
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trustme
from support.disk_watch import DiskWatch

from router.admin.cli import check as verb
from router.admin.cli.check_certificates import check_listeners
from router.admin.cli.check_certificates import check_stores as check_store_certificates
from router.admin.cli.check_dns import check_dns
from router.admin.cli.check_finding import Finding, Level
from router.admin.cli.check_local import check_local
from router.admin.cli.check_stores import check_stores
from router.admin.cli.context import Context
from router.control.database import ControlDatabase, site_uuid
from router.control.spools import Standing, check_spool
from router.deliver.names import Exchanger, NameFault
from router.settings.loader import load
from router.settings.schema import Settings, TlsServer
from router.spool.offline import as_owner, view

Sluice = Callable[..., Any]
"""Runs the command: `Result` of conftest."""


class FakeDns:
    """Answers from two tables; what is missing does not exist."""

    def __init__(self, mx: dict[str, list[str] | None], hosts: dict[str, str]) -> None:
        self.mx, self.hosts = mx, hosts

    async def exchangers(self, domain: str) -> tuple[Exchanger, ...] | None:
        if domain not in self.mx:
            raise NameFault(f"{domain} does not exist", absent=True)
        found = self.mx[domain]
        return None if found is None else tuple(Exchanger(10 * n, host) for n, host in enumerate(found, 1))

    async def addresses(self, host: str) -> tuple[str, ...]:
        if host not in self.hosts:
            raise NameFault(f"{host} does not exist", absent=True)
        return (self.hosts[host],)


HOSTS = {
    "mx.example.edu": "192.0.2.1", "cliff.example.edu": "192.0.2.10", "zimbra.example.edu": "192.0.2.11",
    "gw.example.edu": "192.0.2.53", "other.example.net": "198.51.100.1", "mx-two.example.edu": "192.0.2.1",
    "example.edu": "192.0.2.10",
}  # fmt: skip


@pytest.fixture
def site(config: Path) -> Settings:
    """Stores with names, as DNS checks want them."""
    settings = load(config)
    stores = {
        name: store.model_copy(update={"hosts": (store.hosts[0].model_copy(update={"host": f"{name}.example.edu"}),)})
        for name, store in settings.stores.items()
        if name != "lists"
    }
    domains = {"example.edu": settings.domains["example.edu"]}
    return settings.model_copy(update={"stores": stores, "domains": domains, "relays": (ip_network("192.0.2.53/32"),)})


def ask_dns(settings: Settings, mx: dict[str, list[str] | None]) -> list[Finding]:
    mx = {"cliff.example.edu": ["mx.example.edu"], **mx}
    return asyncio.run(check_dns(settings, FakeDns(mx, HOSTS)))


def errors(found: list[Finding]) -> list[str]:
    return [one.text for one in found if one.level is Level.ERROR]


def test_all_mail_comes_here(site: Settings) -> None:
    for records in (["mx.example.edu"], ["mx-two.example.edu"], ["mx.example.edu", "gw.example.edu"]):
        assert errors(ask_dns(site, {"example.edu": records})) == []


@pytest.mark.parametrize(
    ("records", "text"),
    [
        (["mx.example.edu", "cliff.example.edu"], "leads to store cliff, around us"),
        (["mx.example.edu", "other.example.net"], "is not us"),
        (["gw.example.edu"], "no MX record leads here"),
        (["."], "null MX"),
        (None, "leads to store cliff, around us"),
        ([], "no MX record leads here"),
    ],
)
def test_mail_that_reaches_somebody_else(site: Settings, records: list[str] | None, text: str) -> None:
    found = errors(ask_dns(site, {"example.edu": records}))
    assert any(text in one for one in found), found


def test_a_domain_that_does_not_exist(site: Settings) -> None:
    assert "example.edu does not exist" in errors(ask_dns(site, {}))[0]


def test_mail_to_the_name_of_an_old_host_goes_around_us(site: Settings) -> None:
    found = ask_dns(site, {"example.edu": ["mx.example.edu"], "cliff.example.edu": None})
    assert [one.level for one in found if one.subject == "cliff.example.edu"] == [Level.WARNING]


class Store(socketserver.ThreadingTCPServer):
    """A store on a raw socket that accepts the recipients it is told to."""

    allow_reuse_address = True
    daemon_threads = True
    accepts: ClassVar[tuple[str, ...]] = ("postmaster@",)


class Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 store.example.edu ESMTP\r\n")
        for line in self.rfile:
            text = line.decode().strip()
            if text.startswith("RCPT"):
                taken = any(one in text for one in self.server.accepts)  # type: ignore[attr-defined]
                self.wfile.write(b"250 2.1.5 ok\r\n" if taken else b"550 5.1.1 unknown\r\n")
            elif text.startswith("QUIT"):
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                self.wfile.write(b"250 ok\r\n")


@pytest.fixture
def store() -> Iterator[Store]:
    server = Store(("127.0.0.1", 0), Session)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def with_store(settings: Settings, port: int) -> Settings:
    one = settings.stores["cliff"]
    host = one.hosts[0].model_copy(update={"host": "127.0.0.1", "port": port})
    return settings.model_copy(update={"stores": {"cliff": one.model_copy(update={"hosts": (host,)})}})


def test_a_store_that_answers(config: Path, store: Store) -> None:
    found = asyncio.run(check_stores(with_store(load(config), store.server_address[1]), 5.0))
    assert [one.level for one in found] == [Level.OK]
    assert "answers in" in found[0].text


def test_a_probed_store_that_accepts_anything_is_an_error(config: Path, store: Store) -> None:
    store.accepts = ("",)  # type: ignore[misc]
    found = asyncio.run(check_stores(with_store(load(config), store.server_address[1]), 5.0))
    assert "accepts any address" in errors(found)[0]
    settings = with_store(load(config), store.server_address[1])
    settings = settings.model_copy(update={"domains": {"example.edu": settings.domains["example.edu"]}})
    found = asyncio.run(check_stores(settings, 5.0))
    assert [one.level for one in found] == [Level.OK, Level.WARNING]


def test_a_store_that_is_silent_is_an_error(config: Path) -> None:
    found = asyncio.run(check_stores(with_store(load(config), 1), 5.0))
    assert "connect to 127.0.0.1" in errors(found)[0]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def listener(settings: Settings, tmp_path: Path, certificate: trustme.LeafCert) -> Settings:
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    tls = TlsServer(certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem")
    return settings.model_copy(update={"listen": (settings.listen[0].model_copy(update={"tls": tls}),)})


def test_certificates_of_listeners(config: Path, tmp_path: Path, authority: trustme.CA) -> None:
    now = datetime.now(UTC)
    for days, level in ((30, Level.OK), (10, Level.WARNING), (-1, Level.ERROR)):
        certificate = authority.issue_cert("mx.example.edu", not_after=now + timedelta(days=days))
        found = check_listeners(listener(load(config), tmp_path, certificate), now.timestamp())
        assert [one.level for one in found] == [level]
    other = listener(load(config), tmp_path, authority.issue_cert("www.example.edu"))
    assert "does not name mx.example.edu" in check_listeners(other, 1_700_000_000.0)[0].text


def test_a_certificate_that_does_not_fit_its_key(config: Path, tmp_path: Path, authority: trustme.CA) -> None:
    settings = listener(load(config), tmp_path, authority.issue_cert("mx.example.edu"))
    authority.issue_cert("mx.example.edu").private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    assert check_listeners(settings, 0.0)[0].level is Level.ERROR
    (tmp_path / "cert.pem").unlink()
    assert check_listeners(settings, 0.0)[0].level is Level.ERROR


def test_store_certificates_are_asked_of_verified_stores_only(config: Path) -> None:
    assert asyncio.run(check_store_certificates(load(config), 1.0, 0.0)) == []


def make_spool(state: Path, number: int, uuid: str = "", epoch: int = 0) -> Path:
    place = state / "spool" / f"{number:04d}"
    place.mkdir(parents=True, mode=0o700)

    async def make() -> None:
        from router.spool.spool import Spool  # noqa: PLC0415 - here only

        spool = await Spool.open(place, number, create=True)
        if uuid:
            await spool.remember(uuid, epoch, force=True)
        await spool.close()

    asyncio.run(make())
    return place


def test_a_sound_machine(config: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_spool(state, 1)
    watch = DiskWatch(state, monkeypatch)
    found = check_local(Context(config))
    assert errors(found) == []
    texts = " ".join(one.text for one in found)
    assert "fsync takes" in texts
    assert watch.synced, "what was measured"
    assert "opens and is sound" in texts
    assert "opens, 0 messages" in texts


def test_a_spool_that_others_may_read(config: Path, state: Path) -> None:
    make_spool(state, 1).chmod(0o755)
    assert errors(check_local(Context(config))) == ["has mode 0755"]


def test_a_home_that_is_no_store(config: Path) -> None:
    config.write_text(config.read_text().replace("zimbra:", "exchange:"))
    assert "is the home of 1 mailboxes and no store" in errors(check_local(Context(config)))[0]


def test_a_missing_or_damaged_database(config: Path, state: Path) -> None:
    path = state / "control.db"
    path.write_bytes(path.read_bytes()[:4096] + b"x" * 8192)
    assert errors(check_local(Context(config)))
    path.unlink()
    assert "no control database" in errors(check_local(Context(config)))[0]


def test_check_finds_every_error_at_once(sluice: Sluice, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("hostname: mx.example.edu\nnonsense: 1\nworkers: many\n")
    found = sluice("check", "--config", str(bad), "--json")
    assert found.status == 78
    assert {"file", "line", "column", "key", "message", "remedy"} == set(found.json["problems"][0])
    assert {"nonsense", "workers", "stores"} <= {one["key"] for one in found.json["problems"]}
    assert "bad.yaml:2: nonsense: unknown key" in sluice("check", "--config", str(bad)).out
    assert sluice("check", "--config", "/nowhere.yaml").status == 66


def test_a_good_configuration(sluice: Sluice) -> None:
    found = sluice("check", "--json")
    assert found.status == 0
    assert set(found.json) == {"version", "file", "problems", "findings", "fingerprint", "exit"}


def warnings(found: Any) -> dict[str, tuple[str, str]]:
    return {one["subject"]: (one["text"], one["remedy"]) for one in found.json["findings"] if one["level"] == "warning"}


def test_a_postmaster_with_a_mailbox_is_warned_of(sluice: Sluice, config: Path, state: Path) -> None:
    found = sluice("check", "--json")
    assert found.status == 0
    text, remedy = warnings(found)["postmaster"]
    assert text == "root@example.edu is a mailbox, so it can never be held"
    assert remedy.startswith("before it is moved, name another address in `postmaster:`")
    assert "can never be held" in sluice("check").out
    assert sluice("check", "--live", "--step", "1s").out.count("can never be held") == 1
    good = config.read_text()
    for other in ("nobody@example.edu", "tickets@example.edu", "hostmaster@elsewhere.org"):
        config.write_text(good.replace("root@example.edu", other))
        assert sluice("check", "--json").json["findings"] == [], other
    config.write_text(good.replace("root@example.edu", "a.ann+x@alias.example.edu"))
    assert warnings(sluice("check", "--json"))["postmaster"][0].startswith("ann@example.edu is a mailbox")


@pytest.mark.parametrize("damage", ["missing", "garbage", "empty"])
def test_without_a_readable_database_a_check_says_nothing_of_the_postmaster(
    sluice: Sluice, state: Path, damage: str
) -> None:
    path = state / "control.db"
    path.write_bytes(b"" if damage == "empty" else b"x" * 8192)
    if damage == "missing":
        path.unlink()
    found = sluice("check", "--json")
    assert (found.status, found.json["findings"]) == (0, [])
    assert path.exists() == (damage != "missing")


@pytest.mark.parametrize(
    ("relays", "trusted", "told"),
    [
        ("[192.0.2.53/32]", "[192.0.2.53/32]", ["192.0.2.53/32"]),
        ("[192.0.2.53/32, 127.0.0.1]", "[192.0.2.0/24, 127.0.0.0/8]", ["192.0.2.53/32", "127.0.0.1/32"]),
        ("[192.0.2.0/24]", "[192.0.2.7, 192.0.2.8]", ["192.0.2.7/32", "192.0.2.8/32"]),
        ('["::ffff:192.0.2.0/120"]', "[192.0.2.7]", ["192.0.2.7/32"]),
        ('["2001:db8::1"]', '["2001:db8::/64"]', ["2001:db8::1/128"]),
        ("[192.0.2.53/32]", "[192.0.2.54/32]", []),
        ("[0.0.0.1]", '["::1"]', []),
    ],
)
def test_gateways_that_are_trusted_are_warned_of(
    sluice: Sluice, config: Path, relays: str, trusted: str, told: list[str]
) -> None:
    text = config.read_text().replace("root@", "nobody@").replace("relays: [192.0.2.53/32]", f"relays: {relays}")
    config.write_text(f"{text}trusted_networks: {trusted}\n")
    found = sluice("check", "--json")
    assert found.status == 0
    said = warnings(found)
    assert list(said) == told
    assert all("relays strangers' mail as trusted unless it uses XCLIENT or PROXY" in one for one, _ in said.values())


def test_live_fails_for_errors_only(sluice: Sluice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "Dns", lambda _servers: FakeDns({}, {}))
    found = sluice("check", "--live", "--step", "2s", "--json")
    assert found.status == 1
    assert {one["area"] for one in found.json["findings"]} == {
        "dns", "store", "disk", "database", "spool", "configuration",
    }  # fmt: skip
    assert "error" in sluice("check", "--live", "--step", "2s").out


def test_accepting_a_restored_database(sluice: Sluice, state: Path, database: ControlDatabase) -> None:
    uuid = database.run_read(site_uuid)
    older, foreign = make_spool(state, 1, uuid, 500), make_spool(state, 2, "another", 700)
    assert "--accept-restored" in sluice("check", "--live", "--step", "1s").out
    assert sluice("check", "--accept-restored").status == 64
    found = sluice("check", "--accept-restored", "--reason", "restored", "--json")
    assert found.status == 0
    assert found.json["accepted"] == {"epoch": 701, "told": [1, 2], "owned": []}
    for place in (older, foreign):
        with view(place) as spool:
            check = partial(check_spool, uuid=spool.remembered()[0], highest_epoch=spool.remembered()[1])
        assert database.run_read(check) is Standing.OK


async def test_a_spool_with_a_worker_is_left_to_it(sluice: Sluice, state: Path) -> None:
    place = await asyncio.to_thread(make_spool, state, 1, "another", 7)
    async with as_owner(place, 1):
        found = await asyncio.to_thread(sluice, "check", "--accept-restored", "--reason", "restored", "--json")
    assert found.json["accepted"]["owned"] == [1]


def test_an_unreadable_spool_stops_the_acceptance(sluice: Sluice, state: Path, database: ControlDatabase) -> None:
    place = make_spool(state, 1, "another", 7)
    for path in place.glob("*.db*"):
        path.write_bytes(b"x" * 4096)
    assert sluice("check", "--accept-restored", "--reason", "restored").status == 74
    assert "accept restored" not in sluice("audit").out
