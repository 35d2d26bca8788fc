"""
Message octets on their way into DATA: dot-stuffing (RFC 5321 4.5.2) across any block borders, final CRLF.

Guarantees: apart from the doubled dots and a CRLF that a message without a final line end needs, the octets are
those of the input. Memory: one block. The input is canonical already (CRLF only, made so at receipt), so nothing
but the beginnings of lines is looked at.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

BLOCK = 64 * 1024
"""Octets written at once between two waits for the peer."""
END = b".\r\n"

Write = Callable[[bytes], Awaitable[None]]


class DotStuffer:
    """Doubles dots at line starts, whatever the size of the blocks; `ending` closes the last line."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b"\r\n"  # the last two octets so far: a message begins at a line start

    def stuff(self, block: bytes) -> bytes:
        """The octets to write for the next block."""
        if not block:
            return block
        # Only the first three octets can belong to a line end that began in the block before.
        seam = (self._tail + block[:2]).find(b"\r\n.")
        stuffed = block.replace(b"\r\n.", b"\r\n..")
        if seam >= 0:
            stuffed = stuffed[:seam] + b"." + stuffed[seam:]
        self._tail = (self._tail + block[-2:])[-2:]
        return stuffed

    def ending(self) -> bytes:
        """What is missing for the message to end with CRLF: nothing, mostly."""
        return b"" if self._tail == b"\r\n" else b"\r\n"


def frame(prefix: bytes, body: bytes) -> bytes:
    """A small message as one piece: prefix, body, final dot. `prefix` ends with CRLF and begins with no dot."""
    if body.startswith(b".") or b"\r\n." in body:
        body = DotStuffer().stuff(body)
    ending = END if body.endswith(b"\r\n") or not body else b"\r\n" + END
    return b"".join((prefix, body, ending))


async def stream(prefix: bytes, blocks: AsyncIterator[bytes], write: Write) -> int:
    """
    Write prefix and body without the final dot, in pieces of about 64 KiB; returns the octets taken from the input.

    Raises what `blocks` and `write` raise; the caller then aborts the connection, so that no part of a message can
    pass for the whole.
    """
    stuffer = DotStuffer()
    total = len(prefix)
    await write(prefix)
    try:
        async for block in blocks:
            total += len(block)
            for start in range(0, len(block), BLOCK):
                await write(stuffer.stuff(block[start : start + BLOCK]))
    finally:
        if isinstance(blocks, AsyncGenerator):
            await blocks.aclose()  # an abandoned one would keep its file open until the collector comes by
    if ending := stuffer.ending():
        await write(ending)
    return total
