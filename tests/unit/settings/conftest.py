"""A small valid configuration whose top-level keys a test replaces one by one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from router.settings.loader import load
from router.settings.problem import Problem, SettingsError
from router.settings.schema import Settings

BASE = {
    "hostname": "mx.example.edu",
    "state_dir": "/var/lib/sluice",
    "listen": '[{address: "::", port: 25}]',
    "postmaster": "root@example.edu",
    "stores": '{cliff: {role: old, hosts: ["cliff.example.edu:25"]}, zimbra: {role: new, hosts: ["z.example.edu:25"]}}',
    "domains": "{example.edu: {unknown: reject}, alias.edu: {alias_of: example.edu}}",
}

Write = Callable[..., Path]
Read = Callable[..., Settings]
Fail = Callable[..., list[Problem]]


def text_of(**keys: str | None) -> str:
    merged = {**BASE, **keys}
    return "".join(f"{key}: {value}\n" for key, value in merged.items() if value is not None)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the base with some keys replaced (None removes one)."""

    def write(**keys: str | None) -> Path:
        path = tmp_path / "sluice.yaml"
        path.write_text(text_of(**keys))
        return path

    return write


@pytest.fixture
def read(write: Write) -> Read:
    """What the base means with some keys replaced."""
    return lambda **keys: load(write(**keys))


@pytest.fixture
def fail(write: Write) -> Fail:
    """The problems of the base with some keys replaced."""

    def fail(**keys: str | None) -> list[Problem]:
        with pytest.raises(SettingsError) as caught:
            load(write(**keys))
        return list(caught.value.problems)

    return fail
