"""
The replies that a route can carry, in one table.

Guarantees: no text names a store, a state of a move or a part of the configuration, and none tells a sender that mail
is held (a held mailbox is answered like any other, with 250). Codes after RFC 5321 4.2 and RFC 3463.
"""

from router.errors import BadRouteData, LookupFailed
from router.model.reply import Reply

UNKNOWN = Reply(550, "5.1.1", "No such mailbox here")
DISABLED = Reply(550, "5.2.1", "Mailbox disabled, not accepting messages")
SUSPENDED = Reply(450, "4.2.1", "Mailbox temporarily disabled, please try again later")
OVERQUOTA = Reply(452, "4.2.2", "Mailbox full, please try again later")
BAD_ROUTE_DATA = BadRouteData.reply
LOOKUP_FAILED = LookupFailed.reply

UNKNOWN_LATER = Reply(450, "4.1.1", "Mailbox not found, waiting for confirmation")
"""At dispatch only: the mailbox was accepted, and the directory denies it since less than `unknown_grace`."""
DISABLED_LATER = Reply(450, "4.2.1", "Mailbox disabled, waiting for confirmation")
"""At dispatch only: as `UNKNOWN_LATER`, for a mailbox that has been disabled since it was accepted."""
