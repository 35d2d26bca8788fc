"""Recipients of one message by next hop: order, limits, and nobody lost."""

from hypothesis import given
from hypothesis import strategies as st

from router.model.route import Deliver
from router.route.grouping import group


def test_lanes_in_order_chunks_and_twins() -> None:
    routed = [
        (1, Deliver("old", "a@x")),
        (2, Deliver("new", "b@x")),
        (3, Deliver("old", "c@x")),
        (4, Deliver("old", "a@x")),
        (5, Deliver("old", "d@x")),
        (6, Deliver("old", "A@x")),
    ]

    groups = group(routed, {"old": 2, "new": 2}.__getitem__)

    assert [(one.lane, [member.recipient for member in one.members]) for one in groups] == [
        ("old", [1, 3]),
        ("old", [5, 6]),
        ("new", [2]),
    ]
    assert groups[0].members[0].merged == ((4, Deliver("old", "a@x")),)


def test_the_same_address_on_two_lanes_is_two_deliveries() -> None:
    groups = group([(1, Deliver("old", "a@x")), (2, Deliver("new", "a@x"))], lambda _: 100)

    assert len(groups) == 2


ROUTED = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("uvwxyz")), max_size=30)


@given(ROUTED, st.integers(-1, 5))
def test_everybody_is_in_one_place(pairs: list[tuple[str, str]], limit: int) -> None:
    routed = [(number, Deliver(lane, wire)) for number, (lane, wire) in enumerate(pairs)]

    groups = group(routed, lambda _: limit)

    members = [(one, member) for one in groups for member in one.members]
    everybody = [m.recipient for _, m in members] + [twin for _, m in members for twin, _ in m.merged]
    assert sorted(everybody) == list(range(len(pairs)))
    assert all(len(one.members) <= max(1, limit) for one in groups)
    assert all(member.route.lane == one.lane for one, member in members)
    assert all(
        twin > member.recipient and route == member.route for _, member in members for twin, route in member.merged
    )
    for lane in "abc":
        order = [member.recipient for one, member in members if one.lane == lane]
        assert order == sorted(order)
        assert len({member.route.wire for one, member in members if one.lane == lane}) == len(order)
