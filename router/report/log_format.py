r"""
The last step of the delivery log: lines as octets for a terminal, a file, journald, or a JSON reader.

Three formats:

- plain: a classic syslog stamp in local time, `Nov 22 01:02:03 HOST sluice/smtp[PID]: …`; pflogsumm with
  `--syslog_name=sluice` and logwatch read it as it is.
- journal: `<6>sluice/smtp[PID]: …`, the priority prefix of sd-daemon(3) and no stamp, because journald adds time,
  host and `SyslogIdentifier`. To feed pflogsumm from the journal, drop that identifier again:
  `journalctl -u sluice -o short | sed 's/ sluice\[[0-9]*\]: / /' | pflogsumm --syslog_name=sluice`.
- JSON: one object a line with the same keys as the plain text, 7-bit.

Guarantees: each result is one line that ends with LF and holds no other control character. Never fails.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from router.report.escape import host_name, one_line
from router.report.log_line import STATUS, Line, dsn, lines, reason, relay
from router.report.log_record import Accepted, Dropped, Record, Rejected, Removed, Settled

NAME = "sluice"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

Format = Callable[[Record], bytes]


def under_journal(environment: Mapping[str, str]) -> bool:
    """Whether standard error goes to journald (systemd.exec(5), JOURNAL_STREAM)."""
    return bool(environment.get("JOURNAL_STREAM"))


def make_format(style: Literal["postfix", "json"], hostname: str, pid: int, *, journal: bool) -> Format:
    """The format for `style`; `journal` puts priority prefixes in place of stamps."""
    if style == "json":
        return JsonFormat(pid, journal=journal)
    return JournalFormat(pid) if journal else PlainFormat(hostname, pid)


class PlainFormat:
    """Stamped lines. The stamp is made once a second."""

    def __init__(self, hostname: str, pid: int) -> None:
        self._host = host_name(hostname)
        self._pid = pid
        self._second = -1
        self._stamp = ""

    def __call__(self, record: Record) -> bytes:
        return "".join([self._line(line) for line in lines(record)]).encode("utf-8", "backslashreplace")

    def _line(self, line: Line) -> str:
        second = int(line.at)
        if second != self._second:
            self._second, self._stamp = second, _stamp(second)
        return f"{self._stamp} {self._host} {NAME}/{line.program}[{self._pid}]: {line.text}\n"


class JournalFormat:
    """Lines with a priority prefix for journald."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __call__(self, record: Record) -> bytes:
        pid = self._pid
        text = "".join([f"<{line.severity}>{NAME}/{line.program}[{pid}]: {line.text}\n" for line in lines(record)])
        return text.encode("utf-8", "backslashreplace")


class JsonFormat:
    """One object a line. Absent values are left out."""

    def __init__(self, pid: int, *, journal: bool) -> None:
        self._pid = pid
        self._journal = journal

    def __call__(self, record: Record) -> bytes:
        fields = {"process": NAME, "pid": self._pid, **{k: v for k, v in _fields(record) if v not in ("", None)}}
        severity = 4 if isinstance(record, Dropped) else 6
        prefix = f"<{severity}>" if self._journal else ""
        return f"{prefix}{json.dumps(fields, separators=(',', ':'))}\n".encode("ascii")


def _stamp(second: int) -> str:
    t = time.localtime(second)
    return f"{_MONTHS[t.tm_mon - 1]} {t.tm_mday:2d} {t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}"


def _fields(record: Record) -> Iterator[tuple[str, object]]:
    match record:
        case Settled():
            yield from _settled(record)
        case Accepted():
            yield from _accepted(record)
        case Removed():
            yield from (("event", "removed"), ("at", record.at), ("queue_id", record.queue_id))
        case Rejected():
            yield from _rejected(record)
        case Dropped():
            yield from (("event", "lines-lost"), ("at", record.at), ("count", record.lost))


def _accepted(record: Accepted) -> Iterator[tuple[str, object]]:
    yield "event", "received"
    yield "at", record.at
    yield "queue_id", record.queue_id
    yield "client", record.client.address
    yield "client_name", one_line(record.client.name)
    yield "helo", one_line(record.client.helo)
    yield "proto", one_line(record.client.protocol)
    yield "message-id", one_line(record.message_id)
    yield "from", _angle(record.sender)
    yield "size", record.size
    yield "nrcpt", record.recipients
    yield "held", [one_line(recipient, 400) for recipient in record.held] or None


def _rejected(record: Rejected) -> Iterator[tuple[str, object]]:
    yield "event", "reject"
    yield "at", record.at
    yield "stage", one_line(record.stage)
    yield "client", record.client.address
    yield "client_name", one_line(record.client.name)
    yield "helo", one_line(record.helo or record.client.helo)
    yield "from", _angle(record.sender)
    yield "to", one_line(record.recipient, 400)
    yield "code", record.reply.code
    yield "dsn", dsn(record.reply)
    yield "reply", one_line(str(record.reply), 500)


def _settled(record: Settled) -> Iterator[tuple[str, object]]:
    outcome = record.outcome
    yield "event", outcome.disposition.value
    yield "at", outcome.at
    yield "queue_id", record.queue_id
    yield "from", _angle(record.sender)
    yield "to", one_line(record.recipient, 400)
    yield "relay", relay(outcome.reply)
    yield "delay", round(max(outcome.at - record.received_at, 0.0), 3)
    yield "delays", [round(part, 3) for part in outcome.delays]
    yield "dsn", dsn(outcome.reply)
    yield "status", STATUS[outcome.disposition]
    yield "reply", reason(outcome)
    yield "in_doubt", outcome.in_doubt or None
    yield "route", one_line(outcome.lane)
    yield "mailbox", one_line(outcome.mailbox, 400)
    yield "batch", one_line(outcome.batch)


def _angle(sender: str) -> str:
    """The null sender must not look like an absent one."""
    return one_line(sender, 400) or "<>"
