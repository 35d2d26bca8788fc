"""
Text to value: sizes, durations, counts, switches, `host:port` and networks, each with an error that says what to
write instead.

Guarantees: pure; a value is never guessed. What YAML 1.1 would have turned into another value (22:30, 0755, `yes`)
is refused with that reason wherever a number or a switch is expected.

On failure: `BadValue`, never anything else, whatever the input.
"""

import re
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network

from router.model.address import AddressSyntaxError, parse_domain

LARGEST_SIZE = 2**63 - 1
LONGEST_DURATION = 10 * 366 * 86400.0
"""Seconds. Beyond ten years somebody mistook the unit."""

_BINARY = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_DECIMAL = {"kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE_UNITS = {"": 1, "B": 1, **_BINARY, **_DECIMAL}
_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)(?: ?([A-Za-z]{1,5}))?")

_DURATION_UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
"""Milliseconds, longest first: the order in which the parts of `1h30m` must stand."""
_DURATION = re.compile(r"(?:[0-9]{1,15}(?:\.[0-9]{1,9})?(?:ms|[wdhms]) ?)+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[wdhms])")
_PLAIN_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")

_HOST_PORT = re.compile(r"(?:\[(?P<literal>[^\[\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})")

_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_OTHER_BASE = re.compile(r"[-+]?0[xXoObB][0-9a-fA-F_]+")
_UNDERSCORES = re.compile(r"[-+]?[0-9]+(?:_[0-9]*)+")
_SWITCH_WORDS = frozenset({"yes", "no", "on", "off", "y", "n"})


class BadValue(ValueError):
    """The value cannot be used; `remedy` says what to write instead."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


def shown(value: object) -> str:
    """The value for an error text: one line, printable, at most some 60 characters."""
    text = f"'{value}'" if isinstance(value, str) and value.isprintable() else ascii(value)
    return text if len(text) <= 62 else f"{text[:58]}...'"


def yaml_trap(text: str) -> str:
    """Why a plain scalar is text here though YAML 1.1 makes a number or a switch of it; '' when it is no trap."""
    if text.lower() in _SWITCH_WORDS:
        return "it is plain text here (YAML 1.1 would read a true or false)"
    if _SEXAGESIMAL.fullmatch(text):
        return "it is text with colons here (YAML 1.1 would read a number in base 60)"
    if _LEADING_ZERO.fullmatch(text):
        return "a number with a leading zero is no number here (YAML 1.1 would read it in base 8)"
    if _OTHER_BASE.fullmatch(text) or _UNDERSCORES.fullmatch(text):
        return "only plain decimal digits make a number here"
    return ""


def parse_count(value: object) -> int:
    """A whole number. Text is never converted, so that no spelling of YAML is mistaken for another number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise BadValue(f"{shown(value)} is not a whole number{_because(value)}", "write decimal digits without quotes")


def parse_workers(value: object) -> int:
    """A number of processes, or `auto`, which is 0."""
    if value == "auto":
        return 0
    try:
        return parse_count(value)
    except BadValue as error:
        raise BadValue(str(error), "write auto (one per core) or a whole number") from error


def parse_number(value: object) -> float:
    """A number with or without a fraction."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e15:
        return float(value)
    raise BadValue(f"{shown(value)} is not a number{_because(value)}", "write a plain number such as 1.7")


def parse_flag(value: object) -> bool:
    """True or false and nothing else."""
    if isinstance(value, bool):
        return value
    raise BadValue(f"{shown(value)} is neither true nor false{_because(value)}", "write true or false")


def parse_size(value: object) -> int:
    """
    Octets: a whole number, or a number with a unit. Binary units are powers of 1024, decimal ones of 1000.

    >>> parse_size("64 KiB"), parse_size("10 MB"), parse_size("1.5 GiB")
    (65536, 10000000, 1610612736)
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return _octets(Decimal(value), value)
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None or (isinstance(value, str) and yaml_trap(value)):
        raise BadValue(
            f"{shown(value)} is not a size{_because(value)}", "write a size such as 100 MiB, 64 KiB or 65536"
        )
    number, unit = match.groups(default="")
    if unit not in _SIZE_UNITS:
        raise BadValue(f"{shown(value)} has no unit known here", _size_remedy(number, unit))
    return _octets(Decimal(number) * _SIZE_UNITS[unit], value)


def parse_duration(value: object) -> float:
    """
    Seconds: a plain number, or parts with units (`w d h m s ms`), the longest first, each at most once.

    >>> parse_duration("90s"), parse_duration("1h30m"), parse_duration("250ms"), parse_duration(5)
    (90.0, 5400.0, 0.25, 5.0)
    """
    seconds = _plain_seconds(value)
    if seconds is None and isinstance(value, str) and _DURATION.fullmatch(value):
        seconds = _sum_of_parts(value)
    if seconds is None:
        raise BadValue(f"{shown(value)} is not a duration{_because(value)}", _duration_remedy(value))
    if not 0 <= seconds <= LONGEST_DURATION:
        raise BadValue(f"{shown(value)} is not between 0 and ten years", "write a duration such as 90s, 4h or 5d")
    return seconds


