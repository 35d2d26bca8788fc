"""
Records of the delivery log as text: the Postfix-shaped lines that pflogsumm and logwatch read.

    PROGRAM[PID]: QUEUE-ID: key=value, …

Guarantees: one printable line per fact whatever a client or next hop said; the order of the fields is the one that
pflogsumm asks for (`to=, relay=, delay=, delays=, dsn=, status=`), and what follows `status=` is for people.
Never fails.
"""

from collections.abc import Sequence
from typing import NamedTuple

from router.model.envelope import Client
from router.model.outcome import Disposition, Outcome
from router.model.reply import HopReply, Reply
from router.report.escape import host_name, in_brackets, one_line
from router.report.log_record import Accepted, Dropped, Record, Rejected, Removed, Settled

STATUS = {
    Disposition.DELIVERED: "sent",
    Disposition.FORWARDED: "sent",
    Disposition.RETURNED: "bounced",
    Disposition.DEFERRED: "deferred",
    Disposition.PARKED: "deferred",
    Disposition.QUARANTINED: "deferred",
    Disposition.HELD: "held",
    Disposition.REMOVED: "removed",
    Disposition.MERGED: "merged",
}
"""The word after `status=`. Held recipients have a `hold:` line instead, which pflogsumm counts as held."""

_BLAME = {
    "CONNECT": "Client host rejected: ",
    "HELO": "Helo command rejected: ",
    "EHLO": "Helo command rejected: ",
    "MAIL": "Sender address rejected: ",
    "RCPT": "Recipient address rejected: ",
}
_PREFACE = {
    Disposition.FORWARDED: "forwarded as ",
    Disposition.PARKED: "parked: ",
    Disposition.QUARANTINED: "quarantined: ",
}
_REPLY = 500
_ADDRESS = 400


class Line(NamedTuple):
    """One line without stamp and process id. `severity` is that of syslog: 6 information, 4 warning."""

    at: float
    program: str
    text: str
    severity: int = 6


def lines(record: Record) -> Sequence[Line]:
    """The lines of one record, in the order in which Postfix would write them."""
    match record:
        case Settled():
            return (_settled(record),)
        case Accepted():
            return _accepted(record)
        case Removed():
            return (Line(record.at, "qmgr", f"{record.queue_id}: removed"),)
        case Rejected():
            return (_rejected(record),)
        case Dropped():
            text = f"warning: {record.lost} log lines were lost, the sink was too slow"
            return (Line(record.at, "log", text, 4),)


def _accepted(record: Accepted) -> list[Line]:
    at, queue_id, client = record.at, record.queue_id, record.client
    sender = in_brackets(record.sender, _ADDRESS)
    active = f"{queue_id}: from=<{sender}>, size={record.size}, nrcpt={record.recipients} (queue active)"
    found = [Line(at, "smtpd", f"{queue_id}: client={_peer(client)}")] if client.address else []
    found.append(Line(at, "cleanup", f"{queue_id}: message-id={one_line(record.message_id)}"))
    found.append(Line(at, "qmgr", active))
    found += [_hold(at, queue_id, client, record.sender, recipient, "") for recipient in record.held]
    return found


def _rejected(record: Rejected) -> Line:
    stage = one_line(record.stage.upper(), 20)
    subject = {"RCPT": record.recipient, "MAIL": record.sender, "HELO": record.helo, "EHLO": record.helo}.get(stage, "")
    named = f"<{in_brackets(subject, _ADDRESS)}>: " if subject else ""
    reply = record.reply
    code = f"{reply.code} {one_line(reply.enhanced, 11)} " if reply.enhanced else f"{reply.code} "
    words = f"{code}{named}{_BLAME.get(stage, '')}{one_line(reply.text, _REPLY)}"
    ends = _ends(record.client, record.sender, record.recipient, record.helo)
    return Line(record.at, "smtpd", f"NOQUEUE: reject: {stage} from {_peer(record.client)}: {words}; {ends}")


