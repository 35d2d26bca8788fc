"""Every form of address that a list manager has."""

import pytest

from router.classify.families import families
from router.classify.lists import ListConflict, ListMatch, ListTable, MailingList
from router.errors import BadRouteData

MAILMAN = ["admin", "bounces", "confirm", "join", "leave", "owner", "request", "subscribe", "unsubscribe"]
FORMS = {
    "mailman2": [f"news-{word}" for word in MAILMAN],
    "mailman3": [f"news-{word}" for word in MAILMAN],
    "majordomo": [
        "news-request",
        "news-owner",
        "owner-news",
        "news-approval",
        "news-outgoing",
        "news-outgoing-request",
        "owner-news-outgoing",
        "news-digest",
        "news-digest-request",
        "news-digest-approval",
        "news-digest-outgoing",
        "owner-news-digest",
        "owner-news-digest-outgoing",
        "news-moderator",
        "news-subscribe",
        "news-subscribe-digest",
        "news-subscribe-digest-weekly",
        "news-subscribe-each",
        "news-subscribe-nomail",
        "news-subscribe-unique",
        "news-unsubscribe",
    ],
}
SITE = {
    "mailman2": ["mailman", "mailman-loop", "mailman-owner", "mailman-request", "mailman-bounces"],
    "mailman3": ["noreply"],
    "majordomo": ["majordomo", "majordomo-owner", "owner-majordomo"],
}


def table(*lists: tuple[str, str, str]) -> ListTable:
    return ListTable(MailingList(f"{name}@example.edu", store, manager) for name, store, manager in lists)


@pytest.mark.parametrize(("manager", "local"), [(m, local) for m, forms in FORMS.items() for local in forms])
def test_every_form_leads_to_the_list(manager: str, local: str) -> None:
    lists = table(("news", "cliff", manager))

    assert lists.family(local, "example.edu") == ListMatch("news@example.edu", "cliff", (manager,))
    assert lists.posting(f"{local}@example.edu") is None
    assert lists.family(local, "other.example") is None


@pytest.mark.parametrize(("manager", "local"), [(m, local) for m, sites in SITE.items() for local in sites])
def test_addresses_of_the_manager_itself(manager: str, local: str) -> None:
    lists = table(("news", "cliff", manager))

    assert lists.site(local, "example.edu") == ListMatch("", "cliff", ())
    assert lists.site(local, "other.example") is None


@pytest.mark.parametrize("manager", FORMS)
def test_the_family_written_out(manager: str) -> None:
    written = families(manager).addresses("news")

    assert written >= {"news", *FORMS[manager]} - {"news-subscribe-digest-weekly"}
    assert all(table(("news", "x", manager)).family(local, "example.edu") for local in written - {"news"})


@pytest.mark.parametrize(
    ("manager", "local"),
    [
        ("mailman2", "news"),
        ("mailman2", "news-foo"),
        ("mailman2", "owner-news"),
        ("mailman2", "news-approval"),
        ("mailman2", "news-request-request"),
        ("mailman2", "-request"),
        ("mailman3", "mailman"),
        ("majordomo", "news-bounces"),
        ("majordomo", "news-weekly"),
        ("majordomo", "news-subscribe-digest-"),
        ("majordomo", "owner-news-request"),
        ("majordomo", "owner-"),
        ("majordomo", "owner-other"),
        ("majordomo", "x-news-request"),
    ],
)
def test_f5_other_suffixes_are_nobody(manager: str, local: str) -> None:
    assert table(("news", "cliff", manager)).family(local, "example.edu") is None


def test_f1_the_longest_list_name_wins() -> None:
    lists = table(("news", "cliff", "majordomo"), ("news-digest", "zimbra", "majordomo"))

    match = lists.family("news-digest-request", "example.edu")

    assert match is not None
    assert match.base == "news-digest@example.edu"
    assert lists.posting("news-digest@example.edu") == ListMatch("news-digest@example.edu", "zimbra", ("majordomo",))


def test_f7_a_list_in_conversion_has_both_families() -> None:
    lists = table(("news", "cliff", "majordomo"), ("news", "cliff", "mailman2"))
    both = ("majordomo", "mailman2")

    assert len(lists) == len(list(lists)) == 1
    assert lists.posting("news@example.edu") == ListMatch("news@example.edu", "cliff", both)
    assert lists.family("news-request", "example.edu") == ListMatch("news@example.edu", "cliff", both)
    assert lists.family("news-approval", "example.edu") == ListMatch(
        "news@example.edu", "cliff", ("majordomo",), legacy=True
    )
    assert lists.family("owner-news", "example.edu") is not None
    assert lists.family("news-bounces", "example.edu") is not None


def test_a_list_on_two_stores_is_an_error() -> None:
    with pytest.raises(ListConflict, match=r"news@example.edu is on two stores: cliff \(\?\) and zimbra"):
        table(("news", "cliff", "majordomo"), ("news", "zimbra", "mailman2"))


def test_a_manager_on_two_stores_is_no_guess() -> None:
    lists = table(("news", "cliff", "mailman2"), ("talk", "zimbra", "mailman2"))

    with pytest.raises(BadRouteData, match="services"):
        lists.site("mailman", "example.edu")
    assert lists.family("talk-request", "example.edu") is not None


def test_a_long_local_part_full_of_hyphens_is_cheap() -> None:
    assert table(("news", "cliff", "majordomo")).family("-".join("a" * 160), "example.edu") is None
