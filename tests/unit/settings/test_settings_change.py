from collections.abc import Callable

import pytest

from router.settings.change import refuse_reload
from router.settings.schema import Settings

Read = Callable[..., Settings]

CLIFF = 'cliff: {role: old, hosts: ["cliff.example.edu:25"]}'
ZIMBRA = 'zimbra: {role: new, hosts: ["z.example.edu:25"]}'


def test_an_equal_configuration_is_fine(read: Read) -> None:
    assert refuse_reload(read(), read(), {"cliff": 3, "zimbra": 1}, {}) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("listen", "[{port: 2525}]"),
        ("listen", '[{address: "::", port: 25}, {port: 2525}]'),
        ("state_dir", "/srv/sluice"),
        ("database", "sqlite:////srv/sluice/control.db"),
        ("user", "nobody"),
        ("workers", "2"),
    ],
)
def test_what_needs_a_restart(read: Read, key: str, value: str) -> None:
    assert refuse_reload(read(), read(**{key: value}), {}, {}) == [f"{key} cannot change on reload: restart needed"]


def test_a_home_cannot_be_removed(read: Read) -> None:
    old, new = read(), read(stores="{" + ZIMBRA + "}")
    assert refuse_reload(old, new, {"cliff": 12, "zimbra": 4}, {}) == [
        "store cliff is the home of 12 mailboxes: move them first, then remove it"
    ]
    assert "1 mailbox:" in refuse_reload(old, new, {"cliff": 1}, {})[0]


def test_an_empty_store_can_be_removed(read: Read) -> None:
    assert refuse_reload(read(), read(stores="{" + ZIMBRA + "}"), {"zimbra": 4, "cliff": 0}, {}) == []


def test_a_home_that_was_missing_before_does_not_block_the_repair(read: Read) -> None:
    assert refuse_reload(read(), read(message_size_limit="1 MiB"), {"gone": 3}, {}) == []


def test_a_store_may_change_in_place(read: Read) -> None:
    new = read(stores="{" + CLIFF.replace("cliff.example", "cliff2.example") + ", " + ZIMBRA + "}")
    assert refuse_reload(read(), new, {"cliff": 12}, {}) == []


def test_every_reason_at_once(read: Read) -> None:
    new = read(stores="{" + ZIMBRA + "}", workers="2", state_dir="/srv/sluice")
    assert len(refuse_reload(read(), new, {"cliff": 12}, {})) == 3


def test_a_directory_that_people_come_from_cannot_be_removed_or_renamed(read: Read) -> None:
    source = "[{ldap: {uri: 'ldap://127.0.0.1', base: 'dc=x'%s}}]"
    old = read(directory=source % "")
    for new in (read(), read(directory=source % ", name: other")):
        (reason,) = refuse_reload(old, new, {}, {"ldap": 12, "database": 3})
        assert "directory ldap is where 12 mailboxes come from" in reason
        assert refuse_reload(old, new, {}, {"ldap": 0, "database": 3}) == []
    assert refuse_reload(old, read(directory=source % ", follow: 5s"), {}, {"ldap": 12}) == []
