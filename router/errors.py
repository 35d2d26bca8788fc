"""
Errors that cross a station: each has an SMTP code, an enhanced code, safe public text and a private cause.

Guarantees: an error of unknown kind is temporary (`reply_for`), its public text says nothing of configuration,
paths, people or code. The cause (`__cause__`, `private`) goes to the log only.
"""

from router.model.reply import Reply

INTERNAL = Reply(451, "4.3.0", "Temporary failure, please try again later")


class SluiceError(Exception):
    """Base of all errors of ours. `private` is for the log and for operators."""

    reply = INTERNAL

    def __init__(self, private: str = "", *, reply: Reply | None = None) -> None:
        super().__init__(private or (reply or self.reply).text)
        self.private = private
        if reply is not None:
            self.reply = reply


class LookupFailed(SluiceError):
    """A directory, database, DNS server or probe is down, slow or makes no sense: never a 5xx."""

    reply = Reply(451, "4.4.3", "Address lookup failed, please try again later")


class EmptyDomain(LookupFailed):
    """No source knows anybody in a domain: an empty or half-written directory, not an authority (promise 5)."""


class BadRouteData(SluiceError):
    """What a source said of an address cannot be used (two entries, unmapped home, cycle): temporary, and an alarm."""

    reply = Reply(451, "4.3.5", "Address configuration error, please try again later")


class SpoolUnavailable(SluiceError):
    """The spool cannot promise to keep a message: I/O error, failed commit, damaged database."""

    reply = Reply(451, "4.3.0", "Temporary failure, please try again later")


class SpoolDamaged(SpoolUnavailable):
    """The spool's database contradicts itself: what it says cannot be relied upon. An I/O error is never this."""


class SpoolFull(SpoolUnavailable):
    """Too little space or too few inodes."""

    reply = Reply(452, "4.3.1", "Insufficient system storage")


class BodyDamaged(SluiceError):
    """A stored body or row does not match its checksum: quarantine it."""


class Conflict(SluiceError):
    """An operator's command contradicts what is under way (exit 65 or 75 by the command); nothing was changed."""


class NotFound(SluiceError):
    """A name an operator gave does not exist; nothing was changed."""


class ControlUnavailable(SluiceError):
    """The control database cannot be read or written now (busy is not an outage and is retried inside)."""

    reply = Reply(451, "4.4.3", "Address lookup failed, please try again later")


class ControlBusy(ControlUnavailable):
    """Somebody keeps the control database locked."""


def reply_for(error: BaseException) -> Reply:
    """The reply a client may see: the error's own, or 451 4.3.0 for anything unknown."""
    return error.reply if isinstance(error, SluiceError) else INTERNAL
