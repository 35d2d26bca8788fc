"""./dev and .ci/run: they parse, refuse what they do not know, and every program they promise has its package."""

import os
import re
import subprocess
from pathlib import Path

import pytest


def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = os.environ | environment
    return subprocess.run(words, env=done, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize("name", ["dev", ".ci/run"])
def test_it_is_a_program_that_stops_at_the_first_error(root: Path, name: str) -> None:
    script = root / name
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()
    assert run("bash", "-n", script).returncode == 0


def test_an_unknown_command_is_a_usage_error(root: Path) -> None:
    done = run(root / "dev", "destroy")
    assert done.returncode == os.EX_USAGE
    assert "usage: ./dev" in done.stderr


def test_help_names_every_command(root: Path) -> None:
    script = (root / "dev").read_text()
    offered = set(re.findall(r"^        ([a-z]+)\) ", script, re.MULTILINE)) - {"help"}
    explained = set(re.findall(r"^  ([a-z]+) ", run(root / "dev", "help").stdout, re.MULTILINE)) - {"help"}
    assert offered == explained


def test_a_missing_interpreter_is_named_with_its_remedy(root: Path, tmp_path: Path) -> None:
    (tmp_path / "dev").write_text((root / "dev").read_text())
    (tmp_path / "dev").chmod(0o755)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    done = run(tmp_path / "dev", "install", PYTHON="python-of-nowhere")
    assert done.returncode != 0
    assert "python-of-nowhere" in done.stderr
    assert "install Python 3.11" in done.stderr


def test_ci_runs_the_commands_of_the_readme(root: Path) -> None:
    script = (root / ".ci" / "run").read_text()
    assert "export CI=true" in script
    assert "\n./dev lint > " in script
    assert "\n./dev test\n" in script
    assert 'wait "$linter" || {' in script
