"""
One message over one open session: MAIL, RCPT, DATA, the final dot, and a verdict for each recipient.

Guarantees
- Each result is recorded when it arrives; what breaks later does not take it back (TX8).
- The gate is asked synchronously right before the octets that contain the final dot are written (barrier rule 6).
- After the dot, whatever is no definite reply is in doubt, never a failure and never a success (TX9).
- Commands are pipelined when offered, in groups; replies are read as they come, so neither side can block the other.
- LMTP: one reply per accepted recipient after the dot, each for its own recipient (RFC 2033 4.2).

On failure of the session the remaining recipients get a temporary verdict in our words. What `parcel.blocks` raises
passes through after the connection was aborted: nothing was delivered then.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from router.deliver.attempt import Attempt, Interrupted
from router.deliver.commands import UnsafeText, mail_line, rcpt_line
from router.deliver.connection import Connection, Timeouts
from router.deliver.data_stream import END, frame, stream
from router.deliver.protocol import Broken, garbled
from router.deliver.replies import RawReply, hop_reply, own_reply, quoted, recipient_refusal
from router.errors import BodyDamaged
from router.model.parcel import Parcel, Verdict
from router.model.reply import HopReply

GROUP = 50
"""RCPTs written before their replies are read: bounds what an eager or hostile peer makes us keep."""


class _Closing(Exception):
    """The hop's own reply ends the transaction for every recipient without a result: 421, or DATA refused."""

    def __init__(self, reply: HopReply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class Result(NamedTuple):
    """
    `early`: the session ended before the hop decided anything, so the message may go elsewhere at once.
    `keep`: the session may serve another message. `busy`: the hop said 421 to MAIL.
    """

    verdicts: list[Verdict]
    early: bool = False
    keep: bool = False
    busy: bool = False


class Transaction:
    """Used once; `run` gives the result. With `whole_eight_bit` a hop without 8BITMIME is not given 8-bit mail."""

    def __init__(
        self,
        connection: Connection,
        parcel: Parcel,
        attempt: Attempt,
        timeouts: Timeouts,
        *,
        lmtp: bool,
        whole_eight_bit: bool = False,
    ) -> None:
        self._whole_eight_bit = whole_eight_bit
        self._connection = connection
        self._protocol = connection.protocol
        self._offers = connection.extensions
        self._parcel = parcel
        self._attempt = attempt
        self._timeouts = timeouts
        self._lmtp = lmtp
        self._remote = connection.remote
        self._replies: list[HopReply | None] = [None] * len(parcel.recipients)
        self._accepted: list[int] = []
        self._split: set[int] = set()
        self._ending: HopReply | None = None
        self._doing = "sending MAIL FROM"
        self._mail = b""
        self._dotted = False
        self._begun = False
        self._answered = False

    async def run(self) -> Result:
        """Never raises for what the hop does; `CancelledError` and the body's own errors pass through."""
        began = time.monotonic()
        keep = True
        lines = self._lines()
        if lines:
            keep = False
            try:
                self._attempt.use(self._protocol.abort)
                keep = await self._converse(lines)
            except Broken as fault:
                self._ending = fault.said(self._remote, self._doing)
            except _Closing as closing:
                self._ending = closing.reply
            except Interrupted:
                self._protocol.abort()
            except BaseException:
                self._protocol.abort()
                raise
        return self._result(keep, time.monotonic() - began)

    def _lines(self) -> list[tuple[int, bytes]]:
        """The RCPT lines of those who can be sent through this session at all; the others get our verdict now."""
        refusal = self._unfit()
        lines: list[tuple[int, bytes]] = []
        for index, recipient in enumerate(self._parcel.recipients):
            if refusal is not None:
                self._replies[index] = refusal
            elif not self._offers.smtputf8 and not recipient.wire.isascii():
                self._replies[index] = self._no_smtputf8()
            else:
                try:
                    lines.append((index, rcpt_line(recipient, self._offers)))
                except UnsafeText as error:
                    self._replies[index] = own_reply("4.1.3", str(error), self._remote)
        return lines

    def _unfit(self) -> HopReply | None:
        """Why this message cannot go through this session, whoever its recipients are."""
        parcel, offers = self._parcel, self._offers
        if (parcel.smtputf8 or not parcel.sender.isascii()) and not offers.smtputf8:
            return self._no_smtputf8()
        if self._whole_eight_bit and parcel.body_type == "8BITMIME" and not offers.eight_bit:
            return own_reply("5.6.3", f"8-bit mail is not taken by {self._remote}", self._remote, code=554)
        if 0 < offers.size_limit < parcel.size:
            text = f"message of {parcel.size} octets is larger than the {offers.size_limit} that {self._remote} takes"
            return own_reply("5.3.4", text, self._remote, code=552)
        try:
            self._mail = mail_line(parcel, offers)
        except UnsafeText as error:
            return own_reply("4.1.7", str(error), self._remote)
        return None

    def _no_smtputf8(self) -> HopReply:
        text = f"SMTPUTF8 is required, but was not offered by {self._remote}"
        return own_reply("5.6.7", text, self._remote, code=553)

    async def _converse(self, lines: list[tuple[int, bytes]]) -> bool:
        """True if the session is fit for another message afterwards."""
        self._protocol.linger(reset=True)
        self._attempt.stage("mail")
        begun = await (self._pipelined(lines) if self._offers.pipelining else self._stepwise(lines))
        if not begun:
            return await self._reset()
        if not self._accepted:
            return await self._empty_data()
        await self._content()
        return await self._final_replies()

    async def _pipelined(self, lines: list[tuple[int, bytes]]) -> bool:
        """Envelope and DATA in as few round trips as the group size allows; True if the hop waits for the message."""
        taken, protocol = True, self._protocol
        for start in range(0, len(lines), GROUP):
            group = lines[start : start + GROUP]
            last = start + GROUP >= len(lines)
            octets = [] if start else [self._mail]
            octets += [line for _, line in group]
            if last:
                octets.append(b"DATA\r\n")
            protocol.send(b"".join(octets), len(octets))
            if not start:
                taken = self._mail_reply(await protocol.reply(self._timeouts.mail), lines)
            self._attempt.stage("rcpt")
            self._doing = "sending RCPT TO"
            for index, _ in group:
                raw = protocol.heard() or await protocol.reply(self._timeouts.rcpt)
                self._rcpt_reply(raw, index, taken=taken)
            if last:
                return await self._data_reply()
            if not taken:
                return False
        return False

    async def _stepwise(self, lines: list[tuple[int, bytes]]) -> bool:
        self._protocol.send(self._mail, 1)
        if not self._mail_reply(await self._protocol.reply(self._timeouts.mail), lines):
            return False
        self._attempt.stage("rcpt")
        self._doing = "sending RCPT TO"
        for index, line in lines:
            self._protocol.send(line, 1)
            self._rcpt_reply(await self._protocol.reply(self._timeouts.rcpt), index, taken=True)
        if not self._accepted:
            return False
        self._protocol.send(b"DATA\r\n", 1)
        return await self._data_reply()

    def _mail_reply(self, raw: RawReply, lines: list[tuple[int, bytes]]) -> bool:
        if raw.digit == 2:
            self._begun = True
            return True
        refusal = self._refusal(raw)
        for index, _ in lines:
            self._replies[index] = refusal
        self._answered = True
        return False

    def _rcpt_reply(self, raw: RawReply, index: int, *, taken: bool) -> None:
        if not taken:
            # Pipelined behind a refused MAIL: only whether the hop is out of its mind matters.
            if raw.digit == 2:
                raise garbled("a recipient was accepted though the sender was refused")
            return
        if raw.digit == 2:
            self._accepted.append(index)
            return
        self._refusal(raw)
        reply = self._replies[index] = recipient_refusal(raw, self._remote)
        self._answered = True
        if reply.code == 452 and self._accepted:
            self._split.add(index)

    async def _data_reply(self) -> bool:
        self._attempt.stage("data")
        self._doing = "sending DATA"
        raw = self._protocol.heard() or await self._protocol.reply(self._timeouts.data)
        if raw.digit == 3:
            return True
        if raw.digit == 2:
            raise garbled(quoted(raw))
        if self._accepted:
            raise _Closing(self._refusal(raw))
        return False

    def _refusal(self, raw: RawReply) -> HopReply:
        """A 4xx or 5xx reply. Anything else here is no answer to the question, and 421 ends the session."""
        if raw.digit not in {4, 5}:
            raise garbled(quoted(raw))
        reply = hop_reply(raw, self._remote)
        if raw.code == 421:
            raise _Closing(reply)
        return reply

    async def _content(self) -> None:
        parcel, protocol = self._parcel, self._protocol
        self._doing = "sending the message"
        replies = len(self._accepted) if self._lmtp else 1
        if parcel.inline is not None:
            last = frame(parcel.prefix, parcel.inline)
        else:
            total = await stream(parcel.prefix, parcel.blocks(), self._write)
            if total != parcel.size:
                raise BodyDamaged(f"{parcel.queue_id}: {total} octets read where {parcel.size} were expected")
            last = END
        protocol.check()
        if not self._attempt.pass_dot():
            raise Interrupted
        self._dotted = True
        protocol.send(last, replies)
        self._attempt.stage("dot")
        self._doing = "waiting for the reply to the end of the message (it may arrive twice)"

    async def _write(self, block: bytes) -> None:
        self._protocol.send(block, 0)
        await self._protocol.drain(self._timeouts.block)

    async def _final_replies(self) -> bool:
        """The reply to the dot; in LMTP one for each accepted recipient, in their order."""
        clean = True
        waiting = [[index] for index in self._accepted] if self._lmtp else [self._accepted]
        for indices in waiting:
            raw = await self._protocol.reply(self._timeouts.dot)
            if raw.digit not in {2, 4, 5}:
                raise garbled(quoted(raw))
            reply = hop_reply(raw, self._remote)
            for index in indices:
                self._replies[index] = reply
            clean = clean and reply.positive
        self._connection.messages += 1
        return clean

    async def _empty_data(self) -> bool:
        """
        354 although nobody was accepted (RFC 2920 3.1): a lone dot ends it, and RSET makes sure. In LMTP nobody knows
        how many replies would come.
        """
        if self._lmtp:
            raise garbled("354 without any accepted recipient")
        self._protocol.send(END, 1)
        await self._protocol.reply(self._timeouts.dot)
        return await self._reset()

    async def _reset(self) -> bool:
        """Forget the transaction. All results are in already, so a failure only costs the session."""
        self._doing = "sending RSET"
        return (await self._protocol.ask(b"RSET", self._timeouts.rset)).digit == 2

    def _result(self, keep: bool, seconds: float) -> Result:
        verdicts = [self._verdict(index, seconds) for index in range(len(self._replies))]
        cancelled = self._attempt.cancelled
        early = self._ending is not None and not (self._answered or self._accepted or cancelled)
        busy = self._ending is not None and self._ending.code == 421 and not self._begun
        return Result(verdicts, early, keep and not cancelled, busy)

    def _verdict(self, index: int, seconds: float) -> Verdict:
        recipient = self._parcel.recipients[index]
        reply = self._replies[index]
        delays = (self._connection.set_up, seconds)
        if reply is not None:
            asked = recipient.notify and "SUCCESS" in recipient.notify.upper()
            relayed = bool(asked) and reply.positive and not self._offers.dsn
            return Verdict(recipient.number, reply, relayed=relayed, split=index in self._split, delays=delays)
        if self._attempt.cancelled:
            return interrupted(recipient.number, self._remote, delays)
        ending = self._ending or own_reply("4.3.0", "no reply was recorded", self._remote)
        return Verdict(recipient.number, ending, in_doubt=self._dotted, delays=delays)


def interrupted(number: int, remote: str = "none", delays: tuple[float, float] = (0.0, 0.0)) -> Verdict:
    """The verdict of a recipient whose delivery was called back before the dot: no attempt."""
    reply = own_reply("4.3.0", "the delivery was called back before the end of the message", remote)
    return Verdict(number, reply, no_attempt=True, delays=delays)


def same_for_all(parcel: Parcel, reply: HopReply, *, unreachable: bool) -> Sequence[Verdict]:
    """One verdict of ours for every recipient."""
    return [Verdict(recipient.number, reply, unreachable=unreachable) for recipient in parcel.recipients]
