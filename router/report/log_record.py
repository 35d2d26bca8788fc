"""
What the delivery log knows of an event: small values without message bodies, so that a full log queue stays small.

Times are wall-clock seconds. Text from outside is still raw here; `log_line` makes it safe. Tuples, because the event
loop makes three of them for each message, and a frozen dataclass takes three times as long.
"""

from typing import NamedTuple

from router.model.envelope import Client
from router.model.outcome import Outcome
from router.model.reply import Reply


class Accepted(NamedTuple):
    """A message was accepted: `held` are those recipients that start on hold."""

    at: float
    queue_id: str
    client: Client
    message_id: str
    sender: str
    size: int
    recipients: int
    held: tuple[str, ...]


class Rejected(NamedTuple):
    """A command was refused; `stage` is CONNECT, HELO, MAIL, RCPT, DATA or END-OF-MESSAGE."""

    at: float
    client: Client
    stage: str
    reply: Reply
    sender: str
    recipient: str
    helo: str


class Settled(NamedTuple):
    """A verdict about one recipient was committed."""

    queue_id: str
    client: Client
    sender: str
    recipient: str
    received_at: float
    outcome: Outcome


class Removed(NamedTuple):
    """The last recipient of a message is settled and the message is gone."""

    at: float
    queue_id: str


class Dropped(NamedTuple):
    """Lines that were not written because the sink was stalled or full."""

    at: float
    lost: int


Record = Accepted | Rejected | Settled | Removed | Dropped
