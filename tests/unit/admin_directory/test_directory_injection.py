"""Values of an LDAP entry are text from outside: alarms, commands and the log show them on their line (inv_80)."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from support.people_ldif import OLD_HOST, sun_person
from support.slapd import Slapd

pytestmark = pytest.mark.slow

EVIL = "where X-Injected: yes\x1b[2J\x07\r\n<0>all is well"
WORSE = f"{EVIL}\u2028\u202e\x85"
"""For attributes that are not ASCII by their syntax."""


def test_inv_80_values_of_the_directory_stay_on_their_line(
    build: Callable[[Slapd], Any], own: Slapd, caplog: pytest.LogCaptureFixture
) -> None:
    people = {
        "host": {"host": EVIL},
        "status": {"mailUserStatus": EVIL},
        "forward": {"mailDeliveryOption": "forward", "mailForwardingAddress": f"{EVIL}@outside.example"},
        "alias": {"mailAlternateAddress": f"{EVIL}@example.edu"},
        "name": {"cn": WORSE, "displayName": WORSE},
    }
    own.modify("\n".join(sun_person(name, **({"host": OLD_HOST} | more)) for name, more in people.items()))
    site = build(own)
    site.run_worker()
    with caplog.at_level(logging.DEBUG):
        site.follow()
    told = [text for (_, key), text in site.alarms().items() for text in (key, text)]
    shown = [
        site(*words).out
        for words in (
            ["status"],
            *(["route", f"{name}@example.edu"] for name in people),
            *(["user", "show", f"{name}@example.edu"] for name in people),
            ["user", "list", "--all"],
            ["route", f"alias{WORSE}@example.edu"],
            ["check", "--live"],
        )
    ]
    assert all(line.isprintable() for text in shown for line in text.split("\n"))
    assert any("X-Injected" in text for text in shown), "it is shown, and not left out"
    assert told
    assert all(text.isprintable() for text in told)
    assert all(record.getMessage().isprintable() for record in caplog.records if record.name.startswith("sluice"))
