"""Each rule of the checker finds the violation it is there for, and lets an honest run pass."""

from collections.abc import Iterable

import pytest

from router.ledger.arrival import Arrival
from router.ledger.book import Ledger
from router.ledger.load import Fate, Submission
from router.ledger.verdict import Rule, Verdict

ALICE = "alice@example.edu"
BOB = "bob@example.edu"


def offered(tag: str, fates: dict[str, Fate], digest: str = "d") -> Submission:
    codes = tuple(550 if fate is Fate.REFUSED else 250 for fate in fates.values())
    return Submission(tag, "s@example.net", tuple(fates), tuple(fates.values()), codes, digest + tag, 100, 1.0, 0.1)


def arrival(
    tag: str,
    recipients: Iterable[str] = (ALICE,),
    store: str = "old",
    *,
    at: float = 5.0,
    code: int = 250,
    digest: str = "",
) -> Arrival:
    taken = tuple((recipient, code) for recipient in recipients)
    trace = "Received: by mx (Sluice)"
    return Arrival(store, at - 0.1, at, "s@example.net", taken, tag, digest or f"d{tag}", 100, trace)


def ledger_with(*arrivals: Arrival, fates: dict[str, Fate] | None = None) -> Ledger:
    ledger = Ledger(allowed=lambda _, at: {"old"} if at < 100 else {"new"})
    ledger.submitted([offered("t", fates or {ALICE: Fate.ACKNOWLEDGED})])
    ledger.arrived(arrivals)
    return ledger


def rules(verdict: Verdict) -> list[Rule]:
    return [violation.rule for violation in verdict.violations]


def test_an_honest_run_balances() -> None:
    ledger = ledger_with(
        arrival("t", (ALICE,)), fates={ALICE: Fate.ACKNOWLEDGED, BOB: Fate.ACKNOWLEDGED, "x@example.edu": Fate.REFUSED}
    )
    ledger.kept([("t", BOB, "held")])
    ledger.journal([("t", ALICE)])
    verdict = ledger.check()
    assert verdict.ok, verdict.report()
    line = "accepted 2 = delivered 1 + held 1 + queued 0 + parked 0 + returned 0, lost 0, duplicated 0"
    assert str(verdict.balance) == line
    assert verdict.report() == line


def test_a_lost_message_is_found() -> None:
    verdict = ledger_with().check()
    assert rules(verdict) == [Rule.LOST]
    assert verdict.balance.lost == 1
    assert not verdict.balance.even
    assert "t for alice@example.edu" in verdict.report()


@pytest.mark.parametrize("code", [0, 451, 550])
def test_a_store_that_did_not_say_yes_does_not_free_the_relay(code: int) -> None:
    assert Rule.LOST in rules(ledger_with(arrival("t", code=code)).check())


@pytest.mark.parametrize(
    "place", ["held", "queued", "parked", "quarantined", "returned", "removed", "merged", "forwarded"]
)
def test_what_the_relay_has_is_not_lost(place: str) -> None:
    ledger = ledger_with()
    ledger.kept([("t", ALICE.upper(), place)])
    verdict = ledger.check()
    assert verdict.ok, verdict.report()
    assert f"{place} 1" in str(verdict.balance)


def test_a_place_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        ledger_with().kept([("t", ALICE, "somewhere")])


@pytest.mark.parametrize(("at", "store"), [(5.0, "new"), (150.0, "old"), (5.0, "elsewhere")])
def test_a_delivery_to_the_wrong_store_is_found(at: float, store: str) -> None:
    assert rules(ledger_with(arrival("t", store=store, at=at)).check()) == [Rule.MISROUTED]


def test_even_a_refused_delivery_to_the_wrong_store_is_found() -> None:
    ledger = ledger_with(arrival("t"), arrival("t", store="new", code=550))
    assert rules(ledger.check()) == [Rule.MISROUTED]


@pytest.mark.parametrize(
    ("opened", "closed", "broken"),
    [(4.0, 6.0, True), (4.95, 6.0, True), (4.0, 4.95, True), (5.1, 6.0, False), (3.0, 4.8, False)],
)
def test_a_delivery_between_barrier_and_release_is_found(opened: float, closed: float, broken: bool) -> None:
    ledger = ledger_with(arrival("t"))
    ledger.window("Alice@Example.EDU", opened, closed)
    assert rules(ledger.check()) == ([Rule.IN_WINDOW] if broken else [])


def test_a_window_counts_for_the_aliases_of_its_mailbox() -> None:
    ledger = Ledger(mailbox_of=lambda address: address.lower().replace("a.lias", "alice"))
    ledger.submitted([offered("t", {"a.lias@example.edu": Fate.ACKNOWLEDGED})])
    ledger.arrived([arrival("t", ("a.lias@example.edu",))])
    ledger.window(ALICE, 4.0)
    assert rules(ledger.check()) == [Rule.IN_WINDOW]


