"""status: how directories are followed, and that a monitor hears when one is not."""

from typing import Any

import pytest

pytestmark = pytest.mark.slow
Site = Any


def test_a_directory_that_is_followed(site: Site) -> None:
    site.run_worker()
    found = site("status", "--json")
    assert found.status == 0, found.json["alarms"]
    (one,) = found.json["directories"]
    assert (one["name"], one["followed"], one["fault"], one["remark"]) == ("people", True, "", "")
    assert one["people"] >= 30
    assert one["swept_at"]
    assert 0 <= one["age_s"] < 60
    assert "directory people: followed " in site("status").out


@pytest.mark.parametrize(
    ("seconds", "fault", "remark"),
    [
        (1, "no answer", "holds set by others are not seen meanwhile"),
        (60, "", "holds set by others are not seen meanwhile"),
        (600, "no answer", "mail for its people is accepted, and waits"),
        (5 * 3600, "no answer", "its people are not answered for any more"),
    ],
)
def test_one_that_is_not_is_told_and_fails(site: Site, seconds: float, fault: str, remark: str) -> None:
    site.run_worker()
    site.age(seconds, fault)
    found = site("status", "--json")
    assert found.status == 1
    assert not found.json["sound"]
    (one,) = found.json["directories"]
    assert (one["followed"], one["fault"]) == (False, fault)
    assert one["remark"].startswith("holds set by others are not seen meanwhile")
    assert one["remark"].endswith(remark)
    plain = site("status").out
    assert "directory people: NOT followed since" in plain
    assert remark in plain


def test_one_that_was_never_followed(site: Site) -> None:
    site.run_worker()
    site.database.run_write(lambda connection: connection.exec_driver_sql("DELETE FROM directories"))
    found = site("status", "--json")
    assert (found.status, found.json["directories"][0]["followed_at"]) == (1, None)
    assert "NOT followed yet" in site("status").out


def test_an_alarm_of_a_directory_has_its_remedy(site: Site) -> None:
    sql = "INSERT INTO alarms (kind, key, text, first, last, count) VALUES ('directory-loss', 'x.edu', 'gone', 1, 1, 1)"
    site.database.run_write(lambda connection: connection.exec_driver_sql(sql))
    assert "sluice check --accept-loss DOMAIN" in site("status").out
