from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.settings.values import (
    LARGEST_SIZE,
    LONGEST_DURATION,
    BadValue,
    parse_count,
    parse_duration,
    parse_flag,
    parse_host_port,
    parse_network,
    parse_number,
    parse_size,
    parse_workers,
    shown,
    yaml_trap,
)

PARSERS = (
    parse_count,
    parse_duration,
    parse_flag,
    parse_host_port,
    parse_network,
    parse_number,
    parse_size,
    parse_workers,
)
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=80),
    st.text("0123456789.:kKMGTiBdhms_/[] -+exno", max_size=20),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@given(ANYTHING)
def test_a_parser_answers_or_says_bad_value(value: object) -> None:
    errors = [error for error in (_error_of(parser, value) for parser in PARSERS) if error is not None]
    assert all(str(error).isprintable() and error.remedy for error in errors)


def _error_of(parser: Callable[[object], object], value: object) -> BadValue | None:
    try:
        parser(value)
    except BadValue as error:
        return error
    return None


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("100 MiB", 104_857_600),
        ("64KiB", 65_536),
        ("10 MB", 10_000_000),
        ("1 kB", 1000),
        ("1 KB", 1000),
        ("2 TiB", 2 * 2**40),
        ("1.5 GiB", 1_610_612_736),
        ("7 B", 7),
        ("65536", 65_536),
        (65_536, 65_536),
        (0, 0),
    ],
)
def test_sizes(text: object, octets: int) -> None:
    assert parse_size(text) == octets


@pytest.mark.parametrize(
    "value",
    [
        "10M",
        "10 k",
        "10 mib",
        "1.3 B",
        "1.0001 kB",
        "-1",
        -1,
        "1e3",
        "",
        " 5",
        "5 ",
        "5  MiB",
        "MiB",
        True,
        1.0,
        None,
        "0755",
        "1:00",
        "1_000",
        "9999999999 TiB",
        2**63,
        "\u0661 MiB",
    ],
)
def test_no_sizes(value: object) -> None:
    with pytest.raises(BadValue):
        parse_size(value)


@given(st.integers(0, LARGEST_SIZE // 2**40), st.sampled_from(["", "B", "KiB", "MiB", "GiB", "TiB", "MB"]))
def test_a_size_is_its_number_times_its_unit(number: int, unit: str) -> None:
    factor = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "MB": 10**6}[unit]
    if number < 10**18:
        assert parse_size(f"{number} {unit}" if unit else str(number)) == number * factor


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("4h", 14_400),
        ("5d", 432_000),
        ("2w", 1_209_600),
        ("250ms", 0.25),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1.5h", 5400),
        ("1m500ms", 60.5),
        ("90", 90),
        ("0.5", 0.5),
        (90, 90),
        (0.25, 0.25),
        ("0s", 0),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "30m1h",
        "1h1h",
        "4 hours",
        "4H",
        "-5s",
        -5,
        "",
        "h",
        "1h30",
        True,
        None,
        "11y",
        "4000d",
        float("inf"),
        float("nan"),
        10**400,
        "007",
    ],
)
def test_no_durations(value: object) -> None:
    with pytest.raises(BadValue):
        parse_duration(value)


def test_a_time_of_day_as_duration_offers_both_readings() -> None:
    with pytest.raises(BadValue, match="base 60") as caught:
        parse_duration("22:30")
    assert "22h30m" in caught.value.remedy
    assert "22m30s" in caught.value.remedy


@given(st.timedeltas(timedelta(0), timedelta(seconds=LONGEST_DURATION)))
def test_the_parts_of_a_duration_add_up(span: timedelta) -> None:
    milliseconds = span // timedelta(milliseconds=1)
    hours, rest = divmod(milliseconds, 3_600_000)
    seconds, milliseconds = divmod(rest, 1000)
    expected = (hours * 3_600_000 + seconds * 1000 + milliseconds) / 1000
    assert parse_duration(f"{hours}h{seconds}s{milliseconds}ms") == expected


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("cliff.example.edu:25", "cliff.example.edu", 25),
        ("CLIFF.example.EDU:2525", "cliff.example.edu", 2525),
        ("[2001:DB8::1]:25", "2001:db8::1", 25),
        ("192.0.2.1:65535", "192.0.2.1", 65535),
        ("bücher.example:25", "xn--bcher-kva.example", 25),
        ("localhost:1", "localhost", 1),
    ],
)
def test_host_ports(text: str, host: str, port: int) -> None:
    assert parse_host_port(text) == (host, port)


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ("cliff.example.edu", "cliff.example.edu:25"),
        ("2001:db8::1:25", "brackets"),
        ("[192.0.2.1]:25", "without brackets"),
        ("[cliff.example.edu]:25", "IPv6"),
        ("cliff.example.edu:0", "mail.example.edu:25"),
        ("cliff.example.edu:65536", "mail.example.edu:25"),
        ("cliff.example.edu:025", "mail.example.edu:25"),
        ("cliff.example.edu.:25", "final dot"),
        ("256.1.1.1:25", "0 to 255"),
        (":25", "final dot"),
        ("a b:25", "final dot"),
        (25, "mail.example.edu:25"),
        ("22:30", "0 to 255"),
    ],
)
def test_no_host_ports(value: object, remedy: str) -> None:
    with pytest.raises(BadValue) as caught:
        parse_host_port(value)
    assert remedy in caught.value.remedy


@given(st.ip_addresses(), st.integers(1, 65535))
def test_every_address_and_port_is_read_back(address: object, port: int) -> None:
    text = f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"
    host, number = parse_host_port(text)
    assert (ip_address(host), number) == (address, port)


@given(st.ip_addresses(), st.integers(0, 32))
def test_a_network_with_host_bits_is_refused_with_both_ways_out(address: object, prefix: int) -> None:
    text = f"{address}/{prefix}"
    network = ip_network(text, strict=False)
    if str(network) == text:
        assert parse_network(text) == network
        return
    with pytest.raises(BadValue) as caught:
        parse_network(text)
    assert str(network) in caught.value.remedy
    assert f"{address}/{network.max_prefixlen}" in caught.value.remedy


def test_one_address_is_a_network_of_one() -> None:
    assert parse_network("192.0.2.10") == ip_network("192.0.2.10/32")


@pytest.mark.parametrize("value", ["192.0.2.0/33", "example.edu", "", 3232235521, None, "192.0.2/24", "\uff1192.0.2.1"])
def test_no_networks(value: object) -> None:
    with pytest.raises(BadValue, match="is not a network"):
        parse_network(value)


@pytest.mark.parametrize("text", ["yes", "No", "ON", "off", "22:30", "1:00:00.5", "0755", "0x1f", "1_000"])
def test_yaml_traps_are_known(text: str) -> None:
    assert yaml_trap(text)


@pytest.mark.parametrize("text", ["true", "0", "10", "1.5", "cliff", "none", "cliff:25", "", "10 MiB"])
def test_ordinary_texts_are_no_traps(text: str) -> None:
    assert not yaml_trap(text)


@pytest.mark.parametrize("value", [True, "5", 5.0, None, "five"])
def test_a_count_is_never_converted(value: object) -> None:
    with pytest.raises(BadValue):
        parse_count(value)


def test_workers() -> None:
    assert parse_workers("auto") == 0
    assert parse_workers(4) == 4
    with pytest.raises(BadValue) as caught:
        parse_workers("many")
    assert "auto" in caught.value.remedy


@given(st.text(max_size=500))
def test_a_shown_value_is_one_short_printable_line(text: str) -> None:
    assert shown(text).isprintable()
    assert len(shown(text)) <= 62
