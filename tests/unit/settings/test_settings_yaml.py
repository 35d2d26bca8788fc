from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from router.settings.problem import Problem, SettingsError
from router.settings.yaml_loader import LARGEST_FILE, Place, parse_document, plain_value, read_document


def problems_of(text: str) -> list[Problem]:
    try:
        return list(parse_document(text, "f").problems)
    except SettingsError as error:
        return list(error.problems)


@pytest.mark.parametrize(
    ("text", "yaml_1_1", "ours"),
    [
        ("22:30", 1350, "22:30"),
        ("1:30.5", 90.5, "1:30.5"),
        ("0755", 493, "0755"),
        ("0x1f", 31, "0x1f"),
        ("0b11", 3, "0b11"),
        ("1_000", 1000, "1_000"),
        ("yes", True, "yes"),
        ("no", False, "no"),
        ("on", True, "on"),
        ("off", False, "off"),
        ("True", True, "True"),
        (".inf", float("inf"), ".inf"),
        ("Null", None, "Null"),
    ],
)
def test_cfg1_traps_of_yaml_1_1_are_text(text: str, yaml_1_1: object, ours: object) -> None:
    assert yaml.safe_load(f"a: {text}") == {"a": yaml_1_1}, "the trap is real"
    assert parse_document(f"a: {text}", "f").root == {"a": ours}
    assert parse_document(f"{text}: a", "f").root == {text: "a"}, "as a key it is text as well"


def test_cfg1_a_date_is_text() -> None:
    assert parse_document("a: 2026-03-01", "f").root == {"a": "2026-03-01"}


def test_plain_scalars() -> None:
    root = parse_document("[~, null, '', true, false, 0, -5, 25, 1.7, -0.5, '25', \"true\", !!str 25, ! 5]", "f").root
    assert root == [None, None, "", True, False, 0, -5, 25, 1.7, -0.5, "25", "true", "25", "5"]


def test_a_key_is_text_as_it_stands() -> None:
    assert parse_document("25: a\n1.10: b\ntrue: c\nno: d\n~: e", "f").root == {
        "25": "a",
        "1.10": "b",
        "true": "c",
        "no": "d",
        "~": "e",
    }


def test_huge_numbers_are_text() -> None:
    assert plain_value("9" * 5000) == "9" * 5000


def test_cfg2_every_second_equal_key_is_reported_with_its_place() -> None:
    found = problems_of("a: 1\nb:\n  c: 1\n  c: [2]\na: 3\n")
    assert [(p.line, p.column, p.key) for p in found] == [(4, 3, "b.c"), (5, 1, "a")]
    assert "first in line 1" in found[1].message
    assert parse_document("a: 1\na: 2", "f").root == {"a": 1}, "the first one stands"


def test_places_of_keys_and_values() -> None:
    document = parse_document("stores:\n  cliff:\n    hosts: [a,\n      b]\n", "f")
    assert document.place(("stores", "cliff", "hosts", 1)) == Place(4, 7)
    assert document.place(("stores", "cliff"), of_key=True) == Place(2, 3)
    assert document.place(("stores", "cliff", "role")) == Place(3, 5), "nearest around it"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/object/apply:os.system [x]", "tag"),
        ("a: !secret x", "tag"),
        ("a: !!int '5'", "tag"),
        ("!x a: 1", "tag"),
        ("a: !!set {b}", "tag"),
        ("a: 1\n---\nb: 2", "second document"),
        ("? [a]\n: 1", "plain text"),
        ("? {a: b}\n: 1", "plain text"),
        ("'': 1", "empty"),
        ("a: &x {b: 1}\nc: {<<: *x}", "merge"),
        ("a: *x", "does not exist"),
        ("a: &x [*x]", "inside what it repeats"),
        ('a: "b\\nc"', "cannot be printed"),
        ('"a\\0": b', "cannot be printed"),
        ("a: |\n  b\n  c\n", "cannot be printed"),
        ("a: \x07", "control character"),
        ("a: b: c", "mapping values"),
        ("a: [1", "not YAML"),
        ("a:\n\t- b", "not YAML"),
        ("a: @b", "not YAML"),
        ("a: 'b", "not YAML"),
        ("[" * 100_000, "nested deeper"),
        ("a: " + "[" * 40 + "]" * 40, "nested deeper"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    found = problems_of(text)
    assert found
    assert any(message in problem.message for problem in found), found
    assert all(problem.line for problem in found)


def test_syntax_errors_have_line_column_and_remedy() -> None:
    (problem,) = problems_of("a: 1\nb: store: cliff\n")
    assert (problem.line, problem.column) == (2, 9)
    assert "quotes" in problem.remedy
    (problem,) = problems_of("a:\n\t- b")
    assert "tabs" in problem.remedy


def test_an_alias_repeats_a_value() -> None:
    assert parse_document("a: &x {b: 1}\nc: *x", "f").root == {"a": {"b": 1}, "c": {"b": 1}}


def test_an_anchor_bomb_is_refused_quickly() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    found = problems_of("\n".join(lines))
    assert "aliases repeat more than" in found[-1].message


@pytest.mark.slow
def test_more_values_than_any_configuration_has() -> None:
    assert "more than 200000 values" in problems_of("a: [" + "b," * 200_001 + "]")[-1].message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    def message(path: Path) -> str:
        with pytest.raises(SettingsError) as caught:
            read_document(path)
        (problem,) = caught.value.problems
        return str(problem)

    assert "No such file" in message(tmp_path / "none")
    assert "cannot be read: Not a regular file" in message(tmp_path)
    assert "Not a usable file name" in message(tmp_path / "a\0b")
    large = tmp_path / "large"
    large.write_bytes(b"#" * (LARGEST_FILE + 1))
    assert "larger than 4 MiB" in message(large)
    latin = tmp_path / "latin"
    latin.write_bytes(b"a: 1\nb: caf\xe9\n")
    assert f"{latin}:2: not UTF-8" in message(latin)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "bom"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_document(path).root == {"a": 1}


@example("\udcff")
@given(st.text("ab:-[]{}&*!|>'\"%@`,# \n\t?<0.~", max_size=60))
def test_any_text_is_a_document_or_a_settings_error(text: str) -> None:
    problems_of(text)


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-(10**17), 10**17), st.text("abc no:1.#", max_size=8)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=4)
        ),
        max_leaves=20,
    )
)
def test_what_a_yaml_writer_wrote_is_read_back(value: object) -> None:
    assert parse_document(yaml.safe_dump(value), "f").root == value