def parse_host_port(value: object) -> tuple[str, int]:
    """
    Host and port of `name:port`, `address:port` or `[v6]:port`; names in lower case, as A-labels.

    >>> parse_host_port("[2001:DB8::1]:25")
    ('2001:db8::1', 25)
    """
    match = _HOST_PORT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise BadValue(f"{shown(value)} is not host:port{_because(value)}", _host_port_remedy(value))
    port = int(match["port"])
    if not 1 <= port <= 65535 or match["port"].startswith("0"):
        raise BadValue(f"{shown(value)} has no port between 1 and 65535", "write for instance mail.example.edu:25")
    if match["literal"] is not None:
        return _parse_v6(match["literal"]), port
    return parse_host(match["host"]), port


def parse_host(text: str) -> str:
    """A host name in lower case, as A-label, or an IPv4 address."""
    if re.fullmatch(r"[0-9.]+", text):
        try:
            return str(ip_address(text))
        except ValueError as error:
            raise BadValue(f"{shown(text)} is no IPv4 address", "write four numbers from 0 to 255") from error
    if text.startswith("["):
        raise BadValue(f"{shown(text)} is no host name", "write a name, or an IPv6 address in brackets")
    try:
        return parse_domain(text)
    except AddressSyntaxError as error:
        raise BadValue(f"{shown(text)} is no host name: {error}", "write the name without a final dot") from error


def parse_network(value: object) -> IPv4Network | IPv6Network:
    """A network `address/prefix`, or one address. Host bits beside the prefix are an error, not rounded away."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str) or not value.isascii():
        raise BadValue(f"{shown(value)} is not a network", "write for instance 192.0.2.0/24 or 2001:db8::/32")
    try:
        return ip_network(value)
    except ValueError as error:
        raise _network_error(value) from error


def _because(value: object) -> str:
    reason = yaml_trap(value) if isinstance(value, str) else ""
    return f": {reason}" if reason else ""


def _octets(number: Decimal, value: object) -> int:
    if number != number.to_integral_value():
        raise BadValue(f"{shown(value)} is not a whole number of octets", "write a size such as 100 MiB or 65536")
    if not 0 <= number <= LARGEST_SIZE:
        raise BadValue(f"{shown(value)} is not between 0 and 2^63 octets", "write a size such as 100 MiB or 65536")
    return int(number)


def _size_remedy(number: str, unit: str) -> str:
    letter = unit[:1].upper()
    if letter and letter in "KMGT":
        return f"write {number} {letter}iB (powers of 1024) or {number} {'k' if letter == 'K' else letter}B (of 1000)"
    return "the units are B, KiB, MiB, GiB, TiB, kB, MB, GB and TB"


def _plain_seconds(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if abs(value) <= LONGEST_DURATION * 2 else -1.0
    if isinstance(value, str) and _PLAIN_NUMBER.fullmatch(value) and not yaml_trap(value):
        return float(value)
    return None


def _sum_of_parts(text: str) -> float | None:
    parts = _DURATION_PART.findall(text)
    units = [unit for _, unit in parts]
    if units != [unit for unit in _DURATION_UNITS if unit in units]:
        return None
    total = sum((Decimal(number) * _DURATION_UNITS[unit] for number, unit in parts), Decimal(0))
    return float(total / 1000)


def _duration_remedy(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,3}:[0-5]?[0-9]", value):
        first, second = value.split(":")
        return f"write {first}h{second}m or {first}m{second}s"
    return "write a duration such as 90s, 4h, 5d, 250ms or 1h30m (units w d h m s ms, the longest first)"


def _host_port_remedy(value: object) -> str:
    if isinstance(value, str) and value.count(":") > 1 and "[" not in value:
        return "put an IPv6 address in brackets: [2001:db8::1]:25"
    if isinstance(value, str) and value and ":" not in value and value.isprintable() and len(value) < 60:
        return f"add the port: {value}:25"
    return "write for instance mail.example.edu:25, 192.0.2.1:25 or [2001:db8::1]:25"


def _parse_v6(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError as error:
        raise BadValue(f"{shown(text)} is no IPv6 address", "only an IPv6 address stands in brackets") from error
    if address.version != 6:
        raise BadValue(f"{shown(text)} is no IPv6 address", "write an IPv4 address without brackets")
    return str(address)


def _network_error(text: str) -> BadValue:
    try:
        interface = ip_interface(text)
    except ValueError:
        return BadValue(f"{shown(text)} is not a network", "write for instance 192.0.2.0/24 or 2001:db8::/32")
    one_host = f"{interface.ip}/{interface.max_prefixlen}"
    return BadValue(
        f"{shown(text)} has bits set beside its prefix, so it is not clear what it means",
        f"write {interface.network} for the whole network or {one_host} for that one host",
    )
