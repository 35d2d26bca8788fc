"""
The one table of replies that the accepting side gives; no reply text is written anywhere else in the station.

Guarantees: no text names a store, a state, a path or code, and none repeats what the client sent. Enhanced codes
follow RFC 3463; they are left out where RFC 2034 section 4 forbids them (greeting, HELO, EHLO, 354).
"""

from functools import lru_cache

from router.accept.sanitise import printable
from router.errors import INTERNAL, SluiceError
from router.model.reply import Reply

CRLF = b"\r\n"

# What went well.
GOODBYE = Reply(221, "2.0.0", "Bye")
READY_FOR_TLS = Reply(220, "2.0.0", "Ready to start TLS")
OK = Reply(250, "2.0.0", "Ok")
SENDER_OK = Reply(250, "2.1.0", "Ok")
RECIPIENT_OK = Reply(250, "2.1.5", "Ok")
VRFY = Reply(252, "2.0.0", "Cannot verify, but will take a message and try to deliver it")
HELP = Reply(214, "2.0.0", "See RFC 5321")
START_DATA = Reply(354, "", "End data with <CR><LF>.<CR><LF>")

# The end of a connection.
SHUTDOWN = Reply(421, "4.3.2", "Service is closing down, please try again later")
OVERLOAD = Reply(421, "4.3.2", "Too many connections, please try again later")
TIMEOUT = Reply(421, "4.4.2", "Timeout, closing the connection")
TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", "Too many connections from your address")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors")
DATA_OVERRUN = Reply(421, "4.3.4", "Far more data than can be accepted, closing the connection")
BROKEN = Reply(421, "4.3.0", "Temporary failure, please try again later")
OUT_OF_STEP = Reply(554, "5.5.0", "Commands sent ahead of their turn")
NOT_HTTP = Reply(221, "2.7.0", "This is an SMTP server")
NO_CHUNKING = Reply(502, "5.5.1", "BDAT is not offered here")
PROXY_DENIED = Reply(550, "5.7.0", "Not allowed to speak for other clients")

# Commands.
LINE_TOO_LONG = Reply(500, "5.5.2", "Command line too long")
BAD_LINE = Reply(500, "5.5.2", "Malformed command line")
UNKNOWN_COMMAND = Reply(500, "5.5.1", "Command not recognized")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "Command not implemented")
BAD_ARGUMENT = Reply(501, "5.5.4", "Malformed argument")
BAD_PARAMETER = Reply(501, "5.5.4", "Malformed parameter")
UNKNOWN_PARAMETER = Reply(555, "5.5.4", "Parameter not recognized or not offered")
BAD_SENDER = Reply(501, "5.1.7", "Bad sender address syntax")
BAD_RECIPIENT = Reply(501, "5.1.3", "Bad recipient address syntax")
NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "An address with non-ASCII characters needs SMTPUTF8")
BAD_SEQUENCE = Reply(503, "5.5.1", "Bad sequence of commands")
XCLIENT_DENIED = Reply(550, "5.7.0", "Not allowed to use XCLIENT")

# TLS.
TLS_NOT_OFFERED = Reply(502, "5.5.1", "TLS is not offered here")
TLS_BROKEN = Reply(454, "4.7.0", "TLS is not available now")
TLS_ACTIVE = Reply(554, "5.5.1", "TLS is active already")
TLS_NEEDED = Reply(530, "5.7.0", "Must issue a STARTTLS command first")

# The message.
TOO_BIG = Reply(552, "5.3.4", "Message is bigger than the limit")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients")
NO_VALID_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")
NO_RECIPIENTS_NOW = Reply(451, "4.3.0", "No recipient can be accepted now, please try again later")
BARE_LINE_BREAK = Reply(550, "5.5.2", "The message contains a bare CR or LF")
HOP_COUNT = Reply(554, "5.4.6", "Too many hops")
FILTER_FAILED = INTERNAL


def queued(queue_id: str) -> bytes:
    """The reply that hands over responsibility (promise 1), ready for the wire. The queue-id is ours, and ASCII."""
    return b"250 2.0.0 Ok: queued as %b\r\n" % queue_id.encode("ascii")


@lru_cache(maxsize=16)
def greeting(hostname: str) -> Reply:
    return Reply(220, "", f"{hostname} ESMTP Sluice")


@lru_cache(maxsize=16)
def hello(hostname: str) -> Reply:
    """The answer to HELO."""
    return Reply(250, "", hostname)


@lru_cache(maxsize=64)
def extended_hello(hostname: str, keywords: tuple[str, ...]) -> bytes:
    """The answer to EHLO: the host name and one keyword a line, ready for the wire."""
    lines = (hostname, *keywords)
    last = len(lines) - 1
    return b"".join(f"250{' ' if i == last else '-'}{line}\r\n".encode("ascii") for i, line in enumerate(lines))


@lru_cache(maxsize=512)
def encode(reply: Reply) -> bytes:
    """One reply line with CRLF; whatever a station put into its text, the line stays one line of ASCII."""
    return printable(str(reply), 500).encode("ascii", "replace") + CRLF


class Refused(SluiceError):
    """A command is answered with this reply and has no other effect. Nothing is wrong with us: it is not logged."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply=reply)


class HangUp(Exception):
    """The conversation ends: with a last reply, or in silence (None) when there is nobody to hear it."""

    def __init__(self, reply: Reply | None = None) -> None:
        super().__init__(str(reply))
        self.reply = reply
