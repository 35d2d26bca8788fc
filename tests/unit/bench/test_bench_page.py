"""The page of benchmarks: figures stand where they belong, and what was not measured is never a zero."""

from bench.choking import Sample, figures
from bench.figures import Measured, Results
from bench.goals import GOALS
from bench.page import number, ordered, page
from bench.plots import Picture
from bench.row import Case, Figures, Row

from router.ledger.load import Fate, Submission


def never(_relay: str) -> Figures:
    raise AssertionError


ROWS = [
    Row("aside", "Aside", "About nothing. " * 20, {"rate": "messages/s"}, [Case("plain", never)]),
    Row("throughput", "Throughput", "As fast as it goes.", {"delivered": "end to end", "cpu": "ms"}, []),
]
RATES = Measured(None, {"Postfix": ({"delivered": 400.0}, {"delivered": 500.0}), "Sluice": ({"delivered": 1800.0},)})
RESULTS = (
    Results("2 cores", "3.7.11", ("in_flow_delay = 0",))
    .with_case("throughput", "kept connections", RATES)
    .with_case("aside", "size=1", Measured(1.0).with_round("Sluice", {"rate": 0.0}))
    .with_case(
        "aside", "plain", Measured().with_void("Sluice", "AssertionError: 3 messages\nwere lost " + "long " * 99)
    )
)


def cells(text: str, label: str) -> list[list[str]]:
    return [[c.strip() for c in line.split("|")[2:-1]] for line in text.splitlines() if line.startswith(f"| {label} |")]


def test_a_goal_has_both_relays_and_how_far_it_got() -> None:
    found = cells(page(RESULTS, ROWS), "end to end, kept connections, messages/s")
    assert found == [["450", "1,800", "4.00", "at least 3.5", "at least 5", "floor"]]


def test_a_goal_that_was_not_measured_is_a_dash() -> None:
    text = page(Results(), ROWS)
    assert [cells(text, goal.text)[0][-1] for goal in GOALS] == ["-"] * len(GOALS)
    assert cells(text, "hold committed → quiet, at idle, ms") == [["", "-", "", "at most 100 ms", "at most 30 ms", "-"]]
    assert "## Throughput" not in text


def test_a_row_shows_medians_spread_and_ratio() -> None:
    text = page(RESULTS, ROWS)
    assert "| case | relay | end to end |" in text
    assert cells(text, "kept connections") == [["Postfix", "450 (400 to 500)"]]
    assert "|  | Sluice | 1,800 |" in text
    assert "|  | ratio | 4.00 |" in text


def test_curves_have_their_own_tables_and_pictures() -> None:
    text = page(RESULTS, ROWS, {"aside": [Picture("size", "aside-size.svg", "Aside: size")]})
    assert "### Aside: size" in text
    assert cells(text, "size=1") == [["Sluice", "0"]]
    assert text.count("![Aside: size](aside-size.svg)") == 1


def test_a_void_round_is_told_with_its_reason_and_has_no_figures() -> None:
    text = page(RESULTS, ROWS)
    assert "- **Void**, and in no figure: plain, Sluice: AssertionError: 3 messages were lost" in text
    assert cells(text, "plain") == []


def test_rows_with_goals_come_first() -> None:
    assert [row.name for row in ordered(ROWS)] == ["throughput", "aside"]


def test_settings_of_postfix_are_told() -> None:
    assert "Postfix 3.7.11, `postconf -n`" in page(RESULTS, ROWS)
    assert "```\nin_flow_delay = 0\n```" in page(RESULTS, ROWS)


def test_text_has_short_lines() -> None:
    long = [line for line in page(RESULTS, ROWS).splitlines() if len(line) > 120 and not line.startswith("|")]
    assert long == []


def test_numbers_have_three_digits_that_count() -> None:
    shown = [number(value) for value in (None, 0.0, 0.4567, 12.34, 1234.5)]
    assert shown == ["-", "0", "0.46", "12.3", "1,234"]


def test_a_choked_relay_is_told_before_and_after() -> None:
    def offered(at: float, fate: Fate) -> Submission:
        return Submission("t", "s", ("r",), (fate,), (0,), "", 1, at, 0.0)

    samples = [Sample(float(at), (10 - at) << 20, at * 5) for at in range(11)]
    early = [offered(at / 10, Fate.ACKNOWLEDGED) for at in range(20)]
    late = [offered(6.5, Fate.ACKNOWLEDGED), offered(7.0, Fate.REFUSED), offered(2.0, Fate.REFUSED)]
    seen = figures([*early, *late], samples)
    assert seen == {
        "early": 10.0, "until": 2.0, "late": 0.25, "out": 0.25 - 5, "refused": 0.25, "free": 0.0, "queued": 50,
    }  # fmt: skip
