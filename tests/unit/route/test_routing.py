"""Every classification, at any time, has exactly one route, and the promises about it hold."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.model.address import parse_address
from router.model.mailbox import Hold, Mailbox, Status
from router.model.route import Classification, Deliver, DispatchFacts, Held, Kind, Later, Park, Refuse, Route
from router.route import replies
from router.route.marks import sign
from router.route.routing import Routing
from router.settings.schema import Settings

NOW = 1_000_000.0
GRACE, PROTECT = 86_400.0, 7 * 86_400.0
KEYS = (b"n" * 32, b"o" * 32)
HOLD = Hold(number=7, opened_at=NOW, opened_epoch=3)
ROUTING = Routing(
    stores=frozenset({"cliff", "zimbra"}),
    canonical_stores=frozenset({"zimbra"}),
    smarthost=False,
    protect=PROTECT,
    unknown_grace=GRACE,
    mark_keys=KEYS,
)
JOE = Mailbox("joe@example.edu", "cliff")


def mailbox_found(mailbox: Mailbox | None = JOE, given: str = "Joe@Example.edu", **more: object) -> Classification:
    base = Classification(
        parse_address(given),
        Kind.MAILBOX,
        5,
        mailbox,
        canonical="joe@example.edu",
        chain=(mailbox.key,) if mailbox else (),
    )
    return dataclasses.replace(base, **more)  # type: ignore[arg-type]


def dispatch(found: Classification, *, since: float | None = None, now: float = NOW) -> Route:
    return ROUTING.at_dispatch(found, DispatchFacts(unknown_since=since), now)


@pytest.mark.parametrize(
    ("status", "reception"),
    [
        (Status.ACTIVE, Deliver("cliff", "Joe@Example.edu", "joe@example.edu", ("joe@example.edu",))),
        (Status.OVERQUOTA, Later(replies.OVERQUOTA, "joe@example.edu")),
        (Status.INACTIVE, Later(replies.SUSPENDED, "joe@example.edu")),
        (Status.DISABLED, Refuse(replies.DISABLED, "joe@example.edu")),
        (Status.DELETED, Refuse(replies.UNKNOWN, "joe@example.edu")),
        (Status.REMOVED, Refuse(replies.UNKNOWN, "joe@example.edu")),
    ],
)
def test_status_at_reception(status: Status, reception: Route) -> None:
    found = mailbox_found(dataclasses.replace(JOE, status=status))

    assert ROUTING.at_reception(found, NOW) == reception


@pytest.mark.parametrize("status", list(Status))
def test_an_open_hold_wins_over_every_status(status: Status) -> None:
    found = mailbox_found(dataclasses.replace(JOE, status=status, hold=HOLD, home="nowhere"))

    assert ROUTING.at_reception(found, NOW) == Held("joe@example.edu", HOLD)
    assert dispatch(found, since=0.0) == Held("joe@example.edu", HOLD)


def test_an_open_hold_wins_over_a_forward() -> None:
    found = mailbox_found(dataclasses.replace(JOE, hold=HOLD), kind=Kind.FORWARD, delivery="joe@elsewhere.example")

    assert dispatch(found) == Held("joe@example.edu", HOLD)


@pytest.mark.parametrize("home", ["", "unheard-of"])
def test_inv_37_a_home_that_is_no_store_is_temporary(home: str) -> None:
    found = mailbox_found(dataclasses.replace(JOE, home=home))

    assert ROUTING.at_reception(found, NOW) == Later(replies.BAD_ROUTE_DATA, "joe@example.edu")
    assert dispatch(found, since=0.0) == Later(replies.BAD_ROUTE_DATA, "joe@example.edu")


def test_a_store_that_knows_only_canonical_addresses_gets_one() -> None:
    found = mailbox_found(dataclasses.replace(JOE, home="zimbra"), given="j.smith+X@msd.example.edu")
    found = dataclasses.replace(found, canonical="joe+X@example.edu", extension="X")

    assert dispatch(found) == Deliver("zimbra", "joe+X@example.edu", "joe@example.edu", ("joe@example.edu",))


@pytest.mark.parametrize("kind", [Kind.LIST, Kind.SERVICE, Kind.UNKNOWN])
def test_what_has_a_store_goes_there(kind: Kind) -> None:
    found = Classification(parse_address("News@example.edu"), kind, 1, store="cliff")

    assert ROUTING.at_reception(found, NOW) == dispatch(found) == Deliver("cliff", "News@example.edu")


def test_unknown_is_refused_at_reception_only() -> None:
    found = Classification(parse_address("x@example.edu"), Kind.UNKNOWN, 1)

    assert ROUTING.at_reception(found, NOW) == Refuse(replies.UNKNOWN)
    assert dispatch(found) == Later(replies.UNKNOWN_LATER, unknown=True)
    assert dispatch(found, since=NOW - GRACE + 1) == Later(replies.UNKNOWN_LATER, unknown=True)
    assert dispatch(found, since=NOW - GRACE) == Refuse(replies.UNKNOWN)


def test_a_clock_that_went_back_does_not_end_the_grace() -> None:
    found = Classification(parse_address("x@example.edu"), Kind.UNKNOWN, 1)

    assert dispatch(found, since=NOW + 10 * GRACE) == Later(replies.UNKNOWN_LATER, unknown=True)


@pytest.mark.parametrize("status", [Status.DISABLED, Status.DELETED, Status.REMOVED])
def test_accepted_mail_of_a_protected_mailbox_is_never_returned(status: Status) -> None:
    protected = mailbox_found(dataclasses.replace(JOE, status=status, moved_at=NOW - PROTECT + 1))
    settled = mailbox_found(dataclasses.replace(JOE, status=status, moved_at=NOW - PROTECT))

    assert isinstance(dispatch(protected, since=0.0), Later)
    assert isinstance(dispatch(settled, since=0.0), Refuse)
    assert isinstance(dispatch(settled, since=None), Later)


@pytest.mark.parametrize(
    ("smarthost", "lane"), [(False, "mx:elsewhere.example"), (True, "smarthost")], ids=["mx", "smarthost"]
)
def test_foreign_mail_leaves(smarthost: bool, lane: str) -> None:
    routing = dataclasses.replace(ROUTING, smarthost=smarthost)
    found = Classification(parse_address("A.B@Elsewhere.Example"), Kind.FOREIGN, 1)

    assert routing.at_dispatch(found, DispatchFacts(), NOW) == Deliver(lane, "A.B@Elsewhere.Example")


def test_a_forward_goes_to_its_own_domain() -> None:
    found = Classification(
        parse_address("postmaster@example.edu"), Kind.FORWARD, 1, delivery="root@b\u00fccher.example"
    )

    assert dispatch(found) == Deliver("mx:xn--bcher-kva.example", "root@b\u00fccher.example")


@pytest.mark.parametrize("delivery", ["", "nonsense", "postmaster", "a@b@c"])
def test_a_forward_to_no_address_is_temporary(delivery: str) -> None:
    found = Classification(parse_address("joe@example.edu"), Kind.FORWARD, 1, delivery=delivery)

    assert dispatch(found) == Later(replies.BAD_ROUTE_DATA)


@pytest.mark.parametrize(
    "found",
    [
        Classification(parse_address("PostMaster"), Kind.SERVICE, 1),
        Classification(parse_address("postmaster@example.edu"), Kind.UNKNOWN, 1),
        mailbox_found(dataclasses.replace(JOE, status=Status.DISABLED), given="postmaster@example.edu"),
        mailbox_found(dataclasses.replace(JOE, status=Status.INACTIVE), given="postmaster"),
        mailbox_found(dataclasses.replace(JOE, home="nowhere"), given="postmaster@example.edu"),
    ],
    ids=["unresolved", "unknown", "disabled", "inactive", "homeless"],
)
def test_postmaster_is_always_accepted_and_never_returned(found: Classification) -> None:
    accepted = ROUTING.at_reception(found, NOW)

    assert isinstance(accepted, Deliver)
    assert accepted.lane == ""
    assert isinstance(dispatch(found, since=0.0, now=NOW + 100 * GRACE), Later)


def test_postmaster_elsewhere_is_nothing_special() -> None:
    found = Classification(parse_address("postmaster@elsewhere.example"), Kind.FOREIGN, 1)

    assert ROUTING.at_reception(found, NOW) == Deliver("mx:elsewhere.example", "postmaster@elsewhere.example")


# --- loops --------------------------------------------------------------------------------------------------------


def facts(key: bytes, subject: str, store: str) -> DispatchFacts:
    return DispatchFacts(marks=(f"Q1:AAAA,{sign(key, 'Q1', subject, store)}",))


@pytest.mark.parametrize("key", KEYS)
def test_inv_73_what_was_at_that_store_for_that_mailbox_is_parked(key: bytes) -> None:
    # By another of the mailbox's addresses, too.
    found = mailbox_found(given="j.smith@msd.example.edu")

    route = ROUTING.at_dispatch(found, facts(key, "joe@example.edu", "cliff"), NOW)

    assert route == Park("loop: delivered to cliff before", "joe@example.edu")


@pytest.mark.parametrize(
    "marks",
    [
        facts(KEYS[0], "joe@example.edu", "zimbra"),
        facts(KEYS[0], "ann@example.edu", "cliff"),
        facts(b"x" * 32, "joe@example.edu", "cliff"),
        DispatchFacts(marks=("garbage", ":", "Q:", "", "Q:\udcff")),
    ],
    ids=["another store", "another mailbox", "not our key", "garbage"],
)
def test_other_marks_are_no_loop(marks: DispatchFacts) -> None:
    assert isinstance(ROUTING.at_dispatch(mailbox_found(), marks, NOW), Deliver)


def test_a_list_is_marked_by_its_address() -> None:
    found = Classification(parse_address("News@Example.edu"), Kind.LIST, 1, store="cliff")

    assert isinstance(ROUTING.at_dispatch(found, facts(KEYS[0], "news@example.edu", "cliff"), NOW), Park)


def test_what_leaves_the_site_is_not_looked_at() -> None:
    found = Classification(parse_address("a@b.example"), Kind.FOREIGN, 1)

    assert isinstance(ROUTING.at_dispatch(found, facts(KEYS[0], "a@b.example", "mx:b.example"), NOW), Deliver)


def test_from_settings() -> None:
    settings = Settings.model_validate(
        {
            "hostname": "mx.example.edu",
            "state_dir": "/tmp/x",
            "listen": (),
            "postmaster": "root@example.edu",
            "stores": {
                "old": {"role": "old", "hosts": ()},
                "new": {"role": "new", "hosts": (), "recipient": "canonical"},
            },
            "domains": {},
            "outbound": {"smarthost": {"host": "relay.example.edu", "port": 25}},
        }
    )

    routing = Routing.from_settings(settings, KEYS)

    assert routing == Routing(frozenset({"old", "new"}), frozenset({"new"}), True, PROTECT, GRACE, KEYS)


# --- properties ---------------------------------------------------------------------------------------------------

TIMES = st.floats(min_value=0, max_value=4e9)
HOLDS = st.builds(Hold, number=st.integers(1, 9), opened_at=TIMES, opened_epoch=st.integers(0, 9))
STORES = st.sampled_from(["cliff", "zimbra", "unheard-of", ""])
MAILBOXES = st.builds(
    Mailbox,
    key=st.sampled_from(["joe@example.edu", "ann@example.edu"]),
    home=STORES,
    status=st.sampled_from(Status),
    hold=st.none() | HOLDS,
    moved_at=st.none() | TIMES,
)
ADDRESSES = st.sampled_from(
    [
        parse_address(text)
        for text in ("Joe@example.edu", "postmaster@example.edu", "postmaster", '"a@b"@c.example', "a@[192.0.2.1]")
    ]
)
FOUND = st.builds(
    Classification,
    address=ADDRESSES,
    kind=st.sampled_from(Kind),
    epoch=st.integers(0, 9),
    mailbox=st.none() | MAILBOXES,
    store=STORES,
    delivery=st.sampled_from(["", "x@y.example", "junk"]),
    canonical=st.sampled_from(["", "joe@example.edu"]),
    chain=st.sampled_from([(), ("joe@example.edu",)]),
)


@given(FOUND, st.builds(DispatchFacts, unknown_since=st.none() | TIMES), TIMES)
def test_routing_is_total_and_keeps_its_promises(found: Classification, told: DispatchFacts, now: float) -> None:
    reception, route = ROUTING.at_reception(found, now), ROUTING.at_dispatch(found, told, now)

    assert isinstance(reception, Deliver | Held | Refuse | Later)
    held = found.mailbox is not None and found.mailbox.hold is not None
    assert isinstance(reception, Held) == held
    assert isinstance(route, Held) == held
    if isinstance(route, Deliver):
        assert route.lane
        assert route.lane in ROUTING.stores or route.lane.startswith("mx:")
        assert found.mailbox is None or found.mailbox.key in route.keys
    if isinstance(route, Refuse):
        assert told.unknown_since is not None
        assert now - told.unknown_since >= GRACE
        assert found.mailbox is None or not found.mailbox.protected(now, PROTECT)
    if isinstance(route, Later | Refuse):
        assert (route.reply.code >= 500) == isinstance(route, Refuse)
