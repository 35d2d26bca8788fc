import os
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from router.settings.loader import load
from router.settings.problem import Problem, SettingsError
from router.settings.schema import Domain, HostPort, Settings
from router.settings.yaml_loader import parse_document

Read = Callable[..., Settings]
Write = Callable[..., Path]
Fail = Callable[..., list[Problem]]

PROJECT = Path(__file__).parents[3]


def test_the_sample_loads() -> None:
    settings = load(PROJECT / "config" / "sluice.yaml")
    assert settings.stores["zimbra"].hosts[1] == HostPort(host="zimbra2.example.edu", port=25)
    assert settings.domains["cs.example.edu"] == Domain(unknown="store", store="cliff")
    assert settings.message_size_limit == 100 * 2**20
    assert settings.trusted_networks[0] == ip_network("192.0.2.10/32")


def test_the_sample_shows_the_defaults_it_comments_out(write: Write) -> None:
    """Uncommenting a default changes nothing."""
    path = PROJECT / "config" / "sluice.yaml"
    settings = load(path)
    for section in ("limits", "retry", "safety", "log"):
        lines = path.read_text().splitlines()
        start = next(number for number, line in enumerate(lines) if line.startswith(f"# {section}:"))
        shown = [lines[start]]
        for line in lines[start + 1 :]:
            if not line.startswith("#   "):
                break
            shown.append(line)
        base = write(**{section: None}).read_text()
        document = parse_document(base + "\n".join(line[2:] for line in shown) + "\n", "f")
        given = Settings.model_validate(document.root)
        assert getattr(given, section) == getattr(settings, section)
        assert getattr(given, section).model_fields_set == set(type(getattr(given, section)).model_fields), section


