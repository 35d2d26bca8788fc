"""
Prometheus metrics of one process, and their text form.

Guarantees: no address, person or foreign domain is ever a label (all `mx:` lanes count as `mx`); label children are
bound once, so that counting costs no look-up in the library; methods of the observer never raise.
The process's registry is handed in; nobody listens here, `render` gives the text to whoever serves it.

For boards made for Postfix: `postfix_smtpd_messages_processed_total` is `sluice_messages_received_total`,
`postfix_smtpd_messages_rejected_total` is `sluice_smtp_rejects_total`, `postfix_smtp_delivery_delay_seconds` is
`sluice_delivery_delay_seconds`, `postfix_smtp_deferred_messages_total` is
`sluice_deliveries_total{status="deferred"}`, `postfix_showq_queue_depth` is `sluice_queue_messages`, and
`postfix_showq_message_age_seconds` is `sluice_queue_oldest_seconds` (a gauge of the oldest, not a histogram).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from router.model.envelope import Client, QueuedMessage, QueuedRecipient
from router.model.outcome import Disposition, Outcome
from router.model.reply import Reply
from router.model.route import MX_PREFIX
from router.report.log_line import STATUS, dsn

QUEUES = ("active", "deferred", "hold", "parked", "quarantined")
"""The label values of the queue gauges; hold is held."""

_STAGES = ("a", "b", "c", "d")
_SIZES = (1e3, 4e3, 16e3, 64e3, 256e3, 1e6, 4e6, 16e6, 64e6)
_DELAYS = (0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 300.0, 3600.0, 86400.0)
_LAGS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0)
_REPLY_LABELS = 200
"""Bound on (stage, dsn) pairs; our replies come from one table of some tens, a filter may add its own."""


@dataclass(frozen=True, slots=True)
class QueueGauge:
    """One queue as the spool counts it: messages, octets, age of the oldest in seconds."""

    messages: int
    octets: int = 0
    oldest: float = 0.0


class _Lane:
    """The children of one lane's series, bound when the lane is first used."""

    __slots__ = ("delays", "statuses")

    def __init__(self, deliveries: Counter, delays: Histogram, lane: str) -> None:
        self.statuses = {kind: deliveries.labels(lane, STATUS[kind]) for kind in Disposition}
        self.delays = tuple(delays.labels(lane, stage) for stage in _STAGES)


