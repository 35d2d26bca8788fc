"""A control database that cannot be read, or is gone while there are spools, is no reason to begin anew (inv_40)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from router.daemon.site import Site, SiteError
from router.errors import ControlUnavailable
from router.settings.schema import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    given = {
        "hostname": "mx.example.edu",
        "state_dir": str(tmp_path / "state"),
        "stores": {},
        "domains": {},
        "listen": [],
        "postmaster": "root@example.edu",
    }
    return Settings.model_validate(given)


def remove(database: Path) -> None:
    database.unlink()


def empty(database: Path) -> None:
    database.write_bytes(b"")


def overwrite(database: Path) -> None:
    database.write_bytes(b"this is no database" * 1000)


def cut(database: Path) -> None:
    database.write_bytes(database.read_bytes()[:6000])


@pytest.mark.parametrize("harm", [remove, empty, overwrite, cut])
def test_inv_40_a_start_is_refused(settings: Settings, harm: Callable[[Path], None]) -> None:
    site = Site.open(settings)
    site.spools(1)
    site.close()
    harm(settings.state_dir / "control.db")
    with pytest.raises((SiteError, ControlUnavailable)):
        Site.open(settings)
    left = settings.state_dir / "control.db"
    assert not left.exists() or left.stat().st_size != 0 or harm is empty, "nothing new was made in its place"
