"""
Alarms about what the directory says: addresses that cannot be classified, and homes that are no store.

Guarantees: an alarm per address or mailbox, however often it is met; temporary failures of a source raise none here.
"""

from router.errors import BadRouteData, EmptyDomain
from router.model.route import Classification, Later, Route
from router.pipeline.ports import Trace
from router.report.alarms import AlarmKind
from router.route.replies import BAD_ROUTE_DATA


def note_lookup(trace: Trace, key: str, error: BaseException) -> None:
    """A lookup of the address `key` failed."""
    if isinstance(error, BadRouteData):
        trace.alarm(AlarmKind.BAD_ROUTE_DATA, key, error.private)
    elif isinstance(error, EmptyDomain):
        trace.alarm(AlarmKind.EMPTY_DOMAIN, key.rpartition("@")[2], error.private)


def note_route(trace: Trace, found: Classification, route: Route) -> None:
    """An address was classified, and this came of it."""
    if isinstance(route, Later) and route.reply == BAD_ROUTE_DATA and found.mailbox is not None:
        text = f"its home {found.mailbox.home!r} is no store of the configuration"
        trace.alarm(AlarmKind.UNMAPPED_HOME, found.mailbox.key, text)
