"""The log of the processes: whatever an error's text contains, a message is one printable line (inv_80)."""

import logging
from collections.abc import Iterator

import pytest

from router.daemon.logs import log_to_stderr

HOSTILE = "no\r\n<0>sluice[1]: all is well\x1b[2J\u2028\u202e\x00\ud800 end"
JOURNAL = {"JOURNAL_STREAM": "8:1"}


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    """The root logger as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.removesuffix("\n").split("\n")


@pytest.mark.parametrize("environment", [{}, JOURNAL])
def test_inv_80_a_message_is_one_printable_line(
    capsys: pytest.CaptureFixture[str], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.daemon.logs.under_journal", lambda given: given == JOURNAL)
    log_to_stderr("info", environment)
    logging.getLogger("sluice.test").warning("RCPT failed: %s", HOSTILE)
    [line] = said(capsys)
    assert line.isprintable()
    assert line.endswith("RCPT failed: no\\r\\n<0>sluice[1]: all is well\\x1b[2J\\u2028\\u202e\\x00\\ud800 end")
    assert line.startswith("<4>sluice.test[") == (environment == JOURNAL)


@pytest.mark.parametrize("environment", [{}, JOURNAL])
def test_inv_80_lines_of_a_traceback_cannot_be_taken_for_messages(
    capsys: pytest.CaptureFixture[str], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.daemon.logs.under_journal", lambda given: given == JOURNAL)
    log_to_stderr("info", environment)
    logging.getLogger("sluice.test").error("it failed", exc_info=ValueError(HOSTILE))
    first, *traceback = [line.removeprefix("<3>") for line in said(capsys)]
    assert first.endswith("it failed")
    assert any("ValueError: no" in line for line in traceback)
    assert all(line.isprintable() and line.startswith("    ") for line in traceback)


def test_a_message_of_any_length_is_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("info", {})
    logging.getLogger("sluice.test").error("%s", "x" * 1_000_000)
    [line] = said(capsys)
    assert len(line) < 5000
