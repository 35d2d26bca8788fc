"""What the verbs on holds answer. Pure values."""

from dataclasses import dataclass

from router.control.barrier import Waiting
from router.control.hold_records import InDoubt
from router.control.members import Member


@dataclass(frozen=True, slots=True)
class HoldResult:
    """How a hold stands. `ended`: somebody else ended it meanwhile."""

    key: str
    hold: int
    quiet: bool
    waiting_for: tuple[Waiting, ...] = ()
    in_doubt: tuple[InDoubt, ...] = ()
    ended: bool = False
    error: str = ""
    """Why it could not be held; then `hold` is 0."""
    unwritten: str = ""
    """Why the directory does not say so yet: the hold is in force here, and the same command finishes it there."""
    drift: str = ""
    """What somebody else has written into the directory over our hold; the mail stays."""


@dataclass(frozen=True, slots=True)
class ReleaseResult:
    """What a release did; `applied` is whether every live member has it in force. `error`: it could not be."""

    key: str
    home_before: str = ""
    home: str = ""
    released: bool = False
    applied: bool = False
    waiting_for: tuple[Member, ...] = ()
    in_doubt: tuple[InDoubt, ...] = ()
    error: str = ""
    temporary: bool = False
    """With `error`: the directory is the reason, the mail is still held, and the same command finishes it."""
    drift: str = ""
    """What somebody else had changed in the directory meanwhile: it is left as they set it."""


@dataclass(frozen=True, slots=True)
class MoveResult:
    """How far a move came: the hold, the copy command's exit status (None: not run), the release."""

    hold: HoldResult
    status: int | None = None
    release: ReleaseResult | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be written into a directory for one mailbox (RFC 2849); '' when nothing would."""

    key: str
    source: str
    dn: str
    ldif: str
