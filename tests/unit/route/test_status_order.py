"""The order of Sun's status attributes."""

import pytest

from router.model.mailbox import Status
from router.route.status import Effective, effective_status


@pytest.mark.parametrize(
    ("values", "effective"),
    [
        (("inactive", None, None, "hold"), Effective("inactive")),
        (("hold", None, None, "disabled"), Effective("hold")),
        ((None, "hold", None, "disabled"), Effective("hold")),
        ((None, None, None, None), Effective("active")),
        ((), Effective("active")),
        ((None, None, None, "frozen"), Effective("inactive", "frozen")),
        (("active", "active", "active", "overquota"), Effective("overquota")),
        (("ACTIVE", " ", "Deleted", "disabled"), Effective("deleted")),
        (("frozen", None, None, "deleted"), Effective("inactive", "frozen")),
        (("active", "removed", "hold", None), Effective("removed")),
    ],
)
def test_the_first_that_is_not_active_wins(values: tuple[str | None, ...], effective: Effective) -> None:
    assert effective_status(*values) == effective


def test_a_hold_is_a_flag_and_not_a_status() -> None:
    assert (effective_status("hold").hold, effective_status("hold").status) == (True, Status.ACTIVE)
    assert (effective_status("disabled").hold, effective_status("disabled").status) == (False, Status.DISABLED)
