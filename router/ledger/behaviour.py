"""
How a recording store behaves: the faults it can be told to have.

Pure values; the store reads them at each step, so a test may change them while mail flows.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase


class Stage(StrEnum):
    """A step of the SMTP or LMTP dialogue at which a store can answer late, not at all, or badly."""

    CONNECT = "connect"
    HELO = "helo"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    """The DATA command, answered 354."""
    DOT = "dot"
    """The final dot."""
    RSET = "rset"
    QUIT = "quit"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Answer RCPT of addresses that match a shell pattern (in lower case) with `reply`."""

    pattern: str
    reply: str

    def applies(self, recipient: str) -> bool:
        return fnmatchcase(recipient.lower(), self.pattern)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """
    The knobs. Everything off is a store that takes all mail at once.

    `hang` stages are never answered while they are listed: the connection waits, and goes on when they are no longer.
    """

    delays: Mapping[Stage, float] = field(default_factory=dict)
    """Seconds before the reply at a stage."""
    hang: frozenset[Stage] = frozenset()
    replies: Mapping[Stage, str] = field(default_factory=dict)
    """A fixed reply, `451 4.3.0 busy`, in place of the store's own."""
    refusals: tuple[Refusal, ...] = ()
    dot_refusals: tuple[Refusal, ...] = ()
    """LMTP only: refuse these recipients after the dot."""
    drop_after_dot: int = 0
    """So many messages are taken and recorded, then the connection is cut instead of a reply. -1: all."""
    drop_before_dot: int = 0
    """So many messages are cut off at their DATA command. -1: all."""
    transient_first: int = 0
    """Each recipient is refused with 451 so many times before it is taken (greylisting)."""
    pipelining: bool = True
    eight_bit: bool = True
    smtputf8: bool = True
    dsn: bool = True

    def to_json(self) -> str:
        """One line."""
        fields = asdict(self)
        fields["hang"] = sorted(self.hang)
        return json.dumps(fields)

    @classmethod
    def from_json(cls, line: str) -> "Behaviour":
        """The reverse of `to_json`. Raises `ValueError` or `TypeError` for anything else."""
        fields = json.loads(line)
        fields["delays"] = {Stage(stage): seconds for stage, seconds in fields.get("delays", {}).items()}
        fields["replies"] = {Stage(stage): reply for stage, reply in fields.get("replies", {}).items()}
        fields["hang"] = frozenset(Stage(stage) for stage in fields.get("hang", ()))
        for name in ("refusals", "dot_refusals"):
            fields[name] = tuple(Refusal(**refusal) for refusal in fields.get(name, ()))
        return cls(**fields)
