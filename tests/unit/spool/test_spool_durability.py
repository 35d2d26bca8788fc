"""Promise 1: what was acknowledged survives kill -9, and the system calls come in the order that power cuts need."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from router.spool.finding import QueueFilter
from router.spool.offline import view

pytestmark = pytest.mark.slow

CLIENT = """
import asyncio, sys
from pathlib import Path
from router.model.address import parse_address
from router.model.envelope import Client, Envelope, HeaderFacts, NewRecipient
from router.model.outcome import Disposition, Outcome
from router.model.reply import HopReply
from router.spool.options import SpoolOptions
from router.spool.spool import Spool
from router.spool.upkeep import Pace

OPTIONS = SpoolOptions(minimum_free=0, minimum_inodes=0, reserve=0, pace=Pace(period=0.05))

async def accept(spool, name, size):
    body = spool.open_body()
    await body.write(name.encode().ljust(size, b"."))
    new = [NewRecipient(parse_address(name + "@example.edu"), hint="lane")]
    return await spool.accept(Envelope("s@example.org", Client("::1")), new, body, HeaderFacts(), 1.0)

async def session(spool, session_name):
    for number in range(100000):
        name = f"{session_name}x{number}"
        work = await accept(spool, name, 100000 if number % 5 == 0 else 50)
        print("kept", name, work.message.queue_id, flush=True)
        if number % 3 == 0:
            verdict = Outcome(work.recipients[0].number, Disposition.DELIVERED, 2.0, HopReply(250, "", "ok"))
            print("sent", name, flush=True)
            await spool.settle(work.message, [verdict])
            print("done", name, flush=True)

async def main():
    spool = await Spool.open(Path(sys.argv[1]), 1, create=True, options=OPTIONS)
    if sys.argv[2] == "load":
        await asyncio.gather(*(session(spool, f"s{sys.argv[3]}n{number}") for number in range(8)))
    for size in map(int, sys.argv[2:]):
        print("begin", flush=True)
        await accept(spool, "a", size)
        print("kept a", flush=True)
    await spool.close()

