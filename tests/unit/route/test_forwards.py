"""Forwards, groups, routing addresses and problems: one route each, and none that loses or doubles mail."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.daemon.signer import MarkSigner
from router.model.address import Address, parse_address
from router.model.envelope import Client, Envelope, HeaderFacts, QueuedMessage
from router.model.mailbox import Hold, Mailbox, Status
from router.model.route import Classification, Deliver, DispatchFacts, Expand, Held, Kind, Later, Park, Refuse, Route
from router.route import replies
from router.route.forwards import HOPS, MAX_TARGETS
from router.route.routing import Routing

NOW = 1_000_000.0
PROTECT = 7 * 86_400.0
KEYS = (b"n" * 32,)
HOLD = Hold(number=7, opened_at=NOW, opened_epoch=3)
ROUTING = Routing(frozenset({"cliff", "zimbra"}), frozenset({"zimbra"}), False, PROTECT, 86_400.0, KEYS)
KEY = "joe@example.edu"
JOE = Mailbox(KEY, "cliff", forwards=("ann@example.edu", "Joe@Outside.example"), keeps=True)
ANN = Mailbox("ann@example.edu", "zimbra")


def found(mailbox: Mailbox = JOE, given: str = "Joe@Example.edu", kind: Kind = Kind.MAILBOX) -> Classification:
    return Classification(parse_address(given), kind, 5, mailbox, canonical=mailbox.key, chain=(mailbox.key,))


def dispatch(mailbox: Mailbox = JOE, given: str = "Joe@Example.edu", **facts: object) -> Route:
    return ROUTING.at_dispatch(found(mailbox, given), DispatchFacts(**facts), NOW)  # type: ignore[arg-type]


def targets(route: Route) -> list[str]:
    assert isinstance(route, Expand)
    return [target.wire for target in route.targets]


@pytest.mark.parametrize("keeps", [True, False])
def test_forwards_are_expanded_at_reception_and_dispatch(keeps: bool) -> None:
    mailbox = replace(JOE, keeps=keeps)
    addresses = tuple(map(parse_address, JOE.forwards))
    expected = Expand(KEY, addresses, keeps, (KEY,))
    assert ROUTING.at_reception(found(mailbox), NOW) == dispatch(mailbox) == expected


def test_target_named_twice_is_one() -> None:
    twice = replace(JOE, forwards=("ann@example.edu", "Ann@EXAMPLE.edu", '"ann"@example.edu'))
    assert targets(dispatch(twice)) == ["ann@example.edu"]


def test_hold_comes_before_forward_and_problem() -> None:
    assert dispatch(replace(JOE, hold=HOLD, problem="x")) == Held(KEY, HOLD)


def test_problem_comes_before_everything_else() -> None:
    for status in Status:
        wanted = Later(replies.BAD_ROUTE_DATA, KEY, why="two hosts")
        mailbox = replace(JOE, status=status, problem="two hosts")
        assert ROUTING.at_reception(found(mailbox), NOW) == dispatch(mailbox) == wanted


def test_status_comes_before_forward() -> None:
    assert ROUTING.at_reception(found(replace(JOE, status=Status.DISABLED)), NOW) == Refuse(replies.DISABLED, KEY)
    assert dispatch(replace(JOE, status=Status.INACTIVE)) == Later(replies.SUSPENDED, KEY)
    assert dispatch(replace(JOE, status=Status.OVERQUOTA)) == Later(replies.OVERQUOTA, KEY)


# --- the routing address --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("home", ["cliff", "zimbra"])
def test_home_sees_the_routing_address(home: str) -> None:
    route = dispatch(Mailbox(KEY, home, route="J.Smith@inside.example"))
    assert route == Deliver(home, "J.Smith@inside.example", KEY, (KEY,))


def test_routing_address_without_a_home_is_a_forward_without_a_copy() -> None:
    assert dispatch(Mailbox(KEY, "", route="joe@outside.example")) == Expand(
        KEY, (parse_address("joe@outside.example"),), False, (KEY,)
    )
    both = Mailbox(KEY, "", forwards=("ann@example.edu",), keeps=True, route="joe@outside.example")
    route = dispatch(both)
    assert targets(route) == ["ann@example.edu", "joe@outside.example"]
    assert isinstance(route, Expand)
    assert not route.keeps


# --- the way --------------------------------------------------------------------------------------------------------


def test_copy_goes_to_the_home_and_is_not_expanded_again() -> None:
    for keeps in (True, False):
        copy = dispatch(replace(JOE, keeps=keeps), via=(KEY,))
        assert copy == Deliver("cliff", "Joe@Example.edu", KEY, (KEY,))
    copy = dispatch(replace(JOE, route="x@inside.example"), via=("ann@example.edu", KEY))
    assert copy == Deliver("cliff", "x@inside.example", KEY, (KEY,))


def test_circle_is_temporary_unless_a_copy_was_kept_on_it() -> None:
    via = ("carl@example.edu", KEY, "ann@example.edu")
    for kept in ((), ("carl@example.edu",)):
        route = dispatch(via=via, kept=kept)
        assert isinstance(route, Later)
        assert (route.reply, route.mailbox, route.loop, route.unknown) == (replies.BAD_ROUTE_DATA, KEY, True, False)
        assert route.why.endswith("joe@example.edu > ann@example.edu > joe@example.edu")
    for kept in ((KEY,), ("ann@example.edu",)):
        assert dispatch(via=via, kept=kept) == Expand(KEY, (), False, (KEY,))


def test_mailbox_on_the_way_that_forwards_no_more_is_delivered_to() -> None:
    assert isinstance(dispatch(Mailbox(KEY, "cliff"), via=(KEY, "ann@example.edu")), Deliver)


def test_chain_of_forwards_has_a_limit() -> None:
    via = tuple(f"u{at}@example.edu" for at in range(HOPS))
    assert isinstance(dispatch(via=via[:-1]), Expand)
    route = dispatch(via=via)
    assert isinstance(route, Later)
    assert route.loop
    assert isinstance(dispatch(ANN, "ann@example.edu", via=via), Deliver), "the end of a chain is no further forward"


def test_too_many_targets_are_temporary() -> None:
    many = tuple(f"u{at}@outside.example" for at in range(MAX_TARGETS + 1))
    assert isinstance(dispatch(replace(JOE, forwards=many[1:])), Expand)
    route = dispatch(replace(JOE, forwards=many))
    assert isinstance(route, Later)
    assert (route.reply, route.loop) == (replies.BAD_ROUTE_DATA, False)
    assert "101" in route.why


@pytest.mark.parametrize("wire", ["", "nonsense", "a b@c.example", "postmaster", "@", "@bad domain"])
def test_target_that_is_no_address_makes_the_mail_wait(wire: str) -> None:
    route = dispatch(replace(JOE, forwards=("ann@example.edu", wire)))
    assert isinstance(route, Later)
    assert route.reply == replies.BAD_ROUTE_DATA
    assert route.why


def test_hold_of_anybody_on_the_way_holds() -> None:
    held = replace(JOE, hold=HOLD)
    for mailbox in (ANN, replace(ANN, status=Status.DISABLED), replace(ANN, problem="x")):
        assert dispatch(mailbox, "ann@example.edu", via=(KEY,), chain=(held,)) == Held(KEY, HOLD)
    outside = Classification(parse_address("joe@outside.example"), Kind.FOREIGN, 5)
    facts = DispatchFacts(via=(KEY,), chain=(held,))
    assert ROUTING.at_dispatch(outside, facts, NOW) == Held(KEY, HOLD)
    unknown = Classification(parse_address("gone@example.edu"), Kind.UNKNOWN, 5)
    assert ROUTING.at_dispatch(unknown, replace(facts, unknown_since=0.0), NOW) == Held(KEY, HOLD)


def test_own_hold_comes_first() -> None:
    other = Hold(number=8, opened_at=NOW, opened_epoch=4)
    route = dispatch(replace(ANN, hold=other), "ann@example.edu", via=(KEY,), chain=(replace(JOE, hold=HOLD),))
    assert route == Held("ann@example.edu", other)


def test_unknown_target_is_not_returned_while_anybody_on_the_way_is_protected() -> None:
    unknown = Classification(parse_address("gone@example.edu"), Kind.UNKNOWN, 5)
    facts = DispatchFacts(unknown_since=0.0, via=(KEY,), chain=(replace(JOE, moved_at=NOW - 60),))
    assert ROUTING.at_dispatch(unknown, facts, NOW) == Later(replies.UNKNOWN_LATER, unknown=True)
    facts = replace(facts, chain=(replace(JOE, moved_at=NOW - PROTECT),))
    assert ROUTING.at_dispatch(unknown, facts, NOW) == Refuse(replies.UNKNOWN)


# --- loop marks -----------------------------------------------------------------------------------------------------


def marks(lane: str, *forwarded: str) -> tuple[str, ...]:
    """What our own field says of a message that went out through `lane`."""
    signer = MarkSigner("mx.example.edu", KEYS[0], {"cliff", "zimbra"}.__contains__)
    message = QueuedMessage(1, "00010000000A", 0.0, Envelope("", Client("")), 1, HeaderFacts())
    field = signer.received_field(message, lane, [("ann@example.edu", "ann@example.edu")], forwarded).decode()
    tokens = field.partition("(mark")[2].partition(")")[0].split()
    return (f"00010000000A:{','.join(tokens)}",) if tokens else ()


@pytest.mark.parametrize("lane", ["zimbra", "mx:outside.example", "smarthost"])
def test_what_was_forwarded_and_comes_back_is_parked(lane: str) -> None:
    sent = marks(lane, "carl@example.edu", KEY)
    assert sent
    assert dispatch(marks=sent) == Park("loop: forwarded before", KEY)
    assert isinstance(dispatch(replace(JOE, key="dan@example.edu"), marks=sent), Expand)
    # The mark is about the forward: the home, and who receives mail without forwarding it, are not concerned.
    assert isinstance(dispatch(Mailbox(KEY, "cliff"), marks=sent), Deliver)


def test_what_leaves_the_site_without_a_forward_has_no_mark() -> None:
    assert marks("mx:outside.example") == ()


# --- groups ---------------------------------------------------------------------------------------------------------


def test_group_goes_to_its_home_and_is_never_held() -> None:
    group = Mailbox("all@example.edu", "cliff", kind="list")
    for one in (group, replace(group, hold=HOLD)):
        given = found(one, "All@example.edu", Kind.LIST)
        expected = Deliver("cliff", "All@example.edu", "all@example.edu", ("all@example.edu",))
        assert ROUTING.at_reception(given, NOW) == ROUTING.at_dispatch(given, DispatchFacts(), NOW) == expected
    homeless = found(replace(group, home=""), "all@example.edu", Kind.LIST)
    assert ROUTING.at_reception(homeless, NOW) == Later(replies.BAD_ROUTE_DATA, "all@example.edu")


@pytest.mark.parametrize(("status", "reply"), [(Status.INACTIVE, 450), (Status.DISABLED, 550), (Status.DELETED, 550)])
def test_status_of_a_group_is_obeyed(status: Status, reply: int) -> None:
    group = found(Mailbox("all@example.edu", "cliff", kind="list", status=status), "all@example.edu", Kind.LIST)
    route = ROUTING.at_reception(group, NOW)
    assert isinstance(route, Refuse | Later)
    assert route.reply.code == reply


# --- catch-alls -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ("Some.Body+X@example.edu", "Some.Body+X@other.example"),
        ('"a b"@example.edu', '"a b"@other.example'),
        ("postmaster", "postmaster@other.example"),
    ],
)
def test_domain_as_target_is_the_local_part_as_received(given: str, target: str) -> None:
    for way in ({"forwards": ("@other.example",), "keeps": False}, {"route": "@other.example"}):
        mailbox = replace(Mailbox("any@example.edu", ""), **way)
        assert targets(dispatch(mailbox, given)) == [target]


ADDRESSES = st.sampled_from(["a@example.edu", "B@example.edu", "c@outside.example", "", "x", "@other.example"])
BOXES = st.builds(
    Mailbox,
    st.sampled_from([KEY, "a@example.edu"]),
    st.sampled_from(["cliff", "zimbra", "", "gone"]),
    st.sampled_from(list(Status)),
    st.none() | st.just(HOLD),
    moved_at=st.none() | st.just(NOW),
    kind=st.sampled_from(["mailbox", "list"]),
    forwards=st.lists(ADDRESSES, max_size=3).map(tuple),
    keeps=st.booleans(),
    route=ADDRESSES,
    problem=st.sampled_from(["", "odd"]),
)
WAYS = st.lists(st.sampled_from([KEY, "a@example.edu", "m@example.edu"]), max_size=12).map(tuple)


@given(BOXES, WAYS, WAYS, st.lists(BOXES, max_size=2).map(tuple), st.none() | st.just(0.0))
def test_every_mailbox_has_a_route_and_nobody_on_hold_is_passed(
    mailbox: Mailbox, via: tuple[str, ...], kept: tuple[str, ...], chain: tuple[Mailbox, ...], since: float | None
) -> None:
    kind = Kind.LIST if mailbox.kind == "list" else Kind.MAILBOX
    facts = DispatchFacts(since, (), via, kept, chain)
    route = ROUTING.at_dispatch(found(mailbox, "Joe@example.edu", kind), facts, NOW)
    holds = [one for one in (mailbox, *chain) if one.hold is not None and one.kind != "list"]
    assert isinstance(route, Held) == bool(holds)
    if isinstance(route, Deliver):
        assert route.lane in ROUTING.stores
        assert not mailbox.problem
    if isinstance(route, Expand):
        assert (route.targets or route.keeps) != (mailbox.key in via)
        assert len(via) < HOPS or not route.targets
        assert all(isinstance(target, Address) and target.domain for target in route.targets)
