"""Our domains and their other names."""

import pytest

from router.classify.domains import DomainPolicy, DomainTable
from router.settings.schema import Domain

TABLE = DomainTable(
    {
        "Example.EDU": Domain(),
        "mcs.example.edu": Domain(unknown="probe", probe=("cliff",)),
        "msd.example.edu": Domain(alias_of="EXAMPLE.edu"),
        "old.example.edu": Domain(alias_of="msd.example.edu"),
        "math.example.edu": Domain(alias_of="mcs.example.edu"),
        "cs.example.edu": Domain(alias_of="mcs.example.edu", unknown="store", store="cliff"),
        "b\u00fccher.example": Domain(),
    }
)


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("example.edu", DomainPolicy("example.edu", "example.edu", "reject")),
        ("msd.example.edu", DomainPolicy("msd.example.edu", "example.edu", "reject")),
        ("old.example.edu", DomainPolicy("old.example.edu", "example.edu", "reject")),
        ("math.example.edu", DomainPolicy("math.example.edu", "mcs.example.edu", "probe", probe=("cliff",))),
        ("cs.example.edu", DomainPolicy("cs.example.edu", "mcs.example.edu", "store", "cliff")),
        ("xn--bcher-kva.example", DomainPolicy("xn--bcher-kva.example", "xn--bcher-kva.example", "reject")),
    ],
)
def test_policies(name: str, policy: DomainPolicy) -> None:
    assert TABLE.get(name) == policy


@pytest.mark.parametrize("name", ["sub.example.edu", "edu", "", "xexample.edu", "[192.0.2.1]"])
def test_inv_69_nothing_else_is_ours(name: str) -> None:
    assert TABLE.get(name) is None
    assert name not in TABLE


def test_the_real_ones() -> None:
    assert TABLE.real() == ("example.edu", "mcs.example.edu", "xn--bcher-kva.example")
    assert len(list(TABLE)) == 7


@pytest.mark.parametrize(
    "domains",
    [
        {"a.example": Domain(alias_of="b.example")},
        {"a.example": Domain(alias_of="a.example")},
        {"a.example": Domain(alias_of="b.example"), "b.example": Domain(alias_of="a.example")},
        {"a..example": Domain()},
    ],
)
def test_aliases_must_end_somewhere(domains: dict[str, Domain]) -> None:
    with pytest.raises(ValueError, match=r"alias of|malformed"):
        DomainTable(domains)
