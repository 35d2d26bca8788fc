"""
What the load generator sends: messages that can be told apart, planned from a seed.

Guarantees: every message has a tag that no other message of the run has; the same plan and seed give the same
messages. Nothing leaves loopback by itself: the plan names the addresses.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from hashlib import sha256

from router.ledger.arrival import TAG_FIELD

_LINE = b"The quick brown fox jumps over the lazy dog, and the mail goes through.\r\n"
_DOTTED = b".a line that begins with a dot\r\n..and one with two\r\n.\r\n"


@dataclass(frozen=True, slots=True)
class Plan:
    """
    The traffic of one run. Sizes are octets, the rate messages a second over all connections (0: as fast as it goes).

    A message takes one of `recipients_per_message` and one of `sizes`, drawn with the seed.
    """

    senders: Sequence[str]
    recipients: Sequence[str]
    recipients_per_message: Sequence[int] = (1, 1, 1, 2, 3)
    sizes: Sequence[int] = (800, 2_000, 5_000)
    rate: float = 0.0
    connections: int = 4
    messages_per_connection: int = 50
    seed: int = 1
    run: str = "run"
    """Prefix of the tags; letters, digits and hyphens."""
    helo: str = "load.example.net"


@dataclass(frozen=True, slots=True)
class Message:
    """One message, its content in canonical form (CRLF, not dot-stuffed)."""

    tag: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes

    @property
    def digest(self) -> str:
        return sha256(self.content).hexdigest()


def messages(plan: Plan) -> Iterator[Message]:
    """An endless stream; each message asks for distinct recipients."""
    draw = random.Random(plan.seed)  # noqa: S311 - test traffic, nothing secret
    number = 0
    while True:
        number += 1
        tag = f"{plan.run}-{number}"
        count = min(draw.choice(plan.recipients_per_message), len(plan.recipients))
        recipients = tuple(draw.sample(plan.recipients, count))
        sender = draw.choice(plan.senders)
        yield Message(tag, sender, recipients, compose(tag, sender, recipients, draw.choice(plan.sizes)))


def compose(tag: str, sender: str, recipients: Sequence[str], size: int) -> bytes:
    """A message of about `size` octets with lines that need dot-stuffing."""
    head = (
        f"{TAG_FIELD}: {tag}\r\n"
        f"Message-ID: {message_id(tag)}\r\n"
        f"Date: {formatdate()}\r\n"
        f"From: <{sender or 'nobody@example.net'}>\r\n"
        f"To: {', '.join(f'<{recipient}>' for recipient in recipients[:10])}\r\n"
        f"Subject: ledger {tag}\r\n\r\n"
    ).encode()
    missing = max(size - len(head) - len(_DOTTED), 0)
    return head + _DOTTED + _LINE * (missing // len(_LINE))


def message_id(tag: str) -> str:
    """The Message-ID of the message with this tag."""
    return f"<{tag}@ledger.invalid>"


def tag_of(identifier: str) -> str:
    """The tag in a Message-ID of ours, or '': this is how rows of a journal are joined to the ledger."""
    inner = identifier.strip().removeprefix("<").removesuffix(">")
    tag, at, domain = inner.partition("@")
    return tag if at and domain == "ledger.invalid" else ""
