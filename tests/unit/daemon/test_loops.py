"""A signal that comes while a process writes down its end changes nothing (inv_10)."""

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, os, signal, sys
from router.daemon.loops import new_event_loop, to_the_end

async def work():
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    os.kill(os.getpid(), signal.SIGTERM)
    await done.wait()
    return 3

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    code = runner.run(to_the_end(work()))
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    os.kill(os.getpid(), number)
print("written down", flush=True)
sys.exit(code)
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_inv_10_a_second_signal_does_not_change_the_end(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_LOOP", loop)
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (3, "written down\n"), done.stderr