asyncio.run(main())
"""


def test_inv_3_kill_at_random_moments_keeps_every_acknowledged_message(tmp_path: Path) -> None:
    directory = tmp_path / "0001"
    kept: dict[str, str] = {}
    sent: set[str] = set()
    done: set[str] = set()
    for round_number in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(directory), "load", str(round_number)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            lines: list[str] = []
            while sum(line.startswith("kept") for line in lines) < 15:
                lines.append(child.stdout.readline())
                assert lines[-1], "it has ended by itself"
            time.sleep(0.05 + 0.11 * round_number)
            child.send_signal(signal.SIGKILL)
            lines += child.stdout.read().splitlines(keepends=True)
        for line in lines:
            words = line.split()
            if not line.endswith("\n"):
                continue
            match words:
                case ["kept", name, queue_id]:
                    kept[name] = queue_id
                case ["sent", name]:
                    sent.add(name)
                case ["done", name]:
                    done.add(name)
    assert len(kept) > 50
    assert len(set(kept.values())) == len(kept), "no queue-id was given out twice"
    with view(directory) as looking:
        queued = {entry.recipient.split("@")[0]: entry for entry in looking.find(QueueFilter(limit=1_000_000))}
        delivered = [row.recipient.split("@")[0] for row in looking.journal.rows(lambda _row: True, 1_000_000)]
        assert len(set(delivered)) == len(delivered)
        assert set(kept) <= set(queued) | set(delivered)
        assert not set(queued) & set(delivered)
        assert done <= set(delivered) <= sent
        assert looking.counts().mail.balanced
        report = looking.examine()
        assert report.sound, report
        for name in list(kept)[:200]:
            if name in queued:
                message = looking.message(int(kept[name][4:], 16))
                assert message is not None
                assert looking.body(message).rstrip(b".") == name.encode()


def traced(tmp_path: Path, *sizes: int) -> list[str]:
    """System calls of one process that accepts bodies of these sizes, one after the other."""
    if shutil.which("strace") is None:
        pytest.fail("strace is missing: apt-get install strace")
    log = tmp_path / "trace"
    calls = "trace=openat,fsync,fdatasync,rename,renameat,renameat2,unlink,write"
    command = ["strace", "-f", "-y", "-qq", "-s", "32", "-e", calls, "-o", str(log), sys.executable, "-c", CLIENT]
    arguments = [*command, str(tmp_path / "0001"), *map(str, sizes)]
    subprocess.run(arguments, check=True, timeout=110, stdout=subprocess.DEVNULL)
    return log.read_text().splitlines()


def first(lines: list[str], pattern: str, after: int = 0) -> int:
    for place, line in enumerate(lines[after:], after):
        if re.search(pattern, line):
            return place
    pytest.fail(f"no system call like {pattern} after line {after}")


def test_inv_1_prc7_file_then_name_then_directory_then_commit_then_reply(tmp_path: Path) -> None:
    lines = traced(tmp_path, 200_000)
    begin = first(lines, r'write\(1<.*"begin')
    opened = first(lines, r"openat\(.*bodies/tmp-.*O_WRONLY\|O_CREAT\|O_EXCL\|O_NOFOLLOW\|O_CLOEXEC, 0600\)", begin)
    synced = first(lines, r"fsync\(\d+<.*bodies/tmp-", opened)
    renamed = first(lines, r"rename.*bodies/tmp-", synced)
    directory = first(lines, r"fsync\(\d+<.*/bodies>", renamed)
    committed = first(lines, r"fdatasync\(\d+<.*queue\.db-wal", directory)
    replied = first(lines, r'write\(1<.*"kept', begin)
    assert opened < synced < renamed < directory < committed < replied


def test_inv_1_small_body_costs_one_sync(tmp_path: Path) -> None:
    lines = traced(tmp_path, 100, 100, 100)
    for _ in range(3):
        begin = first(lines, r'write\(1<.*"begin')
        end = first(lines, r'write\(1<.*"kept', begin)
        syncs = [line for line in lines[begin:end] if "sync(" in line and "/sequence" not in line]
        # The first commit after opening may sync more: the number reserve, and a WAL that starts anew.
        assert syncs
        assert any("queue.db-wal" in line for line in syncs)
        lines = lines[end:]
    assert len(syncs) == 1


async def test_inv_2_kill_at_every_sync_leaves_all_or_nothing(tmp_path: Path) -> None:
    """SIGKILL at the n-th sync or rename of a thread, in a run that keeps one large and one small message."""

    async def one(number: int) -> int:
        directory = tmp_path / str(number) / "0001"
        inject = f"inject=fsync,fdatasync,rename:signal=KILL:when={number}"
        child = await asyncio.create_subprocess_exec(
            *("strace", "-f", "-qq", "-e", "trace=fsync,fdatasync,rename", "-e", inject, "-o", os.devnull),
            *(sys.executable, "-c", CLIENT, str(directory), "100000", "50"),
            stdout=subprocess.PIPE,
        )
        output, _ = await child.communicate()
        acknowledged = output.decode().count("kept a")
        if not (directory / "queue.db").exists():
            assert acknowledged == 0
        else:
            with view(directory) as looking:
                entries = looking.find(QueueFilter())
                assert len(entries) >= acknowledged
                assert looking.examine().sound
        return child.returncode or 0

    results = [await one(number) for number in range(1, 13)]
    assert sum(result != 0 for result in results) >= 6, "strace counts the calls of each thread for itself"


async def test_half_made_spool_is_made_anew(kit: Any, open_spool: Any, directory: Path) -> None:
    await asyncio.to_thread(directory.mkdir, mode=0o700, parents=True)
    for name in ("tmp-queue.db", "tmp-queue.db-wal", "tmp-queue.db-journal"):
        (directory / name).write_bytes(b"left by a crash")
    spool = await open_spool()
    await kit.put(spool)
    assert len(await spool.due("cliff", 1000.0, 1)) == 1
    assert not await asyncio.to_thread(lambda: list(directory.glob("tmp-*")))
