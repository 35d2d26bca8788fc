"""The relays that can be compared, by the names of the command line."""

from collections.abc import Mapping
from pathlib import Path

from compare.bout import Make
from compare.exim_relay import EximRelay
from compare.opensmtpd_relay import OpensmtpdRelay
from compare.postfix_relay import PostfixRelay
from compare.sluice_relay import SluiceRelay


def roster(packages: Path) -> Mapping[str, Make]:
    """`packages` is where those that are not installed are unpacked."""
    return {
        "sluice": SluiceRelay,
        "postfix": PostfixRelay,
        "exim": lambda place: EximRelay(place, packages),
        "opensmtpd": lambda place: OpensmtpdRelay(place, packages),
    }
