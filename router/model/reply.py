"""SMTP replies: ours to a client, and a next hop's to us."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of ours: `code` and `enhanced` (RFC 3463, empty where RFC 2034 forbids one) and safe public text."""

    code: int
    enhanced: str
    text: str

    @property
    def positive(self) -> bool:
        return self.code < 400

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced} {self.text}" if self.enhanced else f"{self.code} {self.text}"


@dataclass(frozen=True, slots=True)
class HopReply:
    """
    What a next hop (or our own judgement of it) said about one recipient.

    `text` is sanitised already: one line, printable, no control characters, at most 500 characters. `remote` is
    `host[address]:port`, or `none` when no connection was made. `said_by_hop` is false for words of our own
    (connection refused, timeout), so that a DSN never claims a reply that no server gave.
    """

    code: int
    enhanced: str
    text: str
    remote: str = "none"
    said_by_hop: bool = True

    @property
    def positive(self) -> bool:
        return 200 <= self.code < 300

    @property
    def permanent(self) -> bool:
        return 500 <= self.code < 600

    def __str__(self) -> str:
        words = (str(self.code), self.enhanced, self.text)
        return " ".join(word for word in words if word)
