"""
The commands of a session up to DATA: HELO, EHLO, MAIL, RCPT, and those that do little.

Guarantees: one reply for each command, in order; a refused command changes nothing; what is refused is told to the
observer once. On failure: `Refused` or another `SluiceError` (its reply), `HangUp` (the end); the session's loop
turns anything else into 451.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import ParamSpec

from router.accept import replies
from router.accept.connection import Connection
from router.accept.origin import XCLIENT_KEYWORD, Origin
from router.accept.parameters import MailCommand, parse_mail, parse_rcpt
from router.accept.policy import UNKNOWN, Peer
from router.accept.replies import HangUp, Refused
from router.accept.sanitise import helo_name, printable
from router.accept.services import Endpoint, Roster, Services
from router.errors import INTERNAL, SluiceError
from router.model.address import Address
from router.model.envelope import Client, Envelope, NewRecipient
from router.model.reply import Reply

_log = logging.getLogger(__name__)

P = ParamSpec("P")

_OVERSHOOT = 1000
"""Recipients refused for being too many before the connection ends (a client that does not look at replies)."""
_MAX_SHOWN = 320
_LOOK_UP = 0.25
"""Seconds: so soon a client that is made to wait is seen to have gone, and told that we go."""
_SENDER_OK, _RECIPIENT_OK = replies.encode(replies.SENDER_OK), replies.encode(replies.RECIPIENT_OK)


@dataclass(slots=True)
class Transaction:
    """A mail transaction under way. Recipients by their spelling: the same one twice is spooled once."""

    envelope: Envelope
    recipients: dict[str, NewRecipient] = field(default_factory=dict)
    refused: bool = False
    deferred: bool = False
    repeated: int = 0
    overshoot: int = 0

    def note_refusal(self, reply: Reply) -> None:
        if reply.code < 500:
            self.deferred = True
        else:
            self.refused = True


class Commands(Connection):
    """State of the dialogue and the simple commands."""

    def __init__(self, loop: asyncio.AbstractEventLoop, services: Services, endpoint: Endpoint, roster: Roster) -> None:
        super().__init__(loop)
        self._services = services
        self._endpoint = endpoint
        self._roster = roster
        self._peer = UNKNOWN
        """The host at the other end of the TCP connection: decides who may say XCLIENT."""
        self._source = UNKNOWN
        """The host that the mail comes from (after PROXY or XCLIENT): decides about trust and limits."""
        self._origin = Origin("")
        self._client = Client("unknown")
        self._tls = ""
        self._extended = False
        self._greeted = False
        self._stage = "CONNECT"
        self._about = ""
        """The address that the command under way is about, once it is known."""
        self._path = b""
        """The argument that the address is in, until then."""
        self._errors = 0
        self._junk = 0
        self._transaction: Transaction | None = None

    # What the session needs to know of its client.

    def _arrive(self, origin: Origin, source: Peer) -> None:
        """The client is `origin`; it has not said HELO."""
        self._origin = origin
        self._source = source
        self._transaction = None
        self._set_client(origin.helo)

    def _set_client(self, helo: str, protocol: str = "SMTP") -> None:
        self._client = Client(
            address=self._source.address or "unknown",
            port=self._origin.port,
            name=self._origin.name,
            helo=helo,
            protocol=protocol,
            trusted=self._source.trusted,
            tls=self._tls,
        )
        self._greeted = False

    def _reject(self, reply: Reply) -> None:
        """Answer with a refusal, tell the observer, and count it against the client when it is permanent."""
        self._say(reply)
        self._report(reply)
        if self._transaction is not None and self._stage == "RCPT":
            self._transaction.note_refusal(reply)
        if reply.code >= 500:
            self._errors += 1

    def _report(self, reply: Reply) -> None:
        sender = self._transaction.envelope.sender if self._transaction else ""
        about = self._about or _path_text(self._path)
        recipient = about if self._stage == "RCPT" else ""
        self._tell(
            self._services.observer.rejected,
            self._client,
            self._stage,
            reply,
            printable(about if self._stage == "MAIL" else sender, _MAX_SHOWN),
            printable(recipient, _MAX_SHOWN),
            self._client.helo,
        )

    def _tell(self, method: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Tell the observer; whatever goes wrong with it is no business of the client's."""
        try:
            method(*args, **kwargs)
        except Exception:  # noqa: BLE001 - another station's code, and the mail must go on
            _log.exception("the observer failed")

    # Commands. Each is given its argument without surrounding white space; those that may have to wait are coroutines.

    def _helo(self, argument: bytes) -> None:
        self._begin(argument, extended=False)
        self._say(replies.hello(self._services.hostname))

    def _ehlo(self, argument: bytes) -> None:
        self._begin(argument, extended=True)
        self._say_bytes(replies.extended_hello(self._services.hostname, self._keywords()))

    def _begin(self, argument: bytes, *, extended: bool) -> None:
        self._count_junk()
        helo = helo_name(argument)
        if not helo:
            raise Refused(replies.BAD_ARGUMENT)
        self._in_step()
        self._transaction = None
        self._extended = extended
        protocol = self._origin.protocol or ("ESMTP" if extended else "SMTP")
        self._set_client(self._origin.helo or helo, protocol + "S" if self._tls else protocol)
        self._greeted = True

    def _keywords(self) -> tuple[str, ...]:
        services = self._services
        words = ["PIPELINING", f"SIZE {services.message_size_limit}", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN"]
        if services.smtputf8:
            words.append("SMTPUTF8")
        if self._endpoint.tls is not None and not self._tls:
            words.append("STARTTLS")
        if self._peer.relay:
            words.append(XCLIENT_KEYWORD)
        return tuple(words)

    def _in_step(self) -> None:
        """After a command whose reply changes what may follow, nothing may have been sent ahead (RFC 2920 3.1)."""
        if self._inbox.pending:
            raise HangUp(replies.OUT_OF_STEP)

    def _mail(self, argument: bytes) -> Coroutine[None, None, None] | None:
        if not self._greeted or self._transaction is not None:
            raise Refused(replies.BAD_SEQUENCE)
        self._path = argument
        command = parse_mail(argument, utf8_offered=self._services.smtputf8)
        if command.size > self._services.message_size_limit:
            raise Refused(replies.TOO_BIG)
        seconds = self._services.reception.pause()
        if seconds > 0:
            return self._mail_later(command, seconds)
        self._begin_transaction(command)
        return None

    async def _mail_later(self, command: MailCommand, seconds: float) -> None:
        """Space runs short: who would be refused soon is slowed down first. What is refused now need not wait."""
        self._require_space()
        await self._flush()
        end = self.loop.time() + seconds
        while (left := end - self.loop.time()) > 0:
            await asyncio.sleep(min(left, _LOOK_UP))
            self._require_company()
        self._begin_transaction(command)

    def _require_company(self) -> None:
        """Raises `HangUp` when the client has gone, or we go. One that has only ended its side still hears us."""
        failure = self._inbox.failure
        if failure is not None and (self.transport is None or failure.reply is not None):
            raise failure

    def _require_space(self) -> None:
        refusal = self._services.reception.refuse_mail()
        if refusal is not None:
            raise Refused(refusal)

    def _begin_transaction(self, command: MailCommand) -> None:
        self._require_space()
        self._transaction = Transaction(self._envelope(command))
        self._say_bytes(_SENDER_OK)

    def _envelope(self, command: MailCommand) -> Envelope:
        client = self._client
        if command.smtputf8:
            client = replace(client, protocol="UTF8SMTPS" if self._tls else "UTF8SMTP")
        return Envelope(
            sender=command.path.wire if command.path else "",
            client=client,
            body=command.body,
            smtputf8=command.smtputf8,
            ret=command.ret,
            envid=command.envid,
        )

    async def _rcpt(self, argument: bytes) -> None:
        transaction = self._transaction
        if transaction is None:
            raise Refused(replies.BAD_SEQUENCE)
        self._path = argument
        command = parse_rcpt(argument, smtputf8=transaction.envelope.smtputf8)
        wire = self._about = command.address.wire
        if wire in transaction.recipients:
            self._repeated(transaction)
            return
        if len(transaction.recipients) >= self._services.limits.recipients:
            self._overflow(transaction)
            return
        answer = await self._judge(transaction.envelope, command.address)
        if isinstance(answer, Reply):
            if answer.code == 421:
                raise HangUp(answer)
            self._reject(INTERNAL if answer.positive else answer)
            return
        if command.notify or command.orcpt:
            answer = replace(answer, notify=command.notify, orcpt=command.orcpt)
        transaction.recipients[wire] = answer
        self._say_bytes(_RECIPIENT_OK)

    def _repeated(self, transaction: Transaction) -> None:
        """The same recipient again costs nothing but time, and of that there is an end, too."""
        transaction.repeated += 1
        if transaction.repeated > self._services.limits.recipients:
            self._overflow(transaction)
        else:
            self._say_bytes(_RECIPIENT_OK)

    def _overflow(self, transaction: Transaction) -> None:
        transaction.overshoot += 1
        if transaction.overshoot > _OVERSHOOT:
            raise HangUp(replies.TOO_MANY_ERRORS)
        self._reject(replies.TOO_MANY_RECIPIENTS)

    async def _judge(self, envelope: Envelope, address: Address) -> Reply | NewRecipient:
        """The filter's refusal, or what the pipeline says. Raises what it raises."""
        if self._services.filter.active:
            refusal = await self._services.filter.rcpt(envelope, address)
            if refusal is not None:
                return refusal
        return await self._services.reception.recipient(envelope, address)

    def _rset(self, argument: bytes) -> None:
        self._count_junk()
        if argument:
            raise Refused(replies.BAD_ARGUMENT)
        self._transaction = None
        self._say(replies.OK)

    def _noop(self, argument: bytes) -> None:  # noqa: ARG002 - ignored, RFC 5321 4.1.1.9
        self._count_junk()
        self._say(replies.OK)

    def _vrfy(self, argument: bytes) -> None:
        self._count_junk()
        if not argument:
            raise Refused(replies.BAD_ARGUMENT)
        self._say(replies.VRFY)

    def _help(self, argument: bytes) -> None:  # noqa: ARG002 - there is one help for everything
        self._count_junk()
        self._say(replies.HELP)

    def _not_implemented(self, argument: bytes) -> None:  # noqa: ARG002 - whatever it is
        self._count_junk()
        raise Refused(replies.NOT_IMPLEMENTED)

    def _quit(self, argument: bytes) -> None:
        if argument:
            raise Refused(replies.BAD_ARGUMENT)
        raise HangUp(replies.GOODBYE)

    def _count_junk(self) -> None:
        """Commands that move no mail are free up to a number, then errors (RX12)."""
        self._junk += 1
        if self._junk > self._services.limits.junk_commands and not self._source.exempt:
            self._errors += 1


def _path_text(argument: bytes) -> str:
    """What the argument of MAIL or RCPT seems to be about, for the observer, before it is parsed."""
    return argument.partition(b":")[2].decode("utf-8", "replace").strip().removeprefix("<").partition(">")[0]


def report_failure(what: str, error: Exception) -> None:
    """One line for a failure we foresaw, a traceback for one we did not."""
    if isinstance(error, SluiceError):
        _log.warning("%s failed: %s (%s)", what, error.private or error.reply, type(error).__name__)
    else:
        _log.error("%s failed", what, exc_info=error)
