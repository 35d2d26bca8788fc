"""
The words for a person in a notice: what happened, to whose mail, and what to do.

Guarantees: nothing about stores, moves, holds or configuration; outside text is printable and within one line.
"""

from textwrap import wrap

from router.model.envelope import QueuedMessage
from router.report.escape import ascii_line, host_name, one_line
from router.report.notice import Notice, Origin, Told
from router.report.received import rfc5322_date

SUBJECTS = {
    Notice.FAILURE: "Undelivered Mail Returned to Sender",
    Notice.DELAY: "Delayed Mail (still being retried)",
    Notice.RELAYED: "Mail Relayed (no further reports)",
    Notice.EXPANDED: "Mail Forwarded (no further reports)",
    Notice.SUCCESS: "Successful Mail Delivery Report",
}

_SENTENCES = {
    Notice.FAILURE: "Your message could not be delivered to the recipients below. It will not be tried again.",
    Notice.DELAY: (
        "Your message has not been delivered yet to the recipients below. "
        "YOU DO NOT NEED TO SEND IT AGAIN: it is kept here and will be tried again."
    ),
    Notice.RELAYED: (
        "Your message was handed on for the recipients below, to a mail system that does not report deliveries. "
        "You will hear nothing more about it unless it fails."
    ),
    Notice.EXPANDED: (
        "Your message was forwarded to several addresses for the recipients below. "
        "You will hear nothing more about it unless it fails."
    ),
    Notice.SUCCESS: "Your message was delivered to the recipients below.",
}
_SHOWN = 200
"""Recipients listed for a person; the fields for programs list all."""


def explanation(message: QueuedMessage, told: tuple[Told, ...], origin: Origin, *, utf8: bool) -> str:
    """The first part of a notice, lines ended by CRLF."""
    host = host_name(origin.hostname)
    lines = [f"This is the mail system at host {host}.", ""]
    for kind in dict.fromkeys(item.notice for item in told):
        items = [item for item in told if item.notice is kind]
        lines += [*wrap(_SENTENCES[kind], 76), ""]
        for item in items[:_SHOWN]:
            lines += _entry(item, utf8=utf8)
        if len(items) > _SHOWN:
            lines += [f"(and {len(items) - _SHOWN} more)", ""]
    lines += [f"The message arrived here on {rfc5322_date(message.received_at)}", f"with queue-id {message.queue_id}."]
    lines += [f"For help, write to postmaster@{host} and include this report."]
    return "".join(f"{line}\r\n" for line in lines)


def _entry(item: Told, *, utf8: bool) -> list[str]:
    clean = one_line if utf8 else ascii_line
    words = f"{_host(item)}{clean(str(item.reply), 500)}"
    lines = [f"<{clean(item.recipient.address.wire, 400)}>:", *(f"    {line}" for line in wrap(words, 72))]
    if item.notice is Notice.DELAY and item.retry_until is not None:
        lines.append(f"    It will be tried until {rfc5322_date(item.retry_until)}.")
    return [*lines, ""]


def _host(item: Told) -> str:
    if not item.reply.said_by_hop or item.reply.remote == "none":
        return ""
    return f"host {host_name(item.reply.remote.partition('[')[0])} said: "