class Metrics:
    """An observer (see `observer`), and setters for what is measured from time to time."""

    def __init__(self, registry: CollectorRegistry, version: str) -> None:
        self._registry = registry
        ProcessCollector(registry=registry)
        Gauge("sluice_build_info", "Version of Sluice", ["version"], registry=registry).labels(version).set(1)
        self._received = Counter("sluice_messages_received", "Messages accepted", registry=registry)
        self._size = Histogram(
            "sluice_message_size_bytes", "Sizes of accepted messages", buckets=_SIZES, registry=registry
        )
        self._recipients = Counter("sluice_recipients_received", "Recipients accepted", registry=registry)
        self._rejects = Counter("sluice_smtp_rejects", "Refused commands", ["stage", "dsn"], registry=registry)
        self._reject_children: dict[tuple[str, str], Counter] = {}
        self._deliveries = Counter(
            "sluice_deliveries", "Verdicts on recipients", ["store", "status"], registry=registry
        )
        self._delays = Histogram(
            "sluice_delivery_delay_seconds",
            "Delays of delivered recipients: before the queue, in it, connection set-up, transmission",
            ["store", "stage"],
            buckets=_DELAYS,
            registry=registry,
        )
        self._lanes: dict[str, _Lane] = {}
        self._in_doubt = Counter("sluice_deliveries_in_doubt", "Dots without a reply", registry=registry)
        self._bind_gauges(registry)

    def _bind_gauges(self, registry: CollectorRegistry) -> None:
        messages = Gauge("sluice_queue_messages", "Recipients waiting", ["queue"], registry=registry)
        octets = Gauge("sluice_queue_bytes", "Octets waiting", ["queue"], registry=registry)
        oldest = Gauge("sluice_queue_oldest_seconds", "Age of the oldest", ["queue"], registry=registry)
        self._queues = {name: (messages.labels(name), octets.labels(name), oldest.labels(name)) for name in QUEUES}
        connections = Gauge("sluice_smtp_connections", "Open connections of clients", ["state"], registry=registry)
        self._connections = connections.labels("open")
        self._holds = Gauge("sluice_hold_windows", "Open holds", registry=registry)
        self._overdue = Gauge("sluice_hold_windows_overdue", "Open holds past their deadline", registry=registry)
        self._alarms = Gauge("sluice_alarms_open", "Open alarms", registry=registry)
        self._free = Gauge("sluice_spool_free_bytes", "Free space of the spool's disk", registry=registry)
        self._commit = Histogram(
            "sluice_spool_fsync_seconds", "Duration of spool commits", buckets=_LAGS, registry=registry
        )
        self._lag = Histogram(
            "sluice_event_loop_lag_seconds", "Late wake-ups of the loop", buckets=_LAGS, registry=registry
        )
        self._log_dropped = Gauge("sluice_log_lines_dropped", "Log lines never written", registry=registry)
        self._store_up = Gauge("sluice_store_up", "1 while the store answers", ["store"], registry=registry)
        self._up_children: dict[str, Gauge] = {}

    def received(self, message: QueuedMessage, recipients: Sequence[QueuedRecipient]) -> None:
        self._received.inc()
        self._recipients.inc(len(recipients))
        self._size.observe(message.size)

    def rejected(
        self, client: Client, stage: str, reply: Reply, sender: str = "", recipient: str = "", helo: str = ""
    ) -> None:
        del client, sender, recipient, helo
        key = (stage, dsn(reply))
        child = self._reject_children.get(key)
        if child is None:
            if len(self._reject_children) >= _REPLY_LABELS:
                key = ("other", "other")
            child = self._reject_children.setdefault(key, self._rejects.labels(*key))
        child.inc()

    def outcome(self, message: QueuedMessage, recipient: QueuedRecipient, outcome: Outcome) -> None:
        del message, recipient
        lane = self._lane(outcome.lane)
        lane.statuses[outcome.disposition].inc()
        if outcome.in_doubt:
            self._in_doubt.inc()
        if outcome.disposition is Disposition.DELIVERED:
            for child, value in zip(lane.delays, outcome.delays, strict=True):
                child.observe(value)

    def removed(self, message: QueuedMessage) -> None:
        """Nothing to count: the outcomes were."""

    def _lane(self, name: str) -> _Lane:
        label = "mx" if name.startswith(MX_PREFIX) else name or "none"
        lane = self._lanes.get(label)
        if lane is None:
            lane = self._lanes[label] = _Lane(self._deliveries, self._delays, label)
        return lane

    def queues(self, counts: Mapping[str, QueueGauge]) -> None:
        """Set the gauges of the named `QUEUES`; the others keep their values. `KeyError` for any other name."""
        for name, count in counts.items():
            messages, octets, oldest = self._queues[name]
            messages.set(count.messages)
            octets.set(count.octets)
            oldest.set(count.oldest)

    def holds(self, open_holds: int, overdue: int) -> None:
        """Open holds, and those past their deadline."""
        self._holds.set(open_holds)
        self._overdue.set(overdue)

    def alarms(self, open_alarms: int) -> None:
        self._alarms.set(open_alarms)

    def connections(self, count: int) -> None:
        """Connections of clients that are open now."""
        self._connections.set(count)

    def store_up(self, store: str, up: bool) -> None:
        """A store of the configuration answers, or does not."""
        child = self._up_children.get(store)
        if child is None:
            child = self._up_children[store] = self._store_up.labels(store)
        child.set(up)

    def loop_lag(self, seconds: float) -> None:
        """How much later than asked for the event loop woke a sleeper."""
        self._lag.observe(seconds)

    def commit(self, seconds: float) -> None:
        """Duration of one group commit."""
        self._commit.observe(seconds)

    def free_space(self, octets: int) -> None:
        self._free.set(octets)

    def log_dropped(self, count: int) -> None:
        self._log_dropped.set(count)

    def render(self) -> bytes:
        """The text exposition format, version 0.0.4."""
        return generate_latest(self._registry)
