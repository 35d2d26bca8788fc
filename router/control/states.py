"""
The state machine of a mailbox: one table, from which the picture in the documentation is drawn.

Guarantees: total (every pair of state and event has an answer), pure, and the only place that says what may follow
what. A hold keeps the status it found; its end restores that status, never simply `active`.
"""

from dataclasses import dataclass
from enum import StrEnum

from router.model.mailbox import Mailbox, Status


class State(StrEnum):
    """Where a mailbox stands. The first two are an open hold; the status is kept behind it."""

    CLOSING = "closing"
    """On hold, but the barrier is still pending: deliveries may be under way."""
    QUIET = "quiet"
    """On hold, and the barrier has passed: it may be copied."""
    ACTIVE = "active"
    INACTIVE = "inactive"
    DISABLED = "disabled"
    OVERQUOTA = "overquota"
    DELETED = "deleted"
    REMOVED = "removed"


class Event(StrEnum):
    """What can happen to a mailbox."""

    HOLD = "hold"
    BARRIER = "barrier"
    RELEASE = "release"
    SET_STATUS = "set status"
    SET_HOME = "set home"
    SET_ADDRESSES = "set addresses"


class Then(StrEnum):
    """What follows, as the table says it."""

    STAY = "stay"
    CLOSING = "closing"
    QUIET = "quiet"
    KEPT = "the kept status"
    GIVEN = "the given status"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Step:
    """One cell: what follows, what follows with `--force`, and the text of a refusal."""

    then: Then
    text: str = ""
    forced: Then | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """`state` is what follows; `conflict` says why nothing may happen ('' when it may)."""

    state: State
    conflict: str = ""


HELD = frozenset({State.CLOSING, State.QUIET})
_STATUSES = tuple(state for state in State if state not in HELD)
_LEAVING = frozenset({State.DELETED, State.REMOVED})

_NOT_HELD = Step(Then.REFUSE, "it is not on hold")
_HOME_HELD = Step(Then.REFUSE, "it is on hold; its home changes with `release --to`, or with --force", Then.STAY)
_ADDRESS_HELD = Step(
    Then.REFUSE, "it is on hold; moving its addresses needs --force and runs the barrier again", Then.CLOSING
)


def _plain(state: State) -> dict[Event, Step]:
    hold = Step(Then.REFUSE, f"it is {state}") if state in _LEAVING else Step(Then.CLOSING)
    return {
        Event.HOLD: hold,
        Event.BARRIER: _NOT_HELD,
        Event.RELEASE: _NOT_HELD,
        Event.SET_STATUS: Step(Then.GIVEN),
        Event.SET_HOME: Step(Then.STAY),
        Event.SET_ADDRESSES: Step(Then.STAY),
    }


def _held(barrier: Step) -> dict[Event, Step]:
    return {
        Event.HOLD: Step(Then.STAY),
        Event.BARRIER: barrier,
        Event.RELEASE: Step(Then.KEPT),
        Event.SET_STATUS: Step(Then.STAY),
        Event.SET_HOME: _HOME_HELD,
        Event.SET_ADDRESSES: _ADDRESS_HELD,
    }


TABLE: dict[State, dict[Event, Step]] = {
    State.CLOSING: _held(Step(Then.QUIET)),
    State.QUIET: _held(Step(Then.STAY)),
    **{state: _plain(state) for state in _STATUSES},
}


def state_of(mailbox: Mailbox) -> State:
    """The state of a mailbox as read from the database."""
    if mailbox.hold is not None:
        return State.CLOSING if mailbox.hold.quiet_at is None else State.QUIET
    return State(mailbox.status.value)


def decide(state: State, event: Event, *, kept: Status, given: Status | None = None, force: bool = False) -> Decision:
    """
    What follows when `event` meets `state`.

    `kept` is the status behind an open hold, or the status itself; `given` the new one of SET_STATUS, which a held
    mailbox takes at its release.
    """
    step = TABLE[state][event]
    then = step.forced if force and step.forced is not None else step.then
    if then is Then.REFUSE:
        return Decision(state, step.text)
    following = {
        Then.STAY: state,
        Then.CLOSING: State.CLOSING,
        Then.QUIET: State.QUIET,
        Then.KEPT: State(kept.value),
        Then.GIVEN: State((given or kept).value),
    }
    return Decision(following[then])


def as_markdown() -> str:
    """The table for the documentation; a refusal is shown with its text."""
    head = "| state | " + " | ".join(Event) + " |"
    lines = [head, "|---" * (len(Event) + 1) + "|"]
    lines += [
        f"| **{state}** | " + " | ".join(_cell(row[event]) for event in Event) + " |" for state, row in TABLE.items()
    ]
    return "\n".join(lines) + "\n"


def _cell(step: Step) -> str:
    if step.then is not Then.REFUSE:
        return str(step.then)
    forced = f"; forced: {step.forced}" if step.forced is not None else ""
    return f"refused: {step.text}{forced}"


def as_mermaid() -> str:
    """The picture: all arrows that change the state; statuses among each other are drawn as one group."""
    lines = ["stateDiagram-v2", "    state status {"]
    lines += [f"        {state}" for state in _STATUSES]
    lines.append("    }")
    for state, row in TABLE.items():
        for event, step in row.items():
            lines += [f"    {arrow}" for arrow in _arrows(state, event, step)]
    return "\n".join(dict.fromkeys(lines)) + "\n"


def _arrows(state: State, event: Event, step: Step) -> list[str]:
    arrows = []
    for then, label in ((step.then, str(event)), (step.forced, f"{event} (forced)")):
        if then in {Then.CLOSING, Then.QUIET} and str(then) != str(state):
            arrows.append(f"{state} --> {then}: {label}")
        elif then is Then.KEPT:
            arrows.append(f"{state} --> status: {label} (the status kept by the hold)")
        elif then is Then.GIVEN:
            arrows.append(f"status --> status: {label}")
    return arrows


def as_page() -> str:
    """The whole page `docs/states.md`."""
    return f"{_PAGE}\n```mermaid\n{as_mermaid()}```\n\n{as_markdown()}"


_PAGE = """# The states of a mailbox

Drawn from the table in `router/control/states.py`; a test compares the two. To write it anew:
`python -c "from router.control.states import as_page; print(as_page(), end='')" > docs/states.md`

*closing* and *quiet* are an open hold: mail is accepted and kept, and goes to no store. While it is *closing*, a
delivery that began earlier may still be under way; *quiet* means that the barrier has passed and the mailbox may be
copied. A hold keeps the status that it found, and a status set meanwhile; its end restores it. `release` without
`--to` is the abort: the home stays as it was. With `release`, a mailbox that is not on hold is left alone without
complaint when it already has the home asked for.
"""
