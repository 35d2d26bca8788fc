"""`check --accept-loss`: an operator's word that people whom the directory has lost are gone."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from support.people_ldif import delete, sun_dn
from support.slapd import Slapd

from router.control import audit, losses

pytestmark = pytest.mark.slow
Site = Any
Build = Callable[[Slapd], Site]


def test_a_loss_is_accepted_by_name_and_with_a_reason(build: Build, own: Slapd) -> None:
    site = build(own)
    site.follow()
    for number in range(20):
        own.modify(delete(sun_dn(f"user{number}")))
    site.database.run_write(lambda c: c.exec_driver_sql("UPDATE directories SET cookie = ''"))
    site.follow()
    assert ("directory-loss", "example.edu") in site.alarms()
    assert site.mailbox("user1@example.edu") is not None
    unsure = site("route", "absent@example.edu", "--json")
    assert (unsure.status, unsure.json["routes"][0]["reply"][:9]) == (1, "451 4.4.3")
    assert "in doubt: " in str(unsure.json["routes"][0]["remarks"])
    assert site("check", "--accept-loss", "example.edu").status == 64
    found = site("check", "--accept-loss", "Example.EDU", "--reason", "they left", "--json")
    assert found.status == 0, found.err
    (one,) = found.json["accepted_losses"]
    assert (one["directory"], one["domain"], one["missing"]) == ("people", "example.edu", 20)
    assert ("directory-loss", "example.edu") not in site.alarms()
    assert site("route", "absent@example.edu").status == 2
    (row, *_) = site.database.run_read(partial(audit.rows, key="example.edu"))
    assert (row.verb, row.reason) == ("directory accept-loss", "they left")
    assert [loss.accepted for loss in site.database.run_read(losses.every)] == [20]
    again = site("check", "--accept-loss", "example.edu", "--reason", "they left")
    assert (again.status, "no directory has lost people of example.edu" in again.err) == (65, True)
    site.database.run_write(lambda c: c.exec_driver_sql("UPDATE directories SET cookie = ''"))
    site.follow()
    assert site.mailbox("user1@example.edu") is None
    assert site("check", "--accept-loss", "no domain", "--reason", "x").status == 64
