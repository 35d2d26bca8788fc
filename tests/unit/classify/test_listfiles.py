"""List files are read strictly and whole."""

from pathlib import Path

import pytest

from router.classify.domains import DomainTable
from router.classify.listfiles import ListFileError, load_lists, read_list_file
from router.classify.services import ServiceTable
from router.settings.schema import Domain, ListSet

DOMAINS = DomainTable({"example.edu": Domain()})


def one_set(path: Path | None = None, *, store: str = "cliff", addresses: tuple[str, ...] = ()) -> ListSet:
    return ListSet(store=store, manager="mailman2", addresses=addresses, file=path)


def test_comments_blank_lines_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "lists.txt"
    path.write_bytes(b"\xef\xbb\xbf# ours\r\n\r\nNews@Example.edu\r\n  talk@example.edu\t# since 1998\na#b@example.edu")

    lists = load_lists([one_set(path, addresses=("staff@example.edu",))], DOMAINS)

    assert sorted(lists) == ["a#b@example.edu", "news@example.edu", "staff@example.edu", "talk@example.edu"]


def test_all_errors_at_once_with_file_and_line(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("news@example.edu\nnonsense\nx@elsewhere.example\nNEWS@example.edu\nPostmaster\n")
    second.write_text("# moved\nnews@example.edu\n")

    with pytest.raises(ListFileError) as caught:
        load_lists(
            [one_set(first, addresses=("@",)), one_set(second, store="zimbra"), one_set(tmp_path / "c.txt")], DOMAINS
        )

    problems = caught.value.problems
    assert [problem.split(": ")[0] for problem in problems] == [
        "lists[0].addresses[0]",
        f"{first}:2",
        f"{first}:3",
        f"{first}:4",
        f"{first}:5",
        str(tmp_path / "c.txt"),
        f"{second}:2",
    ]
    assert "in line 1 already" in problems[3]
    assert f"on cliff already ({first}:1)" in problems[-1]


def test_what_is_no_text_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lists.txt"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ListFileError, match="cannot be read"):
        load_lists([one_set(path)], DOMAINS)

    monkeypatch.setattr("router.classify.listfiles.MAX_OCTETS", 1)
    with pytest.raises(ValueError, match="too large"):
        read_list_file(path)


def test_services() -> None:
    services = ServiceTable({"Tickets@Example.edu": "rt", "tickets@example.EDU": "rt"})

    assert services.store("tickets@example.edu") == "rt"
    assert services.store("other@example.edu") == ""


@pytest.mark.parametrize("entries", [{"nonsense": "rt"}, {"a@b.example": "rt", "A@b.example": "cliff"}])
def test_services_that_make_no_sense(entries: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="services: "):
        ServiceTable(entries)
