"""The units as systemd reads them: they verify, and the service exposes little (`systemd-analyze security`)."""

import re
import subprocess
from pathlib import Path

import pytest

MAX_EXPOSURE = 2.0
PROGRAM = "/opt/sluice/bin/sluice"


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=110, check=False)


@pytest.fixture
def units(tmp_path: Path, root: Path) -> list[Path]:
    """The units with programs that exist on any machine: neither ours nor procps need be installed here."""
    copies = []
    for unit in sorted([*(root / "systemd").glob("*.service"), *(root / "systemd").glob("*.socket")]):
        copies.append(tmp_path / unit.name)
        copies[-1].write_text(unit.read_text().replace(PROGRAM, "/bin/true").replace("/bin/kill", "/bin/true"))
    return copies


@pytest.mark.slow
def test_the_units_verify(units: list[Path]) -> None:
    assert [unit.name for unit in units] == ["sluice.service", "sluice.socket"]
    done = analyze("verify", "--recursive-errors=no", *units)
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "sluice" in line], done.stderr


@pytest.mark.slow
def test_verify_sees_a_fault(units: list[Path]) -> None:
    units[0].write_text(units[0].read_text().replace("KillMode=mixed", "KillMode=gently"))
    assert "kill mode" in analyze("verify", "--recursive-errors=no", *units).stderr


@pytest.mark.slow
def test_the_service_exposes_little(root: Path) -> None:
    done = analyze("security", "--offline=true", root / "systemd" / "sluice.service")
    exposure = re.search(r"exposure level for sluice\.service: ([0-9.]+)", done.stdout)
    assert exposure is not None, done.stdout + done.stderr
    assert float(exposure.group(1)) <= MAX_EXPOSURE


def test_the_account_owns_the_state_directory(root: Path) -> None:
    service = (root / "systemd" / "sluice.service").read_text()
    assert {"User=sluice", "StateDirectory=sluice", "StateDirectoryMode=0700", "Type=notify"} <= set(
        service.split("\n")
    )
    assert "/var/lib/sluice" in (root / "systemd" / "sluice.sysusers.conf").read_text()
    assert PROGRAM in (root / "docs" / "install.md").read_text()
