"""hold, release and move of people who are in LDAP: what stands there afterwards, and what is told."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.people_ldif import NEW_HOST, OLD_HOST, delete, replace, sun_dn, sun_person
from support.slapd import Slapd

from router.control import hold_records

pytestmark = pytest.mark.slow
Site = Any
"""Of conftest: the command, the directory, the mirror."""
Build = Callable[[Slapd], Site]
BECAUSE = ("--reason", "because")
ANN = "user1@example.edu"


def raw(site: Site, name: str) -> tuple[list[str], list[str]]:
    entry = site.server.entry(sun_dn(name))
    return entry.get("mailUserStatus", []), entry.get("mailHost", [])


def test_a_move_by_hand_writes_status_and_home_into_the_directory(site: Site) -> None:
    held = site("hold", ANN, *BECAUSE, "--json")
    assert held.status == 0, held.err
    one = held.json["holds"][0]
    assert (one["quiet"], one["source"], one["unwritten"], one["drift"]) == (True, "people", "", "")
    assert raw(site, "user1") == (["hold"], [OLD_HOST])
    done = site("release", ANN, "--to", "zimbra", *BECAUSE, "--json")
    assert done.status == 0, done.err
    assert (done.json["releases"][0]["home"], done.json["releases"][0]["temporary"]) == ("zimbra", False)
    assert raw(site, "user1") == (["active"], [NEW_HOST])
    assert site.mailbox(ANN).home == "zimbra"
    site.follow()
    assert site.mailbox(ANN).home == "zimbra"


def test_a_move_in_one_command(site: Site, tmp_path: Path) -> None:
    script = tmp_path / "copy.py"
    script.write_text(f"import os\nopen({str(tmp_path / 'seen')!r}, 'w').write(os.environ['SLUICE_ADDRESS'])\n")
    key = "user2@example.edu"
    found = site("move", key, "--to", "zimbra", "--run", f"{sys.executable} {script}", *BECAUSE)
    assert found.status == 0, found.err
    assert (tmp_path / "seen").read_text() == key
    assert raw(site, "user2") == (["active"], [NEW_HOST])


def test_somebody_whom_the_mirror_does_not_have_yet_is_looked_up(site: Site) -> None:
    site.server.modify(sun_person("newcomer", OLD_HOST, mailAlternateAddress="new.comer@example.edu"))
    assert site.mailbox("newcomer@example.edu") is None
    found = site("hold", "New.Comer+x@example.edu", *BECAUSE)
    assert found.status == 0, found.err
    assert raw(site, "newcomer") == (["hold"], [OLD_HOST])
    assert site("release", "newcomer@example.edu", *BECAUSE).status == 0
    missing = site("hold", "nobody@example.edu", *BECAUSE)
    assert missing.status == 65
    assert "no mailbox has this address" in missing.err


def test_a_second_entry_of_one_mailbox_is_not_forgotten_by_a_lookup(site: Site) -> None:
    """The lookup of one alias shows one of two entries only: that is no proof that the other one was renamed."""
    site.server.modify(sun_person("twin", OLD_HOST))
    site.follow()
    site.server.modify(sun_person("other", OLD_HOST, mail="twin@example.edu", mailAlternateAddress="t2@example.edu"))
    found = site("hold", "t2@example.edu", *BECAUSE)
    assert "several entries" in found.out + found.err
    assert "several entries" in site.mailbox("twin@example.edu").problem
    assert raw(site, "twin") == (["active"], [OLD_HOST])


def test_what_would_be_written_is_shown_and_not_written(site: Site) -> None:
    key = "user4@example.edu"
    before = site.server.entry(sun_dn("user4"))
    found = site("hold", key, "--dry-run", *BECAUSE)
    assert found.status == 0
    for text in (f"dn: {sun_dn('user4')}", "changetype: modify", "delete: mailUserStatus", "mailUserStatus: hold"):
        assert text in found.out.splitlines()
    moved = site("move", key, "--to", "zimbra", "--dry-run", *BECAUSE, "--json").json
    assert moved["directory"][0]["source"] == "people"
    assert f"mailHost: {NEW_HOST}" in moved["directory"][0]["ldif"]
    assert site("release", key, "--to", "zimbra", "--dry-run", *BECAUSE, "--json").json["directory"] == []
    assert site.server.entry(sun_dn("user4")) == before
    assert site.mailbox(key).hold is None


def test_provisioning_over_our_hold_is_told(site: Site) -> None:
    key = "user5@example.edu"
    site("hold", key, *BECAUSE)
    site.server.modify(replace(sun_dn("user5"), mailUserStatus="active"))
    again = site("hold", key, *BECAUSE)
    assert again.status == 0
    assert "drift: the directory's status was set to active over our hold; the mail stays" in again.out
    assert site("hold", key, *BECAUSE, "--json").json["holds"][0]["drift"]
    done = site("release", key, *BECAUSE)
    assert (done.status, site.mailbox(key).hold) == (0, None)
    assert raw(site, "user5")[0] == ["active"]


def test_a_hold_that_the_directory_ordered_is_not_ended_by_a_command(site: Site) -> None:
    key = "user6@example.edu"
    site.server.modify(replace(sun_dn("user6"), mailUserStatus="hold"))
    site.follow()
    assert site.mailbox(key).hold.origin == "directory"
    found = site("release", key, *BECAUSE)
    assert found.status == 65
    assert "set the status back there" in found.out


def test_a_directory_that_is_down_leaves_the_hold_here_and_the_same_command_finishes(build: Build, own: Slapd) -> None:
    site = build(own)
    site.follow()
    names = [f"user{number}@example.edu" for number in (1, 2)]
    site.server.kill()
    found = site("hold", *names, *BECAUSE)
    assert found.status == 75
    assert found.out.count("NOT written into the directory people") == 2
    assert "do not copy yet" in found.out
    assert "out of our sight" not in found.out
    held = site("hold", *names, *BECAUSE, "--json").json
    assert [(one["quiet"], bool(one["unwritten"])) for one in held["holds"]] == [(True, True)] * 2
    assert held["exit"] == 75
    moved = site("move", names[0], "--to", "zimbra", *BECAUSE, "--run", "false")
    assert (moved.status, "nothing was copied" in moved.out) == (75, True)
    release = site("release", *names, "--to", "zimbra", *BECAUSE)
    assert release.status == 75
    assert release.out.count("its mail is still held; the same command, repeated, finishes it") == 2
    assert site.mailbox(names[0]).hold is not None
    planned = site("hold", *names, "--dry-run", *BECAUSE, "--json").json["directory"]
    assert [bool(one["error"]) for one in planned] == [True, True]
    unknown = site("hold", "stranger@example.edu", *BECAUSE)
    assert (unknown.status, "the directory people" in unknown.err) == (75, True)
    site.server.start()
    assert site("hold", *names, *BECAUSE).status == 0
    assert raw(site, "user1") == (["hold"], [OLD_HOST])
    assert site("release", *names, "--to", "zimbra", *BECAUSE).status == 0
    assert raw(site, "user2") == (["active"], [NEW_HOST])


def test_the_postmaster_is_not_held_by_a_lookup_either(build: Build, shared: Slapd) -> None:
    """Nothing is known here yet, and the directory has the postmaster on hold, under an alias."""
    site = build(shared)
    site.config.write_text(site.config.read_text().replace("root@example.edu", "chief@example.edu"))
    values = {"mailUserStatus": "hold", "mailAlternateAddress": "chief@example.edu"}
    shared.modify(replace(sun_dn("root"), **values))
    found = site("route", "chief@example.edu", "--json").json["routes"][0]
    assert (found["mailbox"], found["action"]) == ("root@example.edu", "deliver")
    assert site("hold", "root@example.edu", *BECAUSE).status == 65
    assert site.mailbox("root@example.edu").hold is None
    shared.modify(replace(sun_dn("root"), mailUserStatus="active", mailAlternateAddress=None))


def test_one_that_cannot_be_written_does_not_stop_the_others(site: Site) -> None:
    first, second = "user7@example.edu", "user8@example.edu"
    site.server.modify(delete(sun_dn("user7")))
    found = site("hold", first, second, *BECAUSE, "--json")
    assert found.status == 75
    assert [bool(one["unwritten"]) for one in found.json["holds"]] == [True, False]
    assert raw(site, "user8")[0] == ["hold"]
    site("release", second, *BECAUSE)
    hold = site.mailbox(first).hold
    assert site.database.run_read(partial(hold_records.get, number=hold.number)).closed_at is None


def test_a_site_without_a_directory_imports_nothing_of_ldap(site: Site) -> None:
    text = site.config.read_text()
    head = text.partition("directory:")[0]
    site.config.write_text(head)
    code = (
        "import sys; from router.admin.cli.app import run;"
        f"run(['hold', 'nobody@example.edu', '--reason', 'x', '--config', {str(site.config)!r}]);"
        "print([name for name in sys.modules if name.startswith(('ldap3', 'router.directory'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
