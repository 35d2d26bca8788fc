"""The page of the comparison: figures stand where they belong, and what was not run is never a zero."""

from dataclasses import replace
from pathlib import Path

import pytest
from compare.__main__ import KINDS, whole
from compare.bout import Records, unheard
from compare.figures import Attack, Crashes, Full, Results, Smuggled, Tally, refusal
from compare.hostile import ATTACKS
from compare.page import page
from compare.prose import ATTACKS as NAMED
from compare.relay import queued_in

from router.ledger.arrival import Arrival
from router.ledger.load import Fate, Submission
from router.ledger.traffic import compose

CLEAN = Tally(1000, 400, 0, 0, 0, 0, 7, 0, 0, 0, 3, 0)


def results() -> Results:
    found = Results("2 cores", {"sluice": "Sluice 1", "postfix": "Postfix 3"}, {"exim": "no apt-get"})
    found.put("kill", "sluice", Crashes(20, 60.0, CLEAN))
    found.put("kill", "postfix", Crashes(20, 60.0, replace(CLEAN, lost=5, acknowledged=777)))
    found.put("full", "postfix", Full(10, {"452": 9, "250": 1}, 8, 2, -1.0, CLEAN))
    found.put("hostile", "sluice", Attack({"220 421, closed": 12}, 0, 0, 9, -1.0, -1.0, 96 << 20, 64 << 20), "web_form")
    found.put("hostile", "postfix", Attack({"220, open": 1}, 4, 3, 0, 0.2, 1.0, 8 << 20, 4 << 20), "early_talk")
    found.put("smuggling", "postfix", Smuggled(40, ("LF . LF",), (), ()))
    found.put("smuggling", "postfix", Smuggled(40, (), (), ("CR . CR",)), "knob = on")
    return found


def cells(text: str, label: str) -> list[list[str]]:
    return [[c.strip() for c in line.split("|")[2:-1]] for line in text.splitlines() if line.startswith(f"| {label} |")]


def test_a_loss_is_in_the_column_of_who_lost() -> None:
    text = page(results())
    assert "| counted are recipients | Sluice | Postfix |" in text
    assert cells(text, "**lost**")[0] == ["**0**", "**5**"]
    assert cells(text, "acknowledged")[0] == ["1000", "777"]


def test_what_was_not_run_is_no_figure() -> None:
    text = page(results())
    assert "## Power cuts" not in text
    assert "Exim was not to be had: no apt-get" in text
    assert cells(text, NAMED["web_form"])[0] == ["220 421, closed (12)", "-"]
    assert cells(text, NAMED["early_talk"])[1] == ["-", "4"]


def test_an_ordinary_client_that_was_not_served_is_said_so() -> None:
    shown = cells(page(results()), NAMED["web_form"])
    assert shown[1] == ["0", "-"]
    assert shown[2] == ["**not served**, 9 times turned away", "-"]
    assert shown[3] == ["64 → 96", "-"]


def test_a_disk_that_stays_full_for_the_relay_is_said_so() -> None:
    text = page(results())
    assert cells(text, "takes mail again once there is space, without a restart") == [["not within a minute"]]
    assert cells(text, "delivered while it was full") == [["8 of 10"]]
    assert cells(text, "what clients heard from then on") == [["452 (9); 250 (1)"]]


def test_smuggled_messages_are_named_with_the_setting() -> None:
    text = page(results())
    assert "| Postfix | 40 | **1** | 0 | 0 |" in text
    assert "| Postfix, `knob = on` | 40 | 0 | 0 | 1 |" in text
    assert "- Two messages at Postfix: `LF . LF`." in text


def test_text_has_short_lines() -> None:
    long = [line for line in page(results()).splitlines() if len(line) > 120 and not line.startswith("|")]
    assert long == []


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.json"
    assert Results.read(path) == Results()
    results().write(path)
    assert Results.read(path) == results()


def test_every_attack_has_its_name() -> None:
    assert [attack.__name__ for attack in ATTACKS] == list(NAMED)


def submission(codes: tuple[int, ...], dot: int, *fates: Fate) -> Submission:
    return Submission("t", "a@b.c", ("x@y.z",) * len(codes), fates, codes, "", 1, 0.0, 0.0, dot_code=dot)


@pytest.mark.parametrize(
    ("codes", "dot", "code"), [((250, 452), 250, 452), ((250,), 451, 451), ((250,), 250, 0), ((0,), 0, 0)]
)
def test_the_first_refusal_counts(codes: tuple[int, ...], dot: int, code: int) -> None:
    assert refusal(submission(codes, dot, *[Fate.REFUSED] * len(codes))) == code


def test_what_was_said_without_power_is_not_heard() -> None:
    said = submission((250, 550), 250, Fate.ACKNOWLEDGED, Fate.REFUSED)
    assert unheard(said).fates == (Fate.UNANSWERED, Fate.REFUSED)


@pytest.mark.parametrize("trace", [b"Received: by mx.example.edu (Other)\r\n\tid 1; today\r\n", b""])
def test_the_received_field_is_taken_off_whoever_wrote_it(trace: bytes) -> None:
    records, plain = Records(), Records()
    content = compose("run-1", "a@b.c", ["x@y.z"], 800)
    one = Arrival("old", 0.0, 0.0, "a@b.c", (("x@y.z", 250),), "", "", 0, body=trace + content)
    records.take(one)
    plain.take(replace(one, body=content))
    assert records[0].digest == plain[0].digest
    assert records[0].tag == "run-1"
    assert bool(records[0].trace) == bool(trace)
    assert not records.bare
    records.take(replace(one, body=content.replace(b"\r\n", b"\n", 9)))
    assert records[1].digest != plain[0].digest


def test_what_is_in_a_file_of_the_queue_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "1-H").write_bytes(b"034 X-Ledger: run-1\n" + compose("run-2", "a@b.c", ["x@y.z"], 800))
    missing = [("run-1", "x@y.z"), ("run-2", "x@y.z"), ("run-3", "x@y.z"), ("run-11", "x@y.z")]
    assert queued_in(tmp_path, missing) == [("run-1", "x@y.z", "queued"), ("run-2", "x@y.z", "queued")]


def test_the_page_of_the_repository_is_written_from_everything_or_not_at_all() -> None:
    """Defect: a run of two rows in a fresh checkout took all others from the page."""
    found = Results("2 cores", {}, {"exim": "no apt-get"})
    relays = ("sluice", "postfix", "exim")
    for kind in KINDS:
        for name in ("sluice", "postfix"):
            assert not whole(found, relays)
            found.put(kind, name, Crashes(20, 60.0, CLEAN))
    assert whole(found, relays), "what cannot be had is not waited for"
    del found.rows["cut"]["postfix"]
    assert not whole(found, relays)
