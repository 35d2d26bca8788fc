"""Whatever a server sends, there is an answer, printable, and no mail goes where nothing was said."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.directory_entries import CLASSES, STORES, interpreter

from router.directory.filters import attributes
from router.directory.presets import PRESETS
from router.directory.printable import LIMIT, printable
from router.directory.reading import LONGEST
from router.model.address import parse_address
from router.model.directory import DomainEntry, Entry, RawEntry, Unplaced

LIKELY = st.sampled_from(
    [
        b"",
        b" ",
        b"active",
        b"hold",
        b"forward",
        b"TRUE",
        b"joe@example.edu",
        b"SMTP:joe@example.edu",
        b"@example.edu",
        b"@cliff.example.edu:joe@example.edu",
        b"cliff.example.edu",
        b"shared.example.edu",
        b"smtp:cliff.example.edu:25",
        b"smtp:[::1]:99999",
        b"/o=x/cn=",
        b"CN=Servers,CN=x",
        b"\xff\xfe",
        b"a\0b\r\n\x1b[1m@example.edu",
        b"x" * 5000,
        "joe@bücher.example".encode(),
        b"example.edu",
    ]
)
CLASS = st.sampled_from(
    [*(name.encode() for name in CLASSES.values()), b"inetMailGroup", b"mailDomain", b"zimbraDomain"]
)
VALUES = st.lists(LIKELY | st.binary(max_size=12), max_size=3).map(tuple)
READERS = {name: interpreter(name, lists="lists", homes={"EXCH1": "zimbra"}) for name in PRESETS}
EVERYTHING = sorted({name.lower() for schema in PRESETS.values() for name in attributes(schema)} | {"x;range=0-1"})


@st.composite
def entries(draw: st.DrawFn) -> RawEntry:
    given = draw(st.dictionaries(st.sampled_from(EVERYTHING), VALUES, max_size=12))
    given["objectclass"] = draw(st.lists(CLASS | LIKELY, max_size=2).map(tuple))
    return RawEntry(draw(st.text(max_size=20) | st.just("dc=example,dc=edu")), given)


@pytest.mark.parametrize("name", sorted(PRESETS))
@settings(max_examples=150, deadline=None)
@given(found=entries())
@pytest.mark.slow
def test_every_entry_has_an_answer(name: str, found: RawEntry) -> None:
    item = READERS[name].item(found)
    if item is None:
        return
    told = [item.problem]
    if not isinstance(item, Unplaced):
        told += [item.doubt, *(text for pair in item.shown for text in pair)]
    assert all(text == "" or text.isprintable() for text in told)
    assert all(len(text) <= LONGEST * 2 + 2 for text in told)
    if isinstance(item, Entry):
        entry_makes_sense(item)
    elif isinstance(item, DomainEntry):
        assert item.domain
        assert item.home in {"", *STORES}
    else:
        assert item.problem


def entry_makes_sense(item: Entry) -> None:
    assert item.key in item.addresses
    assert list(item.addresses) == sorted(set(item.addresses))
    assert item.home in {"", *STORES}
    assert all("@" in key for key in item.addresses)
    assert all(parse_address(one).domain for one in (*item.forwards, item.route) if one)
    if item.host.strip() and not item.home and not item.forwards:
        assert item.problem, "a host that means nothing never looks like no host"
    assert item.keeps or item.forwards, "a mailbox without a copy has somewhere else to go"


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_shown_values_are_one_printable_line(text: str) -> None:
    line = printable(text)
    assert line == "" or line.isprintable()
    assert len(line) <= LIMIT
    line.encode("utf-8")


def test_many_values_are_shown_in_part() -> None:
    many = tuple(f"a{number}@example.edu".encode() for number in range(10_000))
    reader = READERS["sun"]
    item = reader.item(RawEntry("uid=a", {"objectclass": (b"inetMailUser",), "mailalternateaddress": many}))
    assert isinstance(item, Entry)
    assert len(item.addresses) == 10_000
    assert ("mailAlternateAddress", "and 9980 more") in item.shown
    assert len([one for one in item.shown if one[0] == "mailAlternateAddress"]) == 21
