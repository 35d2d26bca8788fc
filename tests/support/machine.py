"""What machine the figures are of: cores, memory, kernel, file system, Python."""

import os
import platform
import subprocess
import sys
from pathlib import Path


def machine(place: Path) -> str:
    """One line. `place` is where the queues are that have no disk of their own."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    find = ["findmnt", "-n", "-o", "FSTYPE", "-T", str(place)]
    kind = subprocess.run(find, capture_output=True, text=True, check=True).stdout.strip()
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {memory} GiB of memory, Linux {platform.release().partition('-')[0]}, {kind}, {_python()}"


def _python() -> str:
    """Its version, and whether it is the system's own: how an interpreter was built is a tenth of Sluice's speed."""
    own = Path(sys.executable).resolve().parent == Path("/usr/bin")
    return f"Python {platform.python_version()} ({'the' if own else 'not the'} system's own)"
