"""The delivery log: its lines, what pflogsumm makes of them, and that no sink and no client can hurt it."""

import io
import json
import os
import re
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.model.address import Address
from router.model.envelope import Client, Envelope, HeaderFacts, QueuedMessage, QueuedRecipient, RecipientState
from router.model.outcome import Disposition, Outcome
from router.model.reply import HopReply, Reply
from router.report.delivery_log import DeliveryLog
from router.report.escape import ascii_line, host_name, in_brackets, one_line
from router.report.log_format import Format, JsonFormat, PlainFormat, make_format, under_journal
from router.report.log_line import lines, seconds
from router.report.log_record import Dropped, Record
from router.report.log_sink import SinkThread
from router.report.observer import Fanout

MakeMessage = Callable[..., QueuedMessage]
MakeRecipient = Callable[..., QueuedRecipient]
MakeOutcome = Callable[..., Outcome]

PFLOGSUMM = Path("/usr/sbin/pflogsumm")
CLIENT = Client("192.0.2.10", 4711, "mail.example.net", "helo.example.net", "ESMTP")
UNKNOWN = Reply(550, "5.1.1", "User unknown")
BUSY = HopReply(451, "4.3.0", "try again", "new.example.edu[10.0.0.2]:25")


class Collected:
    """A log whose records are formatted at once."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.log = DeliveryLog(self.records.append, lambda: 1_795_309_324.0)

    def text(self) -> list[str]:
        return [f"{line.program}: {line.text}" for record in self.records for line in lines(record)]

    def dump(self, form: Format) -> bytes:
        return b"".join(map(form, self.records))


@pytest.fixture
def collected() -> Collected:
    return Collected()


def test_a_message_received(collected: Collected, message: MakeMessage, recipient: MakeRecipient) -> None:
    held = recipient("carol@example.edu", state=RecipientState.HELD)
    collected.log.received(message(), [recipient(), held])
    assert collected.text() == [
        "smtpd: 1A2B3C: client=mail.example.net[192.0.2.10]",
        "cleanup: 1A2B3C: message-id=<abc@example.net>",
        "qmgr: 1A2B3C: from=<bob@example.net>, size=4312, nrcpt=2 (queue active)",
        (
            "smtpd: 1A2B3C: hold: RCPT from mail.example.net[192.0.2.10]: <carol@example.edu>: "
            "Recipient address cutover window; from=<bob@example.net> to=<carol@example.edu> "
            "proto=ESMTPS helo=<helo.example.net>"
        ),
    ]


def test_a_message_of_our_own_has_no_client(collected: Collected, message: MakeMessage) -> None:
    collected.log.received(message("", client=Client("")), [])
    assert [line.partition(":")[0] for line in collected.text()] == ["cleanup", "qmgr"]
    assert "from=<>" in collected.text()[1]


def test_a_delivery(collected: Collected, message: MakeMessage, recipient: MakeRecipient, outcome: MakeOutcome) -> None:
    collected.log.outcome(message(), recipient(), outcome())
    collected.log.removed(message())
    assert collected.text() == [
        (
            "smtp: 1A2B3C: to=<alice@example.edu>, relay=new.example.edu[10.0.0.2]:25, delay=0.2, "
            "delays=0.05/0/0.01/0.14, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 77ABC) [route=zimbra]"
        ),
        "qmgr: 1A2B3C: removed",
    ]


@pytest.mark.parametrize(
    ("disposition", "status"),
    [
        (Disposition.DEFERRED, "status=deferred (host new.example.edu[10.0.0.2]:25 said: 451 4.3.0 try again; why)"),
        (Disposition.RETURNED, "status=bounced (host "),
        (Disposition.PARKED, "status=deferred (parked: host "),
        (Disposition.QUARANTINED, "status=deferred (quarantined: host "),
        (Disposition.FORWARDED, "status=sent (forwarded as "),
        (Disposition.REMOVED, "status=removed ("),
        (Disposition.MERGED, "status=merged ("),
        (Disposition.HELD, "hold: RCPT from "),
    ],
)
def test_each_disposition_has_its_line(
    collected: Collected,
    message: MakeMessage,
    recipient: MakeRecipient,
    outcome: MakeOutcome,
    disposition: Disposition,
    status: str,
) -> None:
    collected.log.outcome(message(), recipient(), outcome(disposition, BUSY, note="why"))
    [line] = collected.text()
    assert status in line


def test_a_delivery_in_doubt_says_so(
    collected: Collected, message: MakeMessage, recipient: MakeRecipient, outcome: MakeOutcome
) -> None:
    lost = HopReply(451, "4.4.2", "connection lost", said_by_hop=False)
    collected.log.outcome(message(), recipient(), outcome(Disposition.DEFERRED, lost, in_doubt=True))
    assert "relay=none" in collected.text()[0]
    assert "(451 4.4.2 connection lost; in doubt: no reply after the final dot)" in collected.text()[0]


def test_a_refusal(collected: Collected) -> None:
    collected.log.rejected(CLIENT, "RCPT", UNKNOWN, "bob@example.net", "nobody@example.edu")
    assert collected.text() == [
        (
            "smtpd: NOQUEUE: reject: RCPT from mail.example.net[192.0.2.10]: 550 5.1.1 <nobody@example.edu>: "
            "Recipient address rejected: User unknown; from=<bob@example.net> to=<nobody@example.edu> "
            "proto=ESMTP helo=<helo.example.net>"
        )
    ]


def script(log: DeliveryLog, message: MakeMessage, recipient: MakeRecipient, outcome: MakeOutcome) -> None:
    """Three messages: one sent twice, one deferred and then sent, one bounced and held; two refusals."""
    first, second, third = (message(queue_id=f"0001000000{n:02X}") for n in (1, 2, 3))
    alice, carol = recipient(), recipient("carol@example.edu", state=RecipientState.HELD)
    refused = HopReply(550, "5.1.1", "no (such), user", "new.example.edu[10.0.0.2]:25")
    log.received(first, [alice, recipient("dave@example.edu")])
    log.outcome(first, alice, outcome())
    log.outcome(first, recipient("dave@example.edu"), outcome())
    log.removed(first)
    log.received(second, [alice])
    log.outcome(second, alice, outcome(Disposition.DEFERRED, BUSY))
    log.outcome(second, alice, outcome(after=400.0))
    log.removed(second)
    log.received(third, [alice, carol])
    log.outcome(third, alice, outcome(Disposition.RETURNED, refused))
    log.rejected(CLIENT, "RCPT", UNKNOWN, "bob@example.net", "nobody@example.edu")
    log.rejected(CLIENT, "MAIL", Reply(451, "4.3.0", "Temporary failure"), "eve@example.net")


@pytest.mark.skipif(not PFLOGSUMM.exists(), reason="pflogsumm is not installed")
@pytest.mark.parametrize("journal", [False, True])
def test_pflogsumm_counts_right(
    collected: Collected, message: MakeMessage, recipient: MakeRecipient, outcome: MakeOutcome, journal: bool
) -> None:
    script(collected.log, message, recipient, outcome)
    text = collected.dump(make_format("postfix", "mx.example.edu", 4711, journal=journal)).decode()
    if journal:  # what journalctl -o short prints, through the sed of the documentation
        shown = re.sub(r"^<6>", "Nov 22 01:02:03 mx sluice[99]: ", text, flags=re.MULTILINE)
        text = re.sub(r" sluice\[[0-9]*\]: ", " ", shown)
    run = subprocess.run(
        [PFLOGSUMM, "--syslog_name=sluice"], input=text, capture_output=True, text=True, check=True, timeout=100
    )
    totals = {name: int(count) for count, name in re.findall(r"^ +(\d+)[ kmg]  (\w[\w ]*\w)", run.stdout, re.MULTILINE)}
    assert run.stderr == ""
    expected = {"received": 3, "delivered": 3, "deferred": 1, "bounced": 1, "rejected": 2, "held": 1, "forwarded": 0}
    assert {name: totals[name] for name in expected} == expected
    assert "User unknown" in run.stdout


def test_json_has_the_same_keys(
    collected: Collected, message: MakeMessage, recipient: MakeRecipient, outcome: MakeOutcome
) -> None:
    script(collected.log, message, recipient, outcome)
    collected.records.append(Dropped(1.0, 3))
    objects = [json.loads(line) for line in collected.dump(JsonFormat(4711, journal=False)).splitlines()]
    delivered = next(entry for entry in objects if entry["event"] == "delivered")
    assert delivered["to"] == "alice@example.edu"
    assert delivered["status"] == "sent"
    assert delivered["delays"] == [0.05, 0.0, 0.01, 0.14]
    assert {entry["event"] for entry in objects} == {
        "received", "delivered", "removed", "deferred", "returned", "reject", "lines-lost",
    }  # fmt: skip
    prefixed = collected.dump(JsonFormat(4711, journal=True)).splitlines()
    assert prefixed[0].startswith(b'<6>{"process":"sluice"')
    assert prefixed[-1].startswith(b"<4>{")


def test_stamps_are_those_of_syslog() -> None:
    line = PlainFormat("mx.example.edu", 7)(Dropped(1_795_309_323.0, 3)).decode()
    assert re.fullmatch(
        r"Nov 2[12] \d\d:\d\d:03 mx\.example\.edu sluice/log\[7\]: warning: 3 log lines were lost, "
        r"the sink was too slow\n",
        line,
    )


def test_the_journal_is_recognised() -> None:
    assert under_journal({"JOURNAL_STREAM": "8:1"})
    assert not under_journal({})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.004, "0"),
        (0.05, "0.05"),
        (0.149, "0.15"),
        (1.26, "1.3"),
        (9.96, "10"),
        (99.6, "100"),
        (86400, "86400"),
    ],
)
def test_times_look_like_those_of_postfix(value: float, text: str) -> None:
    assert seconds(value) == text


outside = st.text(st.one_of(st.characters(), st.sampled_from('\r\n\x1b\0\u2028\u2029\u202e\ud800<>"\\,;:[]() ')))


@given(outside, st.integers(1, 300))
def test_inv_80_escaped_text_is_one_printable_line(text: str, limit: int) -> None:
    for escape in (one_line, in_brackets, ascii_line, host_name):
        line = escape(text, limit)
        assert line.isprintable()
        assert len(line) <= max(limit, len("unknown"))
        assert len(line.splitlines()) <= 1
    assert ascii_line(text, limit).isascii()
    assert not set(in_brackets(text, limit)) & {"<", ">"}


@given(outside, outside)
def test_different_texts_stay_different(first: str, second: str) -> None:
    assert (first == second) == (one_line(first, 10**6) == one_line(second, 10**6))


@pytest.mark.parametrize("style", ["postfix", "json"])
@pytest.mark.parametrize("journal", [True, False])
@given(words=st.tuples(outside, outside, outside, outside, outside, outside), code=st.integers(0, 999))
def test_inv_80_every_record_is_whole_lines_whatever_was_said(
    style: str, journal: bool, words: tuple[str, ...], code: int
) -> None:
    helo, sender, to, message_id, text, note = words
    collected = Collected()
    client = Client(helo, 0, to, helo, text)
    message = QueuedMessage(1, "Q1", 0.0, Envelope(sender, client), 1, HeaderFacts(message_id))
    recipient = QueuedRecipient(1, Address(to, to, ""), state=RecipientState.HELD)
    hop = HopReply(code, text, text, to)
    collected.log.received(message, [recipient])
    expected = 4 if client.address else 3
    for disposition in Disposition:
        collected.log.outcome(message, recipient, Outcome(1, disposition, 1.0, hop, note, to, note=note, batch=text))
        expected += 1
    collected.log.rejected(client, note, Reply(code, text, text), sender, to)
    form = make_format("json" if style == "json" else "postfix", "mx", 1, journal=journal)
    written = collected.dump(form).decode()
    assert written.endswith("\n")
    found = written.split("\n")[:-1]
    assert len(found) == (len(collected.records) if style == "json" else expected + 1)
    assert all(line.isprintable() for line in found)


class Stalled(io.RawIOBase):
    """A sink that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.free = threading.Event()
        self.data = b""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.entered.set()
        assert self.free.wait(60)
        self.data += data
        return len(data)


