"""The delivery history as text and as JSON. Pure; text from outside is escaped by `Output`."""

from typing import Any

from router.admin.cli.log_rows import remote_queue_id
from router.admin.cli.output import moment
from router.model.outcome import JournalRow


def as_json(row: JournalRow) -> dict[str, Any]:
    """One line of `log --json`."""
    return {
        "at": moment(row.at),
        "time": row.at,
        "number": row.number,
        "queue_id": row.queue_id,
        "recipient": row.recipient,
        "status": row.disposition,
        "route": row.lane,
        "mailbox": row.mailbox,
        "sender": row.sender,
        "size": row.size,
        "received_at": moment(row.received_at),
        "attempts": row.attempts,
        "reply": reply_of(row),
        "remote": row.remote,
        "remote_queue_id": remote_queue_id(row.reply),
        "message_id": row.message_id,
        "note": row.note,
        "batch": row.batch,
        "in_doubt": row.in_doubt,
    }


def as_line(row: JournalRow) -> str:
    """One line for people: when, which, to whom, what became of it, and what the next hop said."""
    words = [moment(row.at) or "", row.queue_id, f"to=<{row.recipient}>", f"from=<{row.sender}>", row.disposition]
    words += [f"route={row.lane}"] if row.lane else []
    if row.mailbox and row.mailbox != row.recipient.lower():
        words.append(f"mailbox={row.mailbox}")
    words += [f"relay={row.remote}"] if row.remote not in {"", "none"} else []
    words += [f"({reply})"] if (reply := reply_of(row)) else []
    remote = remote_queue_id(row.reply)
    words += [f"their-id={remote}"] if remote else []
    words += ["IN-DOUBT"] if row.in_doubt else []
    words += [f"[{row.note}]"] if row.note else []
    return " ".join(words)


def reply_of(row: JournalRow) -> str:
    """The reply; '' where nobody was asked (an operator's removal is journalled with the code 0)."""
    return "" if row.reply == "0" else row.reply
