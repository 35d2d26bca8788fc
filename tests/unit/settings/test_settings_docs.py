"""The sample and the reference page name every key there is, and nothing else."""

import re
from collections.abc import Iterator
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel, TypeAdapter

from router.settings.directory import AttributeMap, LdapSource
from router.settings.findings import NOT_IN_FILE
from router.settings.findings import keys_of as fields_of
from router.settings.schema import HostPort, Settings
from router.settings.values import parse_duration, parse_size
from router.settings.yaml_loader import parse_document

PROJECT = Path(__file__).parents[3]
PAGE = (PROJECT / "docs" / "configuration.md").read_text()
SAMPLE = (PROJECT / "config" / "sluice.yaml").read_text()
ROWS = dict(re.findall(r"^\| `([a-z_.*\[\]0-9]+)` \|[^|]*\|([^|]*)\|", PAGE, re.MULTILINE))
CSV_COLUMNS = {"address", "home", "aliases", "status", "size_bytes", "division", "target"}


def keys_of(annotation: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in fields_of(annotation).items():
            if prefix or name not in NOT_IN_FILE:
                yield f"{prefix}.{name}".lstrip("."), field
                yield from keys_of(field.annotation, f"{prefix}.{name}".lstrip("."))
        return
    origin = get_origin(annotation)
    suffix = ".*" if origin is dict else "[]" if origin is tuple else ""
    for argument in get_args(annotation):
        if argument is not HostPort:
            yield from keys_of(argument, prefix + suffix)


KEYS = dict(keys_of(Settings, ""))


def test_the_walk_sees_the_schema() -> None:
    assert {"stores.*.settle", "listen[].tls.key", "outbound.smarthost", "domains.*.alias_of"} <= set(KEYS)
    assert {"directory[].ldap.schema.statuses[].attribute", "directory[].ldap.homes"} <= set(KEYS)


def test_the_page_documents_every_key_and_no_other() -> None:
    documented = {key for key in ROWS if key not in CSV_COLUMNS}
    assert documented == set(KEYS)


@pytest.mark.parametrize("key", sorted(KEYS))
def test_the_sample_shows_every_key(key: str) -> None:
    name = re.split(r"[.\]\[*]+", key)[-1]
    if key == "domains.*.store":
        assert "{store: " in SAMPLE
        return
    assert re.search(rf"^[# -]*{name}:", SAMPLE, re.MULTILINE)


@pytest.mark.parametrize("key", sorted(KEYS))
def test_the_page_gives_the_default_of_every_plain_key(key: str) -> None:
    field, shown = KEYS[key], ROWS[key].strip().strip("`")
    if field.is_required():
        assert shown == "required"
    elif isinstance(field.default, bool):
        assert shown == str(field.default).lower()
    elif isinstance(field.default, float):
        assert shown == "1.7" or parse_duration(shown) == field.default
    elif isinstance(field.default, int):
        assert shown == "auto" or parse_size(shown) == field.default


def test_the_sample_of_people_has_the_columns_of_the_page() -> None:
    header = (PROJECT / "config" / "users.csv").read_text().splitlines()[0].split(",")
    assert set(header) == CSV_COLUMNS
    assert all(f"| `{column}` |" in PAGE for column in header)


def test_the_directory_that_the_sample_comments_out_is_valid() -> None:
    """The block with the preset, and its attribute map."""
    begin = dropwhile(lambda line: not line.startswith("  # - ldap:"), SAMPLE.splitlines())
    block = list(takewhile(lambda line: line.startswith("  # "), begin))
    plain = "\n".join("  " + line[4:] for line in block if not line.startswith("  #     #"))
    root = parse_document(f"directory:\n{plain}\n", "f").root
    assert isinstance(root, dict)
    source = TypeAdapter(tuple[LdapSource, ...]).validate_python(root["directory"])[0].ldap
    assert source.model_fields_set == set(type(source).model_fields)
    assert source.homes == {"oldmail.example.edu": "cliff", "newmail.example.edu": "zimbra"}
    own = "\n".join(line[10:] for line in block if line.startswith("  #     #"))
    found = parse_document(own + "\n", "f").root
    assert isinstance(found, dict)
    schema = AttributeMap.model_validate(found["schema"])
    assert schema.model_fields_set == set(AttributeMap.model_fields)
