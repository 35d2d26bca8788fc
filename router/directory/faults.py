"""
What can go wrong with a directory, in four kinds, all of them `LookupFailed` and thus temporary.

The kinds tell what to do next: `Lost` and `TimedOut` speak of a connection, `Troubled` of a server, `Unfit` of the
question alone. Result codes are those of RFC 4511, appendix A.

Guarantees: no text holds a password; what a server said is one printable line of limited length.
"""

from router.directory.printable import printable
from router.errors import BadRouteData, LookupFailed

SUCCESS = 0
SIZE_LIMIT_EXCEEDED = 4
ADMIN_LIMIT_EXCEEDED = 11
NO_SUCH_ATTRIBUTE = 16
ATTRIBUTE_OR_VALUE_EXISTS = 20
NO_SUCH_OBJECT = 32
ASSERTION_FAILED = 122

_OF_THE_QUESTION = frozenset(
    {
        2,  # protocolError
        SIZE_LIMIT_EXCEEDED,
        ADMIN_LIMIT_EXCEEDED,
        12,  # unavailableCriticalExtension
        NO_SUCH_ATTRIBUTE,
        17,  # undefinedAttributeType
        18,  # inappropriateMatching
        19,  # constraintViolation
        ATTRIBUTE_OR_VALUE_EXISTS,
        21,  # invalidAttributeSyntax
        34,  # invalidDNSyntax
        ASSERTION_FAILED,
    }
)


class Fault(LookupFailed):
    """A directory did not give a complete answer."""


class Lost(Fault):
    """No connection, or it ended: the server is gone, refuses us, or shows a certificate that is not to be believed."""


class TimedOut(Lost):
    """Nobody answered in time."""


class Troubled(Fault):
    """The server answered, and not with success: busy, no rights, the base is not there, a referral to another one."""

    def __init__(self, private: str, code: int = SUCCESS) -> None:
        super().__init__(private)
        self.code = code


class Unfit(Troubled):
    """
    A question that cannot be answered completely, however often it is asked: too many entries for the server's limits,
    a value it cannot compare, a part of the tree that is elsewhere. Others may well be.
    """


class Muddled(Unfit):
    """What came back makes no sense for the address asked for: an entry without it, or one that cannot be read."""

    reply = BadRouteData.reply


def refused(what: str, code: int, message: str = "") -> Troubled:
    """The fault that a result code other than success is."""
    text = f"{what}: result {code}" + (f" ({printable(message)})" if message else "")
    return (Unfit if code in _OF_THE_QUESTION else Troubled)(text, code)
