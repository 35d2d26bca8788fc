"""
What Postfix is beside Sluice: its version, and the settings it is run with, as `postconf -n` tells them.

Guarantees: nothing is started, and places of this machine's temporary directory are told as `…`.
On failure: `CalledProcessError`; on a machine without Postfix, as an ordinary user, an assertion that says why.
"""

import subprocess
import tempfile
from pathlib import Path

from support.postfix_peer import why_not

from bench.relays import Plan, Postfix
from bench.tools import tool


def told() -> tuple[str, tuple[str, ...]]:
    """Version, and lines of settings."""
    reason = why_not()
    assert not reason, reason
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
        directory = Path(name)
        Postfix(directory, Plan({"old": 25}))
        command = [tool("postconf"), "-c", str(directory / "etc")]
        version = _said([*command, "-h", "mail_version"]).strip()
        lines = _said([*command, "-n"]).replace(name, "…").splitlines()
    return version, tuple(line for line in lines if "127.0.0.1:25" not in line)


def _said(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