def test_inv_80_a_stalled_sink_stops_nobody_and_losses_are_told(message: MakeMessage) -> None:
    sink = Stalled()
    thread = SinkThread(sink, PlainFormat("mx", 1), limit=10)
    log = DeliveryLog(thread.put, lambda: 1.0)
    thread.start()
    log.removed(message())
    assert sink.entered.wait(60)
    for _ in range(50):
        log.removed(message())
    assert thread.dropped == 40
    thread.close(0.01)
    sink.free.set()
    thread.close(60)
    written = sink.data.decode().splitlines()
    assert sum("removed" in line for line in written) == 11
    assert sum("40 log lines were lost" in line for line in written) == 1


def test_inv_80_a_full_disk_costs_lines_and_nothing_else(message: MakeMessage) -> None:
    with Path("/dev/full").open("wb", buffering=0) as sink:
        thread = SinkThread(sink, PlainFormat("mx", 1))
        thread.start()
        DeliveryLog(thread.put, lambda: 1.0).removed(message())
        thread.close(60)
    assert thread.dropped == 1


def test_a_line_that_cannot_be_made_does_not_end_the_log(message: MakeMessage, tmp_path: Path) -> None:
    def form(record: Record) -> bytes:
        if getattr(record, "queue_id", "") == "BAD":
            raise RuntimeError
        return PlainFormat("mx", 1)(record)

    with (tmp_path / "log").open("wb") as sink:
        thread = SinkThread(sink, form)
        thread.start()
        log = DeliveryLog(thread.put, lambda: 1.0)
        log.removed(message(queue_id="BAD"))
        log.removed(message())
        thread.close(60)
    text = (tmp_path / "log").read_text()
    assert "1A2B3C: removed" in text
    assert "1 log lines were lost" in text


