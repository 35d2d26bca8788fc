"""
Status attributes: which of them decides, and what it says (semantics 1).

Guarantees: pure and total. The attributes are looked at in their order and the first that is not active wins;
a missing one is active; an illegal value, or several in an attribute that has one, is inactive, which is temporary,
and leaves a doubt for an alarm.
"""

from collections.abc import Sequence

from router.directory.reading import Reading
from router.model.directory import Standing
from router.settings.directory import StatusMap


def standing(reading: Reading, maps: Sequence[StatusMap]) -> Standing:
    """What these attributes of an entry amount to; every illegal value is a doubt, the decisive one or not."""
    found = [_one(reading, status) for status in maps]
    return next((one for one in found if one is not Standing.ACTIVE), Standing.ACTIVE)


def meaning(status: StatusMap, value: str | None) -> Standing:
    """What one value means; None is a missing attribute."""
    if value is None:
        return Standing.ACTIVE
    name = status.meaning(value)
    return Standing(name) if name is not None else Standing.INACTIVE


def _one(reading: Reading, status: StatusMap) -> Standing:
    values = reading.distinct(status.attribute)
    if not values:
        return Standing.ACTIVE
    if len(values) > 1:
        reading.doubt(f"{status.attribute} has several values, {reading.listed(values)}: taken as inactive")
        return Standing.INACTIVE
    if status.meaning(values[0]) is None:
        reading.doubt(f"{status.attribute} {reading.listed(values)} is no status: taken as inactive")
    return meaning(status, values[0])
