"""
What a store saw: one record per message that arrived, with a digest of its octets below the relay's trace field.

Guarantees: the digest covers every octet that was sent, dots unstuffed, minus the first header field if and only if
it is a Received field that names the relay; a message of any size costs at most `HEAD` octets of memory unless
the body is asked for. Times are CLOCK_MONOTONIC seconds, which the processes of one machine share.
"""

import base64
import json
import re
from dataclasses import asdict, dataclass, field
from hashlib import sha256

HEAD = 64 * 1024
"""Octets kept to find the trace field and the tag."""
TAG_FIELD = "X-Ledger"

_OURS = b"(Sluice)"
_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_TAG = re.compile(rb"\r\nX-Ledger:[ \t]*([!-~]+)[ \t]*\r\n")


@dataclass(frozen=True, slots=True)
class Arrival:
    """
    One message at one store. `recipients` are those the store accepted, each with its reply code after the dot.

    A code of 0 means that the store took the message and never answered; the relay is then in doubt.
    """

    store: str
    began: float
    """When MAIL came."""
    at: float
    """When the final dot came."""
    sender: str
    recipients: tuple[tuple[str, int], ...]
    tag: str
    digest: str
    size: int
    trace: str = ""
    """The Received field that was taken off, without its CRLF."""
    parameters: tuple[str, ...] = ()
    """Parameters of MAIL, then of each RCPT, as they came."""
    body: bytes | None = field(default=None, repr=False)

    def to_json(self) -> str:
        """One line."""
        fields = asdict(self)
        fields["body"] = None if self.body is None else base64.b64encode(self.body).decode()
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> "Arrival":
        """The reverse of `to_json`. Raises `ValueError`, `KeyError` or `TypeError` for anything else."""
        fields = json.loads(line)
        fields["recipients"] = tuple((name, code) for name, code in fields["recipients"])
        fields["parameters"] = tuple(fields["parameters"])
        fields["body"] = None if fields["body"] is None else base64.b64decode(fields["body"])
        return cls(**fields)


class Tape:
    """Takes the octets of one message in pieces and knows its digest, tag and trace field in the end."""

    def __init__(self, *, keep_body: bool = False) -> None:
        self.size = 0
        self.tag = ""
        self.trace = ""
        self._head = bytearray()
        self._started = False
        self._hash = sha256()
        self._body: bytearray | None = bytearray() if keep_body else None

    def feed(self, piece: bytes) -> None:
        """Unstuffed octets, in order."""
        self.size += len(piece)
        if self._body is not None:
            self._body += piece
        if self._started:
            self._hash.update(piece)
            return
        self._head += piece
        if len(self._head) >= HEAD:
            self._start()

    def finish(self) -> tuple[str, bytes | None]:
        """Digest as hexadecimal text, and the octets as they came if they were to be kept."""
        if not self._started:
            self._start()
        return self._hash.hexdigest(), None if self._body is None else bytes(self._body)

    def _start(self) -> None:
        self._started = True
        head = bytes(self._head)
        self._head.clear()
        trace, rest = split_trace(head)
        self.trace = trace.decode("utf-8", "replace").removesuffix("\r\n")
        self.tag = find_tag(rest)
        self._hash.update(rest)


def split_trace(content: bytes) -> tuple[bytes, bytes]:
    """The relay's Received field on top (empty if the first field is something else), and what is below it."""
    if not content.startswith(b"Received:"):
        return b"", content
    end = _FIELD_END.search(content)
    if end is None or _OURS not in content[: end.end()]:
        return b"", content
    return content[: end.end()], content[end.end() :]


def find_tag(content: bytes) -> str:
    """The ledger's tag in the header section, or ''."""
    header = b"\r\n" + content.partition(b"\r\n\r\n")[0] + b"\r\n"
    match = _TAG.search(header)
    return match.group(1).decode() if match else ""
