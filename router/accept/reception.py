"""
What the accepting side asks of the rest of Sluice, and whom it tells about what happened.

`Reception` decides about recipients and keeps messages; the pipeline implements it. `Observer` is told of every
connection, acceptance and refusal; the reporting side implements it, this one does nothing.

On failure: anything `Reception` raises becomes the error's own reply, or 451 4.3.0 for an unknown error
(promise 5); whatever an observer raises is logged and changes no reply.
"""

from collections.abc import Sequence
from typing import Protocol

from router.model.address import Address
from router.model.envelope import Client, Envelope, HeaderFacts, NewRecipient
from router.model.reply import Reply
from router.ports import BodyWriter


class Reception(Protocol):
    """
    The receiving half of the pipeline.

    Its coroutines run outside of any task and are never cancelled: what needs a current task (`asyncio.timeout`)
    makes one.
    """

    def refuse_mail(self) -> Reply | None:
        """Why no message can be taken now (disk, spool), or None. Asked at every MAIL: no I/O, no waiting."""

    def pause(self) -> float:
        """Seconds that MAIL waits before it is taken, as space runs short. Asked at every MAIL: no I/O, no waiting."""

    async def recipient(self, envelope: Envelope, address: Address) -> Reply | NewRecipient:
        """
        Classify and route one RCPT; a Reply refuses it. `envelope.client.trusted` says who may relay.

        The recipient comes back without DSN parameters; the session adds them. Raises `SluiceError`.
        """

    async def message(
        self,
        envelope: Envelope,
        recipients: Sequence[NewRecipient],
        body: BodyWriter,
        header: HeaderFacts,
        received_at: float,
        *,
        company: int = 0,
    ) -> str:
        """
        Make the message durable and return its queue-id; only then is it acknowledged.

        Owns `body` from the call on, also when it fails: a failed commit is unknown, not undone, so only the spool
        can tell whether the body may go. Run to its end, whoever disconnects. `company`: how many clients are at work
        at this moment; where these are many, the message may wait some milliseconds to be committed with theirs.
        Raises `SluiceError`.
        """


class Observer:
    """Told synchronously, so every method must return at once. This one ignores everything."""

    def connected(self, client: Client) -> None:
        """A client was admitted (after PROXY)."""

    def disconnected(self, client: Client, reason: str) -> None:
        """It is gone. `reason` is '' after QUIT, else the last reply or why the connection was lost."""

    def rejected(self, client: Client, stage: str, reply: Reply, sender: str, recipient: str, helo: str) -> None:
        """
        Something was refused with `reply`; `stage` is CONNECT, the command's verb, or END-OF-MESSAGE.

        `sender` and `recipient` are sanitised; '' when not known at that stage.
        """

    def accepted(
        self,
        queue_id: str,
        envelope: Envelope,
        recipients: Sequence[NewRecipient],
        size: int,
        header: HeaderFacts,
    ) -> None:
        """A message is durable and is about to be acknowledged. `size` in octets as stored."""