def _settled(record: Settled) -> Line:
    outcome = record.outcome
    if outcome.disposition is Disposition.HELD:
        note = one_line(outcome.note)
        return _hold(outcome.at, record.queue_id, record.client, record.sender, record.recipient, note)
    a, b, c, d = outcome.delays
    delay = max(outcome.at - record.received_at, 0.0)
    text = (
        f"{record.queue_id}: to=<{in_brackets(record.recipient, _ADDRESS)}>, relay={relay(outcome.reply)}, "
        f"delay={seconds(delay)}, delays={seconds(a)}/{seconds(b)}/{seconds(c)}/{seconds(d)}, "
        f"dsn={dsn(outcome.reply)}, status={STATUS[outcome.disposition]} ({reason(outcome)}){_context(outcome)}"
    )
    return Line(outcome.at, "smtp", text)


def _hold(at: float, queue_id: str, client: Client, sender: str, recipient: str, note: str) -> Line:
    named = f"<{in_brackets(recipient, _ADDRESS)}>"
    why = f" ({note})" if note else ""
    text = f"{queue_id}: hold: RCPT from {_peer(client)}: {named}: Recipient address cutover window{why}; "
    return Line(at, "smtpd", text + _ends(client, sender, recipient, client.helo))


def _ends(client: Client, sender: str, recipient: str, helo: str) -> str:
    to = f" to=<{in_brackets(recipient, _ADDRESS)}>" if recipient else ""
    greeting = in_brackets(helo or client.helo)
    return f"from=<{in_brackets(sender, _ADDRESS)}>{to} proto={one_line(client.protocol, 20)} helo=<{greeting}>"


def _peer(client: Client) -> str:
    """`name[address]` without characters that would end it for a reader of the log."""
    if not client.address:
        return "localhost[local]"
    name = host_name(client.name).replace("[", "?").replace("]", "?")
    return f"{name}[{host_name(client.address)}]"


def relay(reply: HopReply) -> str:
    """`host[address]:port` or `none`; log readers end it at a comma."""
    return one_line(reply.remote).replace(",", "?").replace(" ", "?") or "none"


def dsn(reply: HopReply | Reply) -> str:
    """The enhanced code, or a general one of the reply's class; a reply of no class counts as temporary."""
    if reply.enhanced:
        return one_line(reply.enhanced, 11)
    family = reply.code // 100
    return f"{family if family in (2, 4, 5) else 4}.0.0"


def reason(outcome: Outcome) -> str:
    """What stands in brackets after the status: the hop's words, or ours."""
    if outcome.disposition is Disposition.FORWARDED and outcome.note.startswith("as "):
        return f"forwarded {one_line(outcome.note, _REPLY)}"
    reply = outcome.reply
    said = one_line(str(reply), _REPLY)
    if reply.said_by_hop and reply.remote != "none" and not reply.positive:
        said = f"host {relay(reply)} said: {said}"
    said = _PREFACE.get(outcome.disposition, "") + said
    if not (outcome.note or outcome.in_doubt):
        return said
    parts = [said]
    if outcome.note:
        parts.append(one_line(outcome.note))
    if outcome.in_doubt:
        parts.append("in doubt: no reply after the final dot")
    return "; ".join(parts)


def _context(outcome: Outcome) -> str:
    pairs = (("route", outcome.lane), ("mailbox", outcome.mailbox), ("batch", outcome.batch))
    words = " ".join([f"{key}={one_line(value).replace(' ', '?')}" for key, value in pairs if value])
    return f" [{words}]" if words else ""


def seconds(value: float) -> str:
    """
    A time as Postfix writes it: two significant digits below ten seconds, whole seconds above.

    >>> [seconds(x) for x in (0.001, 0.0512, 3.14, 99.6)]
    ['0', '0.05', '3.1', '100']
    """
    if value < 0.005:
        return "0"
    return f"{value:.0f}" if value >= 9.95 else f"{round(value, 2):.2g}"
