"""
Steady traffic to a site whose people are in a directory, and what became of it.

    with Traffic(site, {"known": ("ann@example.edu",), "unknown": ("nobody@example.edu",)}) as traffic:
        mark = traffic.mark()
        …                                        # an outage
        traffic.codes("unknown", since=mark)     # {"451 4.4.3"}
    assert await site.drained() == 0
    traffic.exactly_once(stores.values())

Each group has senders of its own: one connection after the other, one RCPT for each address of the group, and a message
to those who were accepted. Unknown addresses may have `{}` in them: each time another one is asked for.

On failure: a sender that is not answered within a minute ends the test when the traffic is stopped.
"""

import itertools
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from router.ledger.stores import RecordingStore
from support.directory_site import SENDER
from support.site import Site

PAUSE = 0.05
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One reply to RCPT: when it came (monotonic), after how many seconds, and what it said."""

    at: float
    seconds: float
    address: str
    code: int
    text: str

    @property
    def brief(self) -> str:
        """Code and enhanced code."""
        return f"{self.code} {self.text.split()[0]}"


class Traffic:
    """Blocking methods are for threads; `answers` and `accepted` may be read at any time."""

    def __init__(self, site: Site, groups: Mapping[str, Sequence[str]], *, pause: float = PAUSE) -> None:
        self._site = site
        self._pause = pause
        self._numbers = itertools.count(1)
        self._stop = threading.Event()
        self.answers: dict[str, list[Answer]] = {name: [] for name in groups}
        self.accepted: list[tuple[str, str]] = []
        """Tag and address of everything that got its 250 after the dot."""
        self.failures: list[str] = []
        self._threads = [
            threading.Thread(target=self._send_all, args=(name, tuple(addresses)), name=f"traffic-{name}")
            for name, addresses in groups.items()
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()  # and no join: the stores are in this thread's loop. A sender ends with its message

    def stop(self) -> None:
        """End the senders and wait for them. Blocks: call it in a thread."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_PATIENCE)
            assert not thread.is_alive(), f"{thread.name} is not answered"
        assert not self.failures, self.failures

    def mark(self) -> float:
        """Now, for `since`."""
        return time.monotonic()

    def of(self, group: str, since: float = 0.0, until: float = float("inf")) -> list[Answer]:
        """The answers that were asked for after `since` and came before `until`."""
        return [one for one in tuple(self.answers[group]) if one.at - one.seconds >= since and one.at <= until]

    def codes(self, group: str, since: float = 0.0, until: float = float("inf")) -> Counter[str]:
        return Counter(one.brief for one in self.of(group, since, until))

    def longest(self, group: str, since: float = 0.0, until: float = float("inf")) -> float:
        """Seconds for one RCPT."""
        return max((one.seconds for one in self.of(group, since, until)), default=0.0)

    def exactly_once(self, stores: Iterable[RecordingStore]) -> None:
        """What was accepted arrived once, nothing else did, and there is no notice to anybody. Call it at rest."""
        came: Counter[tuple[str, str]] = Counter()
        for store in stores:
            for arrival in store.arrivals:
                assert arrival.sender == SENDER, f"a notice: {arrival}"
                came.update((arrival.tag, address.lower()) for address, _ in arrival.recipients)
        wanted = Counter((tag, address.lower()) for tag, address in self.accepted)
        assert wanted == came, f"missing {wanted - came}, too many {came - wanted}"

    # --- the senders

    def _send_all(self, group: str, addresses: Sequence[str]) -> None:
        while not self._stop.is_set():
            try:
                self._send(group, addresses)
            except (OSError, smtplib.SMTPException) as error:
                self.failures.append(f"{group}: {error!r}")
                return
            self._stop.wait(self._pause)

    def _send(self, group: str, addresses: Sequence[str]) -> None:
        tag = f"{group}-{next(self._numbers)}"
        with smtplib.SMTP("127.0.0.1", self._site.port, timeout=_PATIENCE) as client:
            client.ehlo("traffic.example")
            client.mail(SENDER)
            asked = [address.format(tag) for address in addresses]
            taken = [address for address in asked if self._rcpt(client, group, address)]
            if taken:
                body = f"Message-ID: <{tag}@outside.example>\r\nX-Ledger: {tag}\r\nSubject: {tag}\r\n\r\nhello\r\n"
                code, text = client.data(body.encode())
                assert code == 250, (code, text)
                self.accepted += [(tag, address) for address in taken]

    def _rcpt(self, client: smtplib.SMTP, group: str, address: str) -> bool:
        began = time.monotonic()
        code, text = client.rcpt(address)
        now = time.monotonic()
        self.answers[group].append(Answer(now, now - began, address, code, text.decode()))
        return code == 250
