"""Where the data plane's story goes: the delivery log, metrics, and alarms with one log line each."""

import logging
import time
from collections.abc import Callable, Sequence

from router.model.envelope import Client, QueuedMessage, QueuedRecipient
from router.model.outcome import Disposition, Outcome
from router.model.reply import Reply
from router.report.observer import Observer

log = logging.getLogger("sluice.alarm")

_REPEAT = 300.0
"""Seconds before the same alarm is logged again; its row counts every time."""


class WorkerTrace:
    """`Trace` of the pipeline. `raise_alarm` and `clear_alarm` are the control follower's."""

    def __init__(
        self,
        observer: Observer,
        raise_alarm: Callable[[str, str, str], None],
        clear_alarm: Callable[[str, str], None],
    ) -> None:
        self._observer = observer
        self._raise = raise_alarm
        self._clear = clear_alarm
        self._logged: dict[tuple[str, str], float] = {}

    def received(self, message: QueuedMessage, recipients: Sequence[QueuedRecipient]) -> None:
        self._observer.received(message, recipients)

    def outcome(self, message: QueuedMessage, recipient: QueuedRecipient, outcome: Outcome) -> None:
        if outcome.counted or outcome.disposition is not Disposition.DEFERRED:
            self._observer.outcome(message, recipient, outcome)

    def removed(self, message: QueuedMessage) -> None:
        self._observer.removed(message)

    def alarm(self, kind: str, key: str, text: str) -> None:
        self._raise(kind, key, text)
        now = time.monotonic()
        if now - self._logged.get((kind, key), -_REPEAT) >= _REPEAT:
            if len(self._logged) > 10_000:
                self._logged.clear()
            self._logged[(kind, key)] = now
            log.warning("%s: %s: %s", kind, key, text)

    def clear(self, kind: str, key: str) -> None:
        self._logged.pop((kind, key), None)
        self._clear(kind, key)

    def rejected(self, client: Client, stage: str, reply: Reply, sender: str, recipient: str, helo: str) -> None:
        self._observer.rejected(client, stage, reply, sender, recipient, helo)
