"""Metrics: what is counted under which labels. Alarms: every kind has its remedy."""

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from router.model.envelope import Client, QueuedMessage, QueuedRecipient
from router.model.outcome import Disposition, Outcome
from router.model.reply import HopReply, Reply
from router.report.alarms import AlarmEvent, AlarmKind
from router.report.metrics import Metrics, QueueGauge

MakeMessage = Callable[..., QueuedMessage]
MakeRecipient = Callable[..., QueuedRecipient]
MakeOutcome = Callable[..., Outcome]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), "1.2.3")


def samples(metrics: Metrics) -> dict[str, float]:
    return {
        sample.name + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_messages_and_outcomes(
    metrics: Metrics, message: MakeMessage, recipient: MakeRecipient, outcome: MakeOutcome
) -> None:
    metrics.received(message(), [recipient(), recipient()])
    metrics.outcome(message(), recipient(), outcome())
    metrics.outcome(message(), recipient(), outcome(Disposition.DEFERRED, HopReply(451, "", "x"), in_doubt=True))
    metrics.outcome(message(), recipient(), outcome(lane="mx:somewhere.example"))
    metrics.removed(message())
    found = samples(metrics)
    assert found["sluice_build_info version=1.2.3"] == 1
    assert found["sluice_messages_received_total"] == 1
    assert found["sluice_recipients_received_total"] == 2
    assert found["sluice_message_size_bytes_sum"] == 4312
    assert found["sluice_deliveries_total status=sent store=zimbra"] == 1
    assert found["sluice_deliveries_total status=deferred store=zimbra"] == 1
    assert found["sluice_deliveries_total status=sent store=mx"] == 1
    assert found["sluice_deliveries_in_doubt_total"] == 1
    assert found["sluice_delivery_delay_seconds_count stage=d store=zimbra"] == 1
    assert found["sluice_delivery_delay_seconds_sum stage=d store=zimbra"] == pytest.approx(0.14)
    assert not any("somewhere" in name or "@" in name for name in found)


def test_refusals_have_a_bounded_number_of_labels(metrics: Metrics) -> None:
    client = Client("192.0.2.1")
    for number in range(1000):
        metrics.rejected(client, "RCPT", Reply(550, f"5.1.{number}", "x"))
    metrics.rejected(client, "RCPT", Reply(550, "5.1.7", "x"))
    found = {name: value for name, value in samples(metrics).items() if name.startswith("sluice_smtp_rejects_total")}
    assert len(found) == 201
    assert found["sluice_smtp_rejects_total dsn=5.1.7 stage=RCPT"] == 2
    assert found["sluice_smtp_rejects_total dsn=other stage=other"] == 800


def test_gauges(metrics: Metrics) -> None:
    metrics.queues({"active": QueueGauge(5, 1000, 2.5), "hold": QueueGauge(3)})
    metrics.holds(4, 1)
    metrics.alarms(2)
    metrics.connections(17)
    metrics.store_up("zimbra", up=True)
    metrics.store_up("zimbra", up=False)
    metrics.loop_lag(0.003)
    metrics.commit(0.004)
    metrics.free_space(10**9)
    metrics.log_dropped(6)
    found = samples(metrics)
    assert found["sluice_queue_messages queue=active"] == 5
    assert found["sluice_queue_bytes queue=active"] == 1000
    assert found["sluice_queue_oldest_seconds queue=active"] == 2.5
    assert found["sluice_queue_messages queue=hold"] == 3
    assert found["sluice_hold_windows"] == 4
    assert found["sluice_hold_windows_overdue"] == 1
    assert found["sluice_alarms_open"] == 2
    assert found["sluice_smtp_connections state=open"] == 17
    assert found["sluice_store_up store=zimbra"] == 0
    assert found["sluice_event_loop_lag_seconds_bucket le=0.005"] == 1
    assert found["sluice_spool_fsync_seconds_count"] == 1
    assert found["sluice_spool_free_bytes"] == 10**9
    assert found["sluice_log_lines_dropped"] == 6
    with pytest.raises(KeyError):
        metrics.queues({"elsewhere": QueueGauge(1)})


def test_two_processes_in_one_do_not_collide() -> None:
    first, second = Metrics(CollectorRegistry(), "1"), Metrics(CollectorRegistry(), "1")
    first.alarms(1)
    assert samples(second)["sluice_alarms_open"] == 0


@pytest.mark.parametrize("kind", list(AlarmKind))
def test_every_alarm_has_a_remedy(kind: AlarmKind) -> None:
    assert kind.remedy.endswith(".")
    assert str(AlarmEvent(kind, "a@b\r\n", "x\x1b")).isprintable()
