"""
Builds the sender of a lane from the configuration: a store, the smarthost, or a domain by its MX records.

Guarantees: what lanes share (resolvers, TLS contexts of outbound mail, our own names) is made once. On failure to
read a CA file `OSError` or `ssl.SSLError`, at construction.
"""

from router.deliver.callout import Callout
from router.deliver.connection import Alarm, Connector, Timeouts
from router.deliver.names import Dns, SystemNames
from router.deliver.pool import PoolLimits
from router.deliver.resolve import HostSource, MxHosts, Ourselves, StaticHosts
from router.deliver.sender import LaneSender
from router.deliver.tls import tls_policy
from router.model.route import MX_PREFIX, SMARTHOST_LANE
from router.settings.schema import Outbound, Store


class Senders:
    """A factory; the caller keeps the senders and closes them. `share` divides per-node limits among workers."""

    def __init__(
        self,
        hostname: str,
        outbound: Outbound,
        *,
        alarm: Alarm,
        ours: Ourselves = Ourselves(),  # noqa: B008  # frozen
        names: SystemNames | None = None,
        dns: Dns | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008  # frozen
        limits: PoolLimits = PoolLimits(),  # noqa: B008  # frozen
        share: int = 1,
        mx_port: int = 25,
        allow_private_mx: bool = False,
    ) -> None:
        self._hostname = hostname
        self._outbound = outbound
        self._alarm = alarm
        self._ours = Ourselves(ours.names | {hostname.lower()}, ours.addresses)
        self._names = names or SystemNames()
        self._dns = dns or Dns(outbound.nameservers)
        self._timeouts = timeouts
        self._limits = limits
        self._share = max(share, 1)
        self._mx_port = mx_port
        self._allow_private_mx = allow_private_mx
        self._outbound_tls = tls_policy(outbound.tls)

    def store(self, store: Store) -> LaneSender:
        """The sender of a store. Raises `OSError` or `ssl.SSLError` for a bad CA file."""
        return LaneSender(
            StaticHosts(store.hosts, self._names, self._alarm),
            self._connector(store),
            protocol=store.protocol,
            max_connections=max(store.max_connections // self._share, 1),
            timeouts=self._timeouts,
            limits=self._limits,
            whole_eight_bit=store.eight_bit == "park",
        )

    def outbound(self, lane: str) -> LaneSender:
        """The sender of `smarthost` or `mx:domain`. Raises `ValueError` for another lane."""
        connector = Connector(
            self._hostname,
            self._outbound_tls,
            timeouts=self._timeouts,
            own_names=self._ours.names,
            alarm=self._alarm,
        )
        return LaneSender(
            self._outbound_hosts(lane),
            connector,
            max_connections=max(self._outbound.max_connections // self._share, 1),
            timeouts=self._timeouts,
            limits=self._limits,
        )

    def callout(self, store: Store) -> Callout:
        """Asks a store for a recipient. Raises as `store` does."""
        return Callout(StaticHosts(store.hosts, self._names, self._alarm), self._connector(store), self._timeouts)

    def close(self) -> None:
        """Let go of the resolver's threads."""
        self._names.close()

    def _connector(self, store: Store) -> Connector:
        return Connector(
            self._hostname,
            tls_policy(store.tls, store.ca_file),
            protocol=store.protocol,
            timeouts=self._timeouts,
            own_names=self._ours.names,
            alarm=self._alarm,
        )

    def _outbound_hosts(self, lane: str) -> HostSource:
        if lane == SMARTHOST_LANE and self._outbound.smarthost is not None:
            return StaticHosts((self._outbound.smarthost,), self._names, self._alarm)
        if not lane.startswith(MX_PREFIX):
            raise ValueError(f"no outbound lane: {lane}")
        return MxHosts(
            lane.removeprefix(MX_PREFIX),
            self._dns,
            self._ours,
            self._alarm,
            port=self._mx_port,
            allow_private=self._allow_private_mx,
        )
