"""What is written: plain in a pipe, nothing that a terminal would obey, JSON as documented."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.admin.cli.output import Column, Output, moment, octets, safe, shown, span

EVIL = "a\x1b[2J\r\nb\u202ec\u2028d\x07"


@given(st.text())
def test_nothing_shown_is_obeyed_by_a_terminal(text: str) -> None:
    assert safe(text).isprintable()


def test_tables_in_a_pipe_are_aligned_and_safe(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(["name", Column("count", right=True)], [("ann", 1), (EVIL, 10)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("NAME")
    assert all(line.isprintable() for line in lines)
    assert len({len(line) for line in lines}) == 1


def test_tables_on_a_terminal_are_safe_and_show_markup_as_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    Output().table(["name"], [("[red]x[/red] :smile: " + EVIL,)], title="[b]t[/b]")
    told = capsys.readouterr().out
    assert "[red]x[/red] :smile:" in told
    assert "[b]t[/b]" in told
    assert "\x1b[2J" not in told
    assert "\u202e" not in told
    assert "\x07" not in told


def test_json_is_one_ascii_document_and_silences_everything_else(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(json=True)
    out.line("x")
    out.note("x")
    out.table(["a"], [("x",)])
    out.fields([("a", 1)])
    out.document({"name": "ä\x1b\u202e"})
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.isascii()
    assert "\x1b" not in told.out
    assert json.loads(told.out) == {"version": 1, "name": "ä\x1b\u202e"}


def test_without_json_no_document_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    Output().document({"a": 1})
    Output().record({"a": 1})
    assert capsys.readouterr().out == ""


def test_progress_stays_away_from_pipes(capsys: pytest.CaptureFixture[str]) -> None:
    with Output().progress("x", 3) as advance:
        advance(1)
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "")


def test_lone_surrogates_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    Output().line("a\udc80")
    assert "udc80" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.6, "1m"), (3600, "1h"), (3725, "1h 2m"), (90061, "1d 1h"), (-5, "0s")]
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_small_formats() -> None:
    assert octets(0) == "0 B"
    assert octets(5 * 1024**3) == "5.0 GiB"
    assert moment(None) is None
    assert str(moment(0.0)).startswith("19")
    assert [shown(value) for value in (None, "", True, False, 0, "x")] == ["-", "-", "yes", "no", "0", "x"]