def test_lines_stay_in_order_and_close_writes_all(message: MakeMessage) -> None:
    reader, writer = os.pipe()
    received: list[bytes] = []
    with os.fdopen(reader, "rb") as source, os.fdopen(writer, "wb") as sink:
        pump = threading.Thread(target=lambda: received.extend(source))
        pump.start()
        thread = SinkThread(sink, PlainFormat("mx", 1))
        thread.start()
        log = DeliveryLog(thread.put, lambda: 1.0)
        for number in range(2000):
            log.removed(message(queue_id=f"Q{number}"))
        thread.close(60)
        sink.close()
        pump.join(60)
    assert [line.split()[-2] for line in received] == [f"Q{number}:".encode() for number in range(2000)]
    assert thread.dropped == 0


def test_records_keep_no_bodies(
    collected: Collected, message: MakeMessage, recipient: MakeRecipient, outcome: MakeOutcome
) -> None:
    script(collected.log, message, recipient, outcome)
    for record in collected.records:
        assert record._fields
        assert not any(isinstance(value, QueuedMessage | bytes) for value in record)


def test_a_fan_out_tells_everybody(message: MakeMessage, recipient: MakeRecipient, outcome: MakeOutcome) -> None:
    first, second = Collected(), Collected()
    script(DeliveryLog(first.records.append, lambda: 1.0), message, recipient, outcome)
    both = Fanout(first.log, second.log)
    first.records.clear()
    both.received(message(), [recipient()])
    both.rejected(CLIENT, "RCPT", UNKNOWN, "a@b", "c@d")
    both.outcome(message(), recipient(), outcome())
    both.removed(message())
    assert len(first.records) == 4
    assert first.records == second.records