def test_a_duplicate_is_found() -> None:
    verdict = ledger_with(arrival("t"), arrival("t", at=6.0)).check()
    assert rules(verdict) == [Rule.DUPLICATED]
    assert verdict.balance.extra == 1
    assert verdict.balance.even


def test_a_duplicate_after_an_unanswered_dot_is_excused_and_named() -> None:
    verdict = ledger_with(arrival("t", code=0), arrival("t", at=6.0)).check()
    assert verdict.ok, verdict.report()
    assert [(e.tag, e.recipient) for e in verdict.excused] == [("t", ALICE)]
    assert "possible duplicate: t for alice@example.edu" in verdict.report()
    assert "duplicated 1 (1 in doubt, named below)" in str(verdict.balance)


def test_an_excuse_is_good_for_one_delivery() -> None:
    ledger = ledger_with(arrival("t"), arrival("t", at=6.0), arrival("t", at=7.0))
    ledger.excuse("t", ALICE, "named by the relay")
    assert rules(ledger.check()) == [Rule.DUPLICATED]
    ledger.excuse("t", ALICE, "and once more")
    assert ledger.check().ok


def test_a_crash_excuses_only_dots_of_its_interval() -> None:
    ledger = ledger_with(arrival("t"), arrival("t", at=9.0))
    ledger.crash(7.0, 8.0, "kill -9")
    assert rules(ledger.check()) == [Rule.DUPLICATED]
    ledger.crash(4.5, 5.5, "kill -9")
    verdict = ledger.check()
    assert verdict.ok, verdict.report()
    assert verdict.excused[0].reasons == ("kill -9",)


def test_altered_content_is_found() -> None:
    assert rules(ledger_with(arrival("t", digest="other")).check()) == [Rule.ALTERED]


def test_a_missing_trace_field_is_found() -> None:
    bare = Arrival("old", 4.9, 5.0, "s@example.net", ((ALICE, 250),), "t", "dt", 100)
    assert rules(ledger_with(bare).check()) == [Rule.ALTERED]


def test_a_message_from_nowhere_is_found() -> None:
    assert rules(ledger_with(arrival("t"), arrival("ghost")).check()) == [Rule.UNEXPECTED]


def test_a_recipient_that_was_not_asked_for_is_found() -> None:
    assert rules(ledger_with(arrival("t", (ALICE, BOB))).check()) == [Rule.UNEXPECTED]


@pytest.mark.parametrize(
    ("fate", "found"),
    [
        (Fate.REFUSED, [Rule.UNEXPECTED]),
        (Fate.NOT_SENT, [Rule.UNEXPECTED]),
        (Fate.UNANSWERED, []),
        (Fate.DECLINED, []),
    ],
)
def test_arrivals_of_what_was_not_acknowledged(fate: Fate, found: list[Rule]) -> None:
    ledger = ledger_with(arrival("t"), fates={ALICE: fate})
    assert rules(ledger.check()) == found


def test_unanswered_dots_need_not_arrive() -> None:
    verdict = ledger_with(fates={ALICE: Fate.UNANSWERED}).check()
    assert verdict.ok
    assert verdict.unanswered == 1
    assert "got no reply to the dot" in verdict.report()


def test_a_recipient_delivered_and_still_kept_is_found() -> None:
    ledger = ledger_with(arrival("t"))
    ledger.kept([("t", ALICE, "queued")])
    assert rules(ledger.check()) == [Rule.BOOKED_TWICE]


def test_a_recipient_in_two_states_is_found() -> None:
    ledger = ledger_with()
    ledger.kept([("t", ALICE, "queued"), ("t", ALICE, "held")])
    assert rules(ledger.check()) == [Rule.BOOKED_TWICE]


def test_a_recipient_in_doubt_may_be_kept() -> None:
    ledger = ledger_with(arrival("t", code=0))
    ledger.kept([("t", ALICE, "queued")])
    assert ledger.check().ok


@pytest.mark.parametrize("journalled", [True, False])
def test_journal_and_stores_must_agree(journalled: bool) -> None:
    ledger = ledger_with(*([] if journalled else [arrival("t")]))
    ledger.kept([("t", ALICE, "removed")] if journalled else [])
    ledger.journal([("t", ALICE)] if journalled else [])
    assert rules(ledger.check()) == [Rule.DISAGREEMENT]


def test_arrivals_without_a_tag_are_known_by_content_or_only_counted() -> None:
    ledger = ledger_with(arrival("", digest="dt"), arrival("", digest="a notice"))
    verdict = ledger.check()
    assert verdict.ok, verdict.report()
    assert verdict.balance.delivered == 1
    assert verdict.untagged == 1


def test_a_long_list_of_violations_is_cut() -> None:
    ledger = Ledger()
    ledger.submitted([offered(f"t{n}", {ALICE: Fate.ACKNOWLEDGED}) for n in range(30)])
    report = ledger.check().report(limit=5)
    assert "30 x lost" in report
    assert "… and 25 more" in report
    assert report.count("acknowledged, but") == 5
