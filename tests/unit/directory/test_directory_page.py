"""docs/directory.md: its maps are the presets, and its example entries mean what the page says."""

import re
from pathlib import Path

import pytest
from support.directory_entries import entry, interpreter, raw

from router.directory.presets import PRESETS
from router.model.directory import Role, Standing
from router.settings.directory import AttributeMap
from router.settings.yaml_loader import parse_document

PAGE = (Path(__file__).parents[3] / "docs" / "directory.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### .*?\n\n`schema: ([a-z]+)`(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL))


def block(section: str, kind: str) -> str:
    found = re.findall(rf"^```{kind}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def test_every_preset_has_its_section() -> None:
    assert set(SECTIONS) == set(PRESETS)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_map_of_the_page_is_the_preset(name: str) -> None:
    root = parse_document(block(SECTIONS[name], "yaml"), "directory.md").root
    assert AttributeMap.model_validate(root) == PRESETS[name]


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_table_names_every_attribute(name: str) -> None:
    schema = PRESETS[name]
    statuses = (*schema.statuses, *schema.group_statuses, *schema.domain_statuses)
    wanted = {schema.canonical, *schema.addresses, schema.prefixed, schema.catch_all, schema.home, *schema.home_also}
    wanted |= {schema.route, schema.redirect, *(status.attribute for status in statuses), *schema.forward}
    wanted |= {schema.delivery, schema.no_copy, schema.domain_home, schema.domain_catch_all, *schema.members}
    table = "\n".join(line for line in SECTIONS[name].splitlines() if line.startswith("|"))
    assert [attribute for attribute in sorted(wanted) if attribute and f"`{attribute}`" not in table] == []


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_example_is_a_person_at_a_store(name: str) -> None:
    attributes: dict[str, list[str]] = {}
    for line in block(SECTIONS[name], "ldif").splitlines():
        attribute, _, value = line.partition(": ")
        attributes.setdefault(attribute, []).append(value)
    (dn,) = attributes.pop("dn")
    reader = interpreter(name, homes={"EXCH1": "cliff"})
    found = entry(reader, raw(dn, **attributes))
    assert (found.role, found.key, found.standing) == (Role.PERSON, "jane.doe@example.edu", Standing.ACTIVE)
    assert "jdoe@example.edu" in found.addresses
    assert found.home == ("zimbra" if name == "zimbra" else "cliff")
    assert (found.problem, found.doubt) == ("", "")


def test_the_map_of_ones_own_is_a_valid_one() -> None:
    section = PAGE[PAGE.index("## A schema of your own") :]
    root = parse_document(block(section, "yaml"), "directory.md").root
    assert isinstance(root, dict)
    reader = interpreter(root["schema"], homes={"old": "cliff"})
    joe = {"objectClass": "posixAccount", "mailEnabled": "TRUE", "mail": "joe@d.edu", "mailServer": "old"}
    found = entry(reader, raw(**joe, mailState="moving"))
    assert (found.home, found.standing, reader.hold_value) == ("cliff", Standing.HOLD, "moving")
