"""Model values as the stations would make them."""

from collections.abc import Callable

import pytest

from router.model.address import parse_address
from router.model.envelope import Client, Envelope, HeaderFacts, QueuedMessage, QueuedRecipient, RecipientState
from router.model.outcome import Disposition, Outcome
from router.model.reply import HopReply

CLIENT = Client("192.0.2.10", 4711, "mail.example.net", "helo.example.net", "ESMTPS")
RECEIVED_AT = 1_795_309_323.0  # Sun, 22 Nov 2026 01:02:03 UTC

MakeMessage = Callable[..., QueuedMessage]
MakeRecipient = Callable[..., QueuedRecipient]
MakeOutcome = Callable[..., Outcome]


@pytest.fixture
def message() -> MakeMessage:
    def make(
        sender: str = "bob@example.net",
        *,
        client: Client = CLIENT,
        queue_id: str = "1A2B3C",
        size: int = 4312,
        message_id: str = "<abc@example.net>",
        smtputf8: bool = False,
        ret: str = "",
        envid: str = "",
        auto_submitted: bool = False,
    ) -> QueuedMessage:
        envelope = Envelope(sender, client, smtputf8=smtputf8, ret=ret, envid=envid)
        facts = HeaderFacts(message_id=message_id, auto_submitted=auto_submitted)
        return QueuedMessage(1, queue_id, RECEIVED_AT, envelope, size, facts)

    return make


@pytest.fixture
def recipient() -> MakeRecipient:
    def make(
        address: str = "alice@example.edu",
        *,
        notify: str = "",
        orcpt: str = "",
        state: RecipientState = RecipientState.QUEUED,
    ) -> QueuedRecipient:
        return QueuedRecipient(7, parse_address(address), notify, orcpt, state)

    return make


@pytest.fixture
def outcome() -> MakeOutcome:
    def make(
        disposition: Disposition = Disposition.DELIVERED,
        reply: HopReply | None = None,
        *,
        after: float = 0.2,
        note: str = "",
        lane: str = "zimbra",
        in_doubt: bool = False,
    ) -> Outcome:
        said = reply or HopReply(250, "2.0.0", "Ok: queued as 77ABC", "new.example.edu[10.0.0.2]:25")
        return Outcome(
            7,
            disposition,
            RECEIVED_AT + after,
            said,
            lane,
            delays=(0.05, 0.0, 0.01, 0.14),
            note=note,
            in_doubt=in_doubt,
        )

    return make
