"""
The configuration as frozen values. Names of keys are the YAML keys of `config/sluice.yaml`.

Guarantees: an instance is complete and consistent (every store named anywhere exists, alias domains end at real
ones); sizes are octets, durations seconds. Stations are given the part they need, never the file.
"""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from router.settings.base import Count, Flag, Number, Octets, Seconds, Section
from router.settings.directory import Ldap, LdapSource, Source
from router.settings.values import BadValue, parse_host_port, parse_network, parse_workers

Network = IPv4Network | IPv6Network

Networks = tuple[Annotated[Network, BeforeValidator(parse_network)], ...]


def _empty_domain(value: object) -> object:
    """`example.edu:` with nothing behind it is a domain with every default."""
    return {} if value is None else value


class HostPort(Section):
    """`name:port`, `[v6]:port` or `address:port`; written as one string in the file."""

    host: str = Field(min_length=1)
    port: Count = Field(ge=0, le=65535)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, dict | HostPort):
            return value
        host, port = parse_host_port(value)
        return {"host": host, "port": port}

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class TlsServer(Section):
    """Certificate and key of a listener; read again on reload."""

    certificate: Path
    key: Path


class Listener(Section):
    """One address and port to accept mail on."""

    address: str = "::"
    port: Count = Field(ge=0, le=65535)
    tls: TlsServer | None = None
    require_tls: Flag = False
    proxy_protocol: Flag = False


class Store(Section):
    """A named backend that takes mail. Limits are per node."""

    role: Literal["old", "new", "other"]
    hosts: tuple[HostPort, ...]
    protocol: Literal["smtp", "lmtp"] = "smtp"
    tls: Literal["off", "opportunistic", "require", "verify"] = "opportunistic"
    ca_file: Path | None = None
    max_connections: Count = Field(default=20, ge=1)
    max_recipients: Count = Field(default=100, ge=1)
    settle: Seconds = 60.0
    """Seconds a delivery in doubt keeps blocking a hold (barrier.md 7)."""
    recipient: Literal["received", "canonical"] = "received"
    """What the next hop sees for an alias: the address as received, or the mailbox's canonical address."""
    eight_bit: Literal["send", "park"] = "send"


class Domain(Section):
    """A domain we answer for. `store` is set when `unknown` is 'store'."""

    unknown: Literal["reject", "probe", "store"] = "reject"
    store: str = ""
    probe: tuple[str, ...] = ()
    alias_of: str = ""

    @model_validator(mode="before")
    @classmethod
    def _store_behind_unknown(cls, value: Any) -> Any:
        """`unknown: {store: NAME}` and `unknown: "store: NAME"` are short for the two keys."""
        unknown = value.get("unknown") if isinstance(value, dict) else None
        if isinstance(unknown, str) and unknown.startswith("store:"):
            unknown = {"store": unknown.removeprefix("store:").strip()}
        if not isinstance(unknown, dict) or set(unknown) != {"store"}:
            return value
        if "store" in value:
            raise BadValue("the store for unknown addresses is named twice", "remove the key `store`")
        return {**value, "unknown": "store", "store": unknown["store"]}


class ListSet(Section):
    """Mailing lists on one list host, by address and/or file (one address a line)."""

    store: str
    manager: Literal["majordomo", "mailman2", "mailman3"]
    addresses: tuple[str, ...] = ()
    file: Path | None = None


class Outbound(Section):
    """How DSNs and forwards leave: MX lookups, or a smarthost."""

    smarthost: HostPort | None = None
    tls: Literal["off", "opportunistic", "require", "verify"] = "opportunistic"
    max_connections: Count = Field(default=10, ge=1)
    nameservers: tuple[str, ...] = ()
    """Empty: those of the system."""


class Limits(Section):
    """Limits of the accepting side, per node (each worker takes its share)."""

    connections: Count = Field(default=1000, ge=1)
    connections_per_client: Count = Field(default=50, ge=1)
    recipients: Count = Field(default=1000, ge=100, le=32_768)
    """Of one message; the spool takes no more."""
    errors: Count = Field(default=20, ge=1)
    junk_commands: Count = Field(default=100, ge=0)
    command_timeout: Seconds = 300.0
    data_timeout: Seconds = 180.0
    """Longest silence between two blocks of DATA."""
    minimum_rate: Octets = 500
    """Octets per second below which DATA is cut off, averaged since its start after the first minute."""
    hop_count: Count = Field(default=50, ge=1)
    minimum_free: Octets = 256 * 1024 * 1024
    """Octets; below it (or 1.5 x message_size_limit, the larger) MAIL gets 452, and waits below twice that."""
    minimum_free_inodes: Count = Field(default=10_000, ge=0)


class Retry(Section):
    """Schedule of deferred mail."""

    first: Seconds = 240.0
    factor: Number = Field(default=1.7, ge=1)
    longest: Seconds = 4000.0
    lifetime: Seconds = 5 * 86400.0
    delay_notice: Seconds = 4 * 3600.0


class Safety(Section):
    """The times that keep people's mail safe during a migration."""

    protect: Seconds = 7 * 86400.0
    unknown_grace: Seconds = 86400.0
    max_hold: Seconds = 4 * 3600.0
    ack_timeout: Seconds = 10.0


class Log(Section):
    """Where delivery lines go: Postfix-shaped text or JSON on standard error."""

    format: Literal["postfix", "json"] = "postfix"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Section):
    """The whole file."""

    hostname: str
    state_dir: Path
    database: str = "sqlite"
    workers: Annotated[int, BeforeValidator(parse_workers)] = Field(default=0, ge=0)
    """0 in here is 'auto': one per core."""
    user: str = ""
    """Unprivileged account to become after binding, when started as root."""
    listen: tuple[Listener, ...]
    trusted_networks: Networks = ()
    relays: Networks = ()
    postmaster: str
    message_size_limit: Octets = 100 * 1024 * 1024
    recipient_delimiter: str = "+"
    stores: dict[str, Store]
    domains: dict[str, Annotated[Domain, BeforeValidator(_empty_domain)]]
    directory: tuple[Source, ...] = ("database",)
    lists: tuple[ListSet, ...] = ()
    services: dict[str, str] = Field(default_factory=dict)
    outbound: Outbound = Outbound()
    limits: Limits = Limits()
    retry: Retry = Retry()
    safety: Safety = Safety()
    log: Log = Log()
    smtputf8: Flag = False
    """Announce SMTPUTF8: set only when every store takes it."""
    fingerprint: str = ""
    """SHA-256 over the effective configuration, set by the loader; members register it (barrier.md 3)."""

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the control database."""
        if self.database == "sqlite":
            return f"sqlite:///{self.state_dir / 'control.db'}"
        return self.database

    @property
    def ldaps(self) -> dict[str, Ldap]:
        """The LDAP directories by name, in the order of the file."""
        return {source.ldap.name: source.ldap for source in self.directory if isinstance(source, LdapSource)}
