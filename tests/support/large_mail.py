"""
A client for messages of any size: it sends them in blocks, so that the test holds none of them in memory.

    said = await send_large(port, "large-1", "ann@example.edu", 100 << 20)

Guarantees: the result is what the load generator would say (`Submission`), digest of all octets included. On failure:
what the relay said, or nothing when it went away, is in the result; nothing raises for what the relay does.
"""

import asyncio
import time
from dataclasses import dataclass, field
from hashlib import sha256

from router.ledger.connection import Connection, Gone
from router.ledger.load import Fate, Submission
from router.ledger.traffic import compose

SENDER = "a@outside.example"
_PIECE = 64 * 1024


@dataclass(slots=True)
class _Course:
    """What is known of one message while it is sent."""

    digest: str = ""
    sent: int = 0
    codes: list[int] = field(default_factory=list)
    dot: int = 0

    def fate(self) -> Fate:
        if self.dot:
            return Fate.ACKNOWLEDGED if self.dot == 250 else Fate.DECLINED if self.dot < 500 else Fate.REFUSED
        if self.sent:
            return Fate.UNANSWERED
        return Fate.REFUSED if any(code >= 400 for code in self.codes) else Fate.NOT_SENT


async def send_large(
    port: int,
    tag: str,
    to: str,
    size: int,
    *,
    declared: int | None = None,
    timeout: float = 600.0,  # noqa: ASYNC109 - a limit
) -> Submission:
    """One message of at least `size` octets, and 64 KiB more at most; `declared` is told at MAIL."""
    course, at = _Course(), time.monotonic()
    try:
        async with asyncio.timeout(timeout):
            connection = await Connection.open("127.0.0.1", port, "load.example.net")
            try:
                await _transact(connection, course, tag, to, size, declared)
            finally:
                await connection.close()
    except (Gone, OSError, TimeoutError):
        pass
    return Submission(
        tag=tag,
        sender=SENDER,
        recipients=(to,),
        fates=(course.fate(),),
        codes=tuple(course.codes[-1:] or [0]),
        digest=course.digest,
        size=course.sent,
        at=at,
        seconds=time.monotonic() - at,
        dot_code=course.dot,
    )


async def _transact(
    connection: Connection, course: _Course, tag: str, to: str, size: int, declared: int | None
) -> None:
    told = "" if declared is None else f" SIZE={declared}"
    for command in (f"MAIL FROM:<{SENDER}>{told}", f"RCPT TO:<{to}>", "DATA"):
        await connection.write(f"{command}\r\n".encode())
        code, _ = await connection.reply()
        course.codes.append(code)
        if code >= 400:
            return
    course.codes.pop()  # 354 is nobody's
    await _stream(connection, course, tag, to, size)
    course.dot, _ = await connection.reply()


async def _stream(connection: Connection, course: _Course, tag: str, to: str, size: int) -> None:
    digest, piece = sha256(), compose(tag, SENDER, [to], min(size, _PIECE))
    while course.sent < size:
        digest.update(piece)
        course.sent += len(piece)
        await connection.write(piece.replace(b"\r\n.", b"\r\n.."))
    course.digest = digest.hexdigest()
    await connection.write(b".\r\n")
