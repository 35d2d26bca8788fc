"""
Alarms about what the directory says: addresses that cannot be classified, homes that are no store, entries that make
no sense, and forwards in a circle.

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
    if not isinstance(route, Later) or route.reply != BAD_ROUTE_DATA or found.mailbox is None:
        return
    if route.why:
        note_trouble(trace, route)
        return
    text = f"its home {found.mailbox.home!r} is no store of the configuration"
    trace.alarm(AlarmKind.UNMAPPED_HOME, found.mailbox.key, text)


def note_trouble(trace: Trace, route: Later) -> None:
    """The data of a mailbox are at fault."""
    trace.alarm(AlarmKind.FORWARD_LOOP if route.loop else AlarmKind.BAD_ROUTE_DATA, route.mailbox, route.why)
