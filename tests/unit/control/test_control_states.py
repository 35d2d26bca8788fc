from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from router.control import states
from router.control.states import HELD, TABLE, Event, State, Then, decide, state_of
from router.model.mailbox import Hold, Mailbox, Status

PAGE = Path(__file__).parents[3] / "docs" / "states.md"
PAIRS = [(state, event) for state in State for event in Event]


def test_the_page_is_drawn_from_the_table() -> None:
    assert PAGE.read_text() == states.as_page()


def test_every_pair_has_an_answer() -> None:
    assert set(TABLE) == set(State)
    assert all(set(row) == set(Event) for row in TABLE.values())


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_a_refusal_has_a_text_and_changes_nothing(state: State, event: Event) -> None:
    decision = decide(state, event, kept=Status.ACTIVE)
    refused = TABLE[state][event].then is Then.REFUSE
    assert bool(decision.conflict) == refused
    if refused:
        assert decision.state is state


@given(
    some.sampled_from(State), some.sampled_from(Event), some.sampled_from(Status), some.sampled_from(Status),
    some.booleans(),
)  # fmt: skip
def test_the_kept_status_always_comes_back(
    state: State, event: Event, kept: Status, wanted: Status, force: bool
) -> None:
    """H13: whatever happens to a held mailbox, it ends in the status behind the hold, never simply active."""
    start = State(kept.value) if state not in HELD else state
    decision = decide(start, event, kept=kept, given=wanted, force=force)
    if decision.state not in HELD:
        assert decision.state.value == (wanted if event is Event.SET_STATUS else kept).value
    elif start in HELD:
        assert decision.conflict == "" or decision.state is start


@given(some.lists(some.tuples(some.sampled_from(Event), some.booleans()), max_size=30))
def test_quiet_is_only_reached_by_a_barrier_after_the_last_reopening(events: list[tuple[Event, bool]]) -> None:
    state, proven = State.ACTIVE, False
    for event, force in events:
        before = state
        state = decide(state, event, kept=Status.ACTIVE, force=force).state
        if state is State.QUIET:
            proven = proven or (before is State.CLOSING and event is Event.BARRIER)
            assert proven
        else:
            proven = False


def test_state_of_a_mailbox() -> None:
    hold = Hold(1, 0.0, 1)
    assert state_of(Mailbox("a@b", "cliff", Status.DISABLED)) is State.DISABLED
    assert state_of(Mailbox("a@b", "cliff", Status.DISABLED, hold)) is State.CLOSING
    assert state_of(Mailbox("a@b", "cliff", hold=Hold(1, 0.0, 1, quiet_at=2.0))) is State.QUIET
