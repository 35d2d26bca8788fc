"""The documents hold together: every link leads somewhere, every `./dev` command they show exists."""

import re
import subprocess
from pathlib import Path

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.*?) *$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
DEV_COMMAND = re.compile(r"\./dev ([a-z]+)")


def pages(root: Path) -> list[Path]:
    return [root / "README.md", root / "CHANGELOG.md", *sorted((root / "docs").rglob("*.md"))]


def anchors(page: Path) -> set[str]:
    """Names of a page's headings as GitHub makes them."""
    headings = HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(f"{page.name}: {link}")
    return broken


def test_every_link_leads_somewhere(root: Path) -> None:
    assert [link for page in pages(root) for link in broken_links(page)] == []


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One heading\n[a](#one-heading) [b](#another) [c](gone.md) [d](https://example.org)\n```\n[e](x)\n```\n"
    )
    assert broken_links(page) == ["page.md: #another", "page.md: gone.md"]


def test_every_dev_command_shown_exists(root: Path) -> None:
    usage = subprocess.run([root / "dev", "help"], check=True, capture_output=True, text=True, timeout=100).stdout
    known = set(re.findall(r"^  ([a-z]+) ", usage, re.MULTILINE))
    assert {"demo", "test", "check", "bench"} <= known
    shown = {word for page in pages(root) for word in DEV_COMMAND.findall(page.read_text(encoding="utf-8"))}
    assert {"demo", "test"} <= shown
    assert shown - known == set()


def test_the_first_screen_has_the_two_commands(root: Path) -> None:
    first_screen = "\n".join((root / "README.md").read_text(encoding="utf-8").splitlines()[:25])
    assert "./dev demo" in first_screen
    assert "./dev test" in first_screen
