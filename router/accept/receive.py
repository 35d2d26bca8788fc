"""
DATA: from 354 to the reply after the final dot.

Guarantees: the message streams in blocks to its body and is never whole in memory; a message that is going to be
refused is read to its end, within a bound, so that the client hears why; the commit is finished even when the client
leaves (RX17: a session is told of that, never cancelled); 250 is said only after it (promise 1).

On failure: of the body or the commit, the error's reply after the dot; of the client (silence, too slow, gone before
the dot), `HangUp`, and the body is discarded.
"""

from router.accept import replies
from router.accept.commands import Commands, Transaction, report_failure
from router.accept.data_reader import DataDecoder
from router.accept.header_scan import HeaderScan
from router.accept.replies import HangUp, Refused
from router.errors import reply_for
from router.model.envelope import HeaderFacts
from router.model.reply import Reply
from router.ports import BodyWriter

_RATE_GRACE = 60.0
"""Seconds before the average rate counts."""


class DataCommand(Commands):
    """Adds DATA."""

    _receiving = False

    async def _data(self, argument: bytes) -> None:
        transaction = self._transaction
        if transaction is None:
            raise Refused(replies.BAD_SEQUENCE)
        if argument:
            raise Refused(replies.BAD_ARGUMENT)
        if not transaction.recipients:
            raise Refused(_without_recipients(transaction))
        self._in_step()
        body = self._services.open_body()
        scan = HeaderScan()
        try:
            self._receiving = True
            self._say(replies.START_DATA)
            await self._flush()
            refusal = await self._receive(body, scan)
            self._stage = "END-OF-MESSAGE"
            refusal = refusal or await self._inspect(transaction, scan.facts())
        except BaseException:
            await body.discard()
            raise
        finally:
            self._receiving = False
        if refusal is not None:
            await body.discard()
            self._reject(refusal)
        else:
            await self._commit(transaction, body, scan.facts())
        self._transaction = None

    async def _receive(self, body: BodyWriter, scan: HeaderScan) -> Reply | None:
        """Read through the final dot into `body`; why the message is refused, or None."""
        services, inbox, loop = self._services, self._inbox, self.loop
        decoder = DataDecoder(normalise=self._source.trusted)
        refusal: Reply | None = None
        received, started = 0, loop.time()
        while not decoder.finished:
            if not inbox.pending:
                self._set_deadline(self._silence_ends(received, started))
                await inbox.wait()
                continue
            block = inbox.take()
            received += len(block)
            content = decoder.feed(block)
            if refusal is None:
                refusal = self._objection(decoder, body.size + len(content))
                if refusal is None:
                    before = loop.time()
                    refusal = await self._keep(content, body, scan)
                    started += loop.time() - before  # our own slowness is not the client's
                if refusal is not None:
                    await body.discard()
            elif received > services.message_size_limit + services.drain_limit:
                raise HangUp(replies.DATA_OVERRUN)
        self._set_deadline_off()
        inbox.put_back(decoder.leftover)
        return refusal

    def _silence_ends(self, received: int, started: float) -> float:
        """
        When the client is cut off if nothing more comes.

        That is after `data_timeout` seconds of silence (RX11: not after so much in all), or, for strangers, when
        its average since the start of DATA falls below the minimum rate. Both come sooner under stress.
        """
        limits, admission = self._services.limits, self._services.admission
        silence = self.loop.time() + admission.shortened(self._source, limits.data_timeout)
        if self._source.exempt:
            return silence
        grace = admission.shortened(self._source, _RATE_GRACE)
        return min(silence, started + max(grace, received / max(1, limits.minimum_rate)))

    def _objection(self, decoder: DataDecoder, size: int) -> Reply | None:
        if decoder.stray and not self._source.trusted:
            return replies.BARE_LINE_BREAK
        if size > self._services.message_size_limit:
            return replies.TOO_BIG
        return None

    async def _keep(self, content: bytes, body: BodyWriter, scan: HeaderScan) -> Reply | None:
        if not content:
            return None
        if not scan.done:
            scan.feed(content)
        self._set_deadline_off()
        if body.size:
            self._inbox.pause()  # a large message is in memory once: here or, while a thread writes it, in the body
        try:
            await body.write(content)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is temporary (RX1)
            report_failure("writing a body", error)
            return reply_for(error)
        return None

    async def _inspect(self, transaction: Transaction, header: HeaderFacts) -> Reply | None:
        if header.received_count > self._services.limits.hop_count:
            return replies.HOP_COUNT
        if self._services.filter.active:
            return await self._services.filter.data(transaction.envelope, header)
        return None

    async def _commit(self, transaction: Transaction, body: BodyWriter, header: HeaderFacts) -> None:
        services = self._services
        recipients = tuple(transaction.recipients.values())
        size = body.size
        try:
            queue_id = await services.reception.message(
                transaction.envelope,
                recipients,
                body,
                header,
                services.clock.wall(),
                company=self._roster.at_work(self.loop.time()),
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, it is temporary (RX1)
            report_failure("keeping a message", error)
            self._reject(reply_for(error))
            return
        self._say_bytes(replies.queued(queue_id))
        self._errors = self._junk = 0
        self._tell(services.observer.accepted, queue_id, transaction.envelope, recipients, size, header)
        # At once, whatever commands follow: every moment in which a client does not know is a possible duplicate.
        await self._flush()


def _without_recipients(transaction: Transaction) -> Reply:
    """A pipelining client says DATA whatever became of its RCPTs; a temporary refusal stays temporary."""
    if transaction.deferred:
        return replies.NO_RECIPIENTS_NOW
    return replies.NO_VALID_RECIPIENTS if transaction.refused else replies.BAD_SEQUENCE
