"""
The DATA phase of a recording store: finds the final dot and takes the stuffed dots out again, in pieces of any size.

Guarantees: only CRLF.CRLF ends a message, and every other octet comes out as it went in, wherever the pieces are
split; at most one piece and four octets are held.
"""


class Unstuffer:
    """One message. `feed` gives its octets, and what follows the dot once it has come."""

    def __init__(self) -> None:
        # The line before the first one ends in a CRLF that is no part of the message.
        self._pending = b"\r\n"
        self._skip = 2
        self.done = False
        self.rest = b""

    def feed(self, piece: bytes) -> bytes:
        """Octets of the message that are certain now; sets `done` and `rest` at the final dot."""
        data = self._pending + piece
        end = data.find(b"\r\n.\r\n")
        if end >= 0:
            self.done, self.rest, self._pending = True, data[end + 5 :], b""
            return self._clean(data[: end + 2])
        cut = _safe_cut(data)
        self._pending = data[cut:]
        return self._clean(data[:cut])

    def _clean(self, data: bytes) -> bytes:
        clean = data.replace(b"\r\n..", b"\r\n.") if b"\r\n.." in data else data
        if self._skip and clean:
            # The cut never parts a CR from its LF, so both leave together.
            clean, self._skip = clean[self._skip :], 0
        return clean


def _safe_cut(data: bytes) -> int:
    """Where to cut so that neither a stuffed dot nor the final dot is parted."""
    cut = max(len(data) - 4, 0)
    for length in (3, 2, 1):
        if data[:cut].endswith(b"\r\n."[:length]):
            return cut - length
    return cut
