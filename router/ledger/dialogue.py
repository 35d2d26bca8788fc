"""
One connection of a recording store: SMTP or LMTP, written apart from the relay's own code so that the two do not
share a mistake.

Guarantees: commands are answered in order, also while a stage is late or hangs; what arrives is recorded before its
reply is written, and as unanswered when the connection ends without one.
It is a test instrument: it checks nothing that it does not have to.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from router.ledger.arrival import Arrival, Tape
from router.ledger.behaviour import Behaviour, Stage
from router.ledger.unstuff import Unstuffer

_LONGEST_COMMAND = 64 * 1024


class Store(Protocol):
    """What a connection needs of its store."""

    name: str
    lmtp: bool
    keep_bodies: bool
    behaviour: Behaviour

    def record(self, arrival: Arrival) -> None: ...
    def attempt(self, recipient: str) -> None: ...
    def take_drop(self, stage: Stage) -> bool: ...
    def transient(self, sender: str, recipient: str) -> bool: ...
    def opened(self, connection: "Dialogue") -> None: ...
    def closed(self, connection: "Dialogue") -> None: ...


class Dialogue(asyncio.Protocol):
    """State of one connection."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._buffer = b""
        self._out: list[str] = []
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.TimerHandle | None = None
        self._data: Unstuffer | None = None
        self._tape = Tape()
        self._unanswered: Arrival | None = None
        self._reset()

    def _reset(self) -> None:
        self._sender = ""
        self._began = 0.0
        self._recipients: list[str] = []
        self._parameters: list[str] = []

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - narrows the type for the checker
        self._transport = transport
        self._store.opened(self)
        self._answer(Stage.CONNECT, "220 store ready")
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._waiting is not None:
            self._waiting.cancel()
        self._transport = None
        if self._unanswered is not None:
            nobody = tuple((recipient, 0) for recipient, _ in self._unanswered.recipients)
            self._store.record(replace(self._unanswered, recipients=nobody))
        self._store.closed(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._waiting is None:
            self._work()

    def abort(self) -> None:
        """Cut the connection without a word."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    # --- the order of things

    def _work(self) -> None:
        while self._waiting is None and self._transport is not None:
            if self._data is not None:
                if not self._read_data(self._data):
                    break
                continue
            line, end, rest = self._buffer.partition(b"\r\n")
            if not end:
                if len(line) > _LONGEST_COMMAND:
                    self.abort()
                break
            self._buffer = rest
            self._command(line.decode("utf-8", "replace"))
        self._flush()

    def _flush(self) -> None:
        if self._out and self._transport is not None and self._waiting is None:
            text, self._out = "".join(self._out), []
            self._transport.write(text.encode())

    def _answer(self, stage: Stage, text: str, then: Callable[[], None] | None = None) -> None:
        """Reply at `stage`, now or later; nothing else is read before."""
        behaviour = self._store.behaviour
        delay = behaviour.delays.get(stage, 0.0)
        if stage in behaviour.hang or delay > 0:
            self._flush()  # what was answered before goes out before the wait
            wait = delay if stage not in behaviour.hang else 0.02
            self._waiting = asyncio.get_running_loop().call_later(wait, self._late, stage, text, then)
            return
        self._reply(text, then)

    def _late(self, stage: Stage, text: str, then: Callable[[], None] | None) -> None:
        if stage in self._store.behaviour.hang:
            self._waiting = asyncio.get_running_loop().call_later(0.02, self._late, stage, text, then)
            return
        self._waiting = None
        self._reply(text, then)
        self._work()

    def _reply(self, text: str, then: Callable[[], None] | None) -> None:
        self._out.append(f"{text}\r\n")
        if then is not None:
            then()

    def _fixed(self, stage: Stage, text: str) -> str:
        return self._store.behaviour.replies.get(stage, text)

    # --- commands

    def _command(self, line: str) -> None:
        verb, _, rest = line.partition(" ")
        match verb.upper():
            case "EHLO" | "LHLO":
                self._reset()
                self._answer(Stage.HELO, self._fixed(Stage.HELO, self._greeting()))
            case "HELO":
                self._reset()
                self._answer(Stage.HELO, self._fixed(Stage.HELO, "250 store"))
            case "MAIL":
                self._mail(rest)
            case "RCPT":
                self._rcpt(rest)
            case "DATA":
                self._start_data()
            case "RSET":
                self._reset()
                self._answer(Stage.RSET, self._fixed(Stage.RSET, "250 2.0.0 ok"))
            case "NOOP":
                self._out.append("250 2.0.0 ok\r\n")
            case "QUIT":
                self._answer(Stage.QUIT, "221 2.0.0 bye", self._hang_up)
            case _:
                self._out.append("502 5.5.1 not here\r\n")

    def _greeting(self) -> str:
        b = self._store.behaviour
        offers = (("PIPELINING", b.pipelining), ("8BITMIME", b.eight_bit), ("SMTPUTF8", b.smtputf8), ("DSN", b.dsn))
        words = ["store", *(word for word, on in offers if on), "ENHANCEDSTATUSCODES", "SIZE"]
        return "\r\n".join([*(f"250-{word}" for word in words[:-1]), f"250 {words[-1]}"])

    def _hang_up(self) -> None:
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _mail(self, rest: str) -> None:
        self._reset()
        self._sender, parameters = _path(rest)
        self._parameters.append(parameters)
        self._began = time.monotonic()
        self._answer(Stage.MAIL, self._fixed(Stage.MAIL, "250 2.1.0 ok"))

    def _rcpt(self, rest: str) -> None:
        recipient, parameters = _path(rest)
        self._store.attempt(recipient)
        reply = self._judge(recipient)
        if reply.startswith("2"):
            self._recipients.append(recipient)
            self._parameters.append(parameters)
        self._answer(Stage.RCPT, reply)

    def _judge(self, recipient: str) -> str:
        behaviour = self._store.behaviour
        for refusal in behaviour.refusals:
            if refusal.applies(recipient):
                return refusal.reply
        if self._store.transient(self._sender, recipient):
            return "451 4.7.1 come back later"
        return self._fixed(Stage.RCPT, "250 2.1.5 ok")

    # --- the message

    def _start_data(self) -> None:
        if not self._recipients:
            self._out.append("554 5.5.1 no valid recipients\r\n")
            return
        if self._store.take_drop(Stage.DATA):
            self.abort()
            return
        reply = self._fixed(Stage.DATA, "354 go on")
        self._answer(Stage.DATA, reply, self._open_data if reply.startswith("3") else None)

    def _open_data(self) -> None:
        self._data = Unstuffer()
        self._tape = Tape(keep_body=self._store.keep_bodies)

    def _read_data(self, data: Unstuffer) -> bool:
        """Whether there is more to do now."""
        if not self._buffer:
            return False
        piece, self._buffer = self._buffer, b""
        self._tape.feed(data.feed(piece))
        if not data.done:
            return False
        self._buffer, self._data = data.rest, None
        self._take()
        return True

    def _take(self) -> None:
        dropped = self._store.take_drop(Stage.DOT)
        replies = [self._after_dot(recipient) for recipient in self._recipients]
        digest, body = self._tape.finish()
        arrival = Arrival(
            store=self._store.name,
            began=self._began,
            at=time.monotonic(),
            sender=self._sender,
            recipients=tuple((to, int(reply[:3])) for to, reply in zip(self._recipients, replies, strict=True)),
            tag=self._tape.tag,
            digest=digest,
            size=self._tape.size,
            trace=self._tape.trace,
            parameters=tuple(self._parameters),
            body=body,
        )
        self._reset()
        self._unanswered = arrival
        if dropped:
            self.abort()
            return
        text = "\r\n".join(replies) if self._store.lmtp else replies[0]
        self._answer(Stage.DOT, text, self._answered)

    def _answered(self) -> None:
        """Recorded when the reply is about to be written; a connection that ends before is recorded as unanswered."""
        arrival, self._unanswered = self._unanswered, None
        if arrival is not None:
            self._store.record(arrival)

    def _after_dot(self, recipient: str) -> str:
        if self._store.lmtp:
            for refusal in self._store.behaviour.dot_refusals:
                if refusal.applies(recipient):
                    return refusal.reply
        return self._fixed(Stage.DOT, "250 2.0.0 taken")


def _path(text: str) -> tuple[str, str]:
    """The text between the brackets of `FROM:<…> PARAMETERS`, and the parameters; quoted strings may hold brackets."""
    start = text.find("<")
    if start < 0:
        return text, ""
    quoted = False
    position = start + 1
    while position < len(text):
        character = text[position]
        if quoted and character == "\\":
            position += 1
        elif character == '"':
            quoted = not quoted
        elif character == ">" and not quoted:
            break
        position += 1
    return text[start + 1 : position], text[position + 1 :].strip()