def test_a_problem_reads_file_line_key_message(write: Write) -> None:
    path = write(workers="x")
    with pytest.raises(SettingsError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert str(problem) == f"{path}:7: workers: 'x' is not a whole number"
    assert problem == Problem(str(path), 7, 10, "workers", "'x' is not a whole number", problem.remedy)
    assert str(caught.value) == f"{problem}\n    {problem.remedy}"


def test_all_problems_come_at_once_in_the_order_of_the_file(fail: Fail) -> None:
    problems = fail(
        hostname="mx",
        stores="{cliff: {role: x, hosts: []}, cliff: {}}",
        domains="{example.edu: {unknown: {store: nowhere}}}",
        services="{x: 5}",
        retry="{first: 1:00}",
        nonsense="1",
    )
    assert [(p.line, p.key) for p in problems] == [
        (1, "hostname"),
        (5, "stores.cliff.role"),
        (5, "stores.cliff.hosts"),
        (5, "stores.cliff"),
        (6, "domains.example.edu.store"),
        (7, "services.x"),
        (7, "services.x"),
        (8, "retry.first"),
        (9, "nonsense"),
    ]


@pytest.mark.parametrize(("text", "message"), [("", "is empty"), ("# nothing\n", "is empty"), ("- a\n", "no mapping")])
def test_a_file_without_keys(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "f"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message):
        load(path)


def test_sections_with_all_entries_commented_out_have_their_defaults(read: Read) -> None:
    settings = read(lists="", services="", limits="", trusted_networks="", directory="")
    assert settings.lists == ()
    assert settings.limits.recipients == 1000
    assert settings.directory == ("database",)


def test_names_are_folded(read: Read) -> None:
    settings = read(
        hostname="MX.Example.EDU",
        domains="{Example.EDU: , bücher.example: , Alias.EDU: {alias_of: EXAMPLE.edu}}",
        services="{Tickets@Example.EDU: cliff}",
        lists='[{store: cliff, manager: mailman3, addresses: ["Users@BÜCHER.example"]}]',
    )
    assert settings.hostname == "mx.example.edu"
    assert list(settings.domains) == ["example.edu", "xn--bcher-kva.example", "alias.edu"]
    assert settings.domains["alias.edu"].alias_of == "example.edu"
    assert settings.services == {"tickets@example.edu": "cliff"}
    assert settings.lists[0].addresses == ("users@xn--bcher-kva.example",)


def test_chains_of_alias_domains_are_followed_to_their_end(read: Read) -> None:
    settings = read(domains="{a.edu: {alias_of: b.edu}, b.edu: {alias_of: c.edu}, c.edu: }")
    assert [settings.domains[name].alias_of for name in ("a.edu", "b.edu", "c.edu")] == ["c.edu", "c.edu", ""]


def test_probe_asks_old_and_new_stores_unless_told_otherwise(read: Read) -> None:
    stores = (
        '{zimbra: {role: new, hosts: ["a.edu:25"]}, rt: {role: other, hosts: ["b.edu:25"]}, '
        'cliff: {role: old, hosts: ["c.edu:25"]}}'
    )
    settings = read(stores=stores, domains="{a.edu: {unknown: probe}, b.edu: {unknown: probe, probe: [rt]}}")
    assert settings.domains["a.edu"].probe == ("cliff", "zimbra")
    assert settings.domains["b.edu"].probe == ("rt",)


@pytest.mark.parametrize(
    "domain", ['{unknown: "store: cliff"}', "{unknown: {store: cliff}}", "{unknown: store, store: cliff}"]
)
def test_the_spellings_of_unknown_to_a_store(read: Read, domain: str) -> None:
    settings = read(domains="{a.edu: " + domain + "}")
    assert settings.domains["a.edu"] == Domain(unknown="store", store="cliff")


def test_the_traps_of_yaml_as_names(read: Read) -> None:
    """A key `no` is the store no, and `tls: off` is off, not false."""
    settings = read(
        stores='{no: {role: old, hosts: ["a.edu:25"], tls: off}}', domains="{a.edu: {unknown: {store: no}}}"
    )
    assert settings.stores["no"].tls == "off"
    assert settings.domains["a.edu"].store == "no"


def test_workers_auto(read: Read) -> None:
    assert read(workers="auto").workers == 0
    assert read(workers="3").workers == 3


def test_units(read: Read) -> None:
    settings = read(
        message_size_limit="10 MB", retry="{first: 1m30s, longest: 2h}", outbound='{smarthost: "[2001:db8::1]:587"}'
    )
    assert settings.message_size_limit == 10_000_000
    assert (settings.retry.first, settings.retry.longest) == (90.0, 7200.0)
    assert str(settings.outbound.smarthost) == "[2001:db8::1]:587"


def test_the_fingerprint_is_of_what_the_file_means(read: Read) -> None:
    plain = read(message_size_limit="1 MiB", retry="{first: 60, longest: 1h}")
    assert len(plain.fingerprint) == 64
    other = read(retry="{longest: 3600s, first: 1m}  # a comment", message_size_limit="1048576")
    assert other == plain
    assert read(message_size_limit="2 MiB", retry="{first: 60, longest: 1h}").fingerprint != plain.fingerprint


def test_the_fingerprint_does_not_depend_on_the_order_of_keys(write: Write, tmp_path: Path) -> None:
    first = write(domains="{a.edu: {unknown: probe}}")
    lines = first.read_text().splitlines()
    second = tmp_path / "second.yaml"
    second.write_text(
        "\n".join(reversed(lines)).replace(
            lines[4],
            'stores: {zimbra: {role: new, hosts: ["z.example.edu:25"]}, '
            'cliff: {hosts: ["cliff.example.edu:25"], role: old}}',
        )
    )
    assert load(first).fingerprint == load(second).fingerprint


def test_the_fingerprint_covers_the_content_of_list_files(read: Read, tmp_path: Path) -> None:
    names = tmp_path / "lists.txt"
    names.write_text("a@example.edu\n")
    lists = f"[{{store: cliff, manager: mailman2, file: {names}}}]"
    before = read(lists=lists).fingerprint
    assert read(lists=lists).fingerprint == before
    names.write_text("b@example.edu\n")
    assert read(lists=lists).fingerprint != before


def test_a_pipe_as_configuration_does_not_hang(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(SettingsError, match="Not a regular file"):
        load(pipe)
