"""Every dependency says why it is there; what the package declares of itself is true."""

import re
import tomllib
from pathlib import Path

REQUIREMENT = re.compile(r'^\s*"([A-Za-z0-9._-]+)[^"]*",?(\s*#\s*\S.*)?$')
TABLES = ("requires = [", "dependencies = [", "dev = [", "bench = [", "fast = [")


def without_reason(text: str) -> list[str]:
    """Requirements that carry no comment on their line."""
    missing = []
    inside = False
    for line in text.splitlines():
        start = next((table for table in TABLES if line.startswith(table)), None)
        if start is not None and "]" in line:
            missing += [line] if "#" not in line else []
        elif start is not None:
            inside = True
        elif line.startswith("]"):
            inside = False
        elif inside and (match := REQUIREMENT.match(line)) is not None and match.group(2) is None:
            missing.append(match.group(1))
    return missing


def test_every_dependency_has_its_reason(root: Path) -> None:
    assert without_reason((root / "pyproject.toml").read_text(encoding="utf-8")) == []


def test_a_dependency_without_a_reason_is_seen() -> None:
    text = 'dependencies = [\n  "left-pad>=1",\n  "sound>=2",  # beeps\n]\nfast = ["quick"]\n'
    assert without_reason(text) == ["left-pad", 'fast = ["quick"]']


def test_the_licence_is_the_whole_text(root: Path) -> None:
    licence = (root / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in licence
    assert "END OF TERMS AND CONDITIONS" in licence


def test_the_command_is_declared(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == "mail-sluice"
    assert project["scripts"] == {"sluice": "router.__main__:main"}
