"""Results of the benchmark: rounds and their spread, what a new run replaces, and the file they are kept in."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from bench.__main__ import Run, main
from bench.curves import groups, metrics, relays
from bench.figures import Measured, Results, Spread
from bench.row import Case, Figures, Row

UNITS = {"rate": "messages/s", "cpu": "ms"}


def measured(*rates: float) -> Measured:
    made = Measured()
    for rate in rates:
        made = made.with_round("Sluice", {"rate": rate})
    return made


def test_the_spread_is_of_all_rounds() -> None:
    assert measured(5.0, 1.0, 2.0).spread("Sluice", "rate") == Spread(2.0, 1.0, 5.0)


def test_what_was_not_measured_has_no_spread() -> None:
    assert measured(5.0).spread("Postfix", "rate") is None
    assert measured(5.0).spread("Sluice", "cpu") is None
    assert Results().spread("row", "case", "Sluice", "rate") is None


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    one = Measured(100.0).with_round("Sluice", {"rate": 1.5}).with_void("Postfix", "3 messages were lost")
    found = Results("2 cores", "3.7.11", ("a = b",)).with_case("growth", "mailboxes=100", one)
    found.write(tmp_path / "deep" / "results.json")
    assert Results.read(tmp_path / "deep" / "results.json") == found
    assert Results.read(tmp_path / "nothing.json") == Results()


def test_curves_are_in_the_order_of_their_x() -> None:
    cases = {"queued=1000": Measured(1000), "plain": Measured(), "queued=100": Measured(100), "sent=1": Measured(1)}
    found = groups(cases)
    assert {name: list(points) for name, points in found.items()} == {
        "queued": ["queued=100", "queued=1000"],
        "": ["plain"],
        "sent": ["sent=1"],
    }


def test_only_what_was_measured_is_told() -> None:
    row = Row("row", "Row", "", {"cpu": "ms", "rate": "messages/s", "never": "?"}, [])
    cases = {
        "a": Measured().with_round("Sluice", {"rate": 1, "new": 2, "cpu": 3}),
        "b": Measured().with_void("Postfix", "x"),
    }
    assert metrics(row, cases) == ["cpu", "rate", "new"]
    assert relays(cases) == ["Sluice"]


class Scripted:
    """A case that writes down who is measured; a round of `lossy` fails."""

    def __init__(self, lossy: str = "") -> None:
        self.seen: list[str] = []
        self._lossy = lossy

    def __call__(self, relay: str) -> Figures:
        self.seen.append(relay)
        assert relay != self._lossy, "3 messages were lost"
        return {"rate": float(len(self.seen))}


@pytest.fixture(autouse=True)
def no_postfix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.peer.told", lambda: ("3.7.11", ("a = b",)))


def measure(path: Path, cases: Mapping[str, Scripted], before: Results | None = None, pattern: str = "*") -> Run:
    row = Row("row", "Row", "", UNITS, [Case(name, run) for name, run in cases.items()])
    run = Run(before or Results(), 2, path)
    run.measure([row], pattern)
    return run


def test_relays_are_measured_in_turn(tmp_path: Path) -> None:
    script = Scripted()
    run = measure(tmp_path / "r.json", {"case": script})
    assert script.seen == ["Postfix", "Sluice", "Postfix", "Sluice"]
    assert run.results.rows["row"]["case"].rounds == {
        "Postfix": ({"rate": 1.0}, {"rate": 3.0}),
        "Sluice": ({"rate": 2.0}, {"rate": 4.0}),
    }
    assert run.void == 0
    assert Results.read(tmp_path / "r.json") == run.results


def test_a_round_that_lost_mail_is_void_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = measure(tmp_path / "r.json", {"case": Scripted(lossy="Sluice")})
    case = run.results.rows["row"]["case"]
    assert run.void == 2
    assert case.spread("Sluice", "rate") is None
    assert case.void["Sluice"][0].startswith("AssertionError: 3 messages were lost")
    assert len(case.rounds["Postfix"]) == 2
    assert "Sluice 1: VOID: AssertionError: 3 messages were lost" in capsys.readouterr().out


def test_a_run_replaces_its_own_rows_and_cases_only(tmp_path: Path) -> None:
    before = Results().with_case("row", "gone", measured(1.0)).with_case("other", "case", measured(2.0))
    whole = measure(tmp_path / "r.json", {"one": Scripted(), "two": Scripted()}, before)
    assert {name: list(cases) for name, cases in whole.results.rows.items()} == {
        "other": ["case"],
        "row": ["one", "two"],
    }
    script = Scripted()
    part = measure(tmp_path / "r.json", {"one": script, "two": Scripted(lossy="Sluice")}, whole.results, "t*")
    assert script.seen == []
    assert part.results.rows["row"]["one"] == whole.results.rows["row"]["one"]
    assert part.results.rows["row"]["two"] != whole.results.rows["row"]["two"]


def test_an_interrupt_keeps_what_was_measured(tmp_path: Path) -> None:
    def second(_relay: str) -> Figures:
        raise KeyboardInterrupt

    row = Row("row", "Row", "", UNITS, [Case("first", Scripted()), Case("second", second)])
    with pytest.raises(KeyboardInterrupt):
        Run(Results(), 1, tmp_path / "r.json").measure([row])
    assert list(Results.read(tmp_path / "r.json").rows["row"]) == ["first"]


@pytest.mark.parametrize("arguments", [["--only", "throughput,nothing"], ["--rounds", "many"]])
def test_a_wrong_command_line_is_64(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 64
    assert arguments[1].split(",")[-1] in capsys.readouterr().err
