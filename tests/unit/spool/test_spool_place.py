"""Lock, directory, disk space and orphans: what surrounds the database."""

# ruff: noqa: ASYNC240 - these tests look at the disk between two steps

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from router.errors import SpoolUnavailable
from router.spool import place
from router.spool.health import Health, Space
from router.spool.lock import SpoolLock, SpoolLocked
from router.spool.numbering import make_queue_id, parse_queue_id
from router.spool.spool import Spool

HOLDER = """
import sys, time
from pathlib import Path
from router.spool.lock import SpoolLock
SpoolLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(60)
"""


async def test_inv_12_second_owner_is_refused(spool: Spool, directory: Path) -> None:
    with pytest.raises(SpoolLocked, match=str(os.getpid())) as caught:
        await Spool.open(directory, 1)
    assert caught.value.pid == os.getpid()


@pytest.mark.slow
def test_inv_12_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        lock = SpoolLock(tmp_path)
        with pytest.raises(SpoolLocked) as caught:
            lock.acquire()
        assert caught.value.pid == child.pid
        child.send_signal(signal.SIGKILL)
        lock.acquire(blocking=True)
        assert lock.held
        lock.release()
        lock.release()


def test_replaced_lock_file_does_not_give_two_owners(tmp_path: Path) -> None:
    first, second = SpoolLock(tmp_path), SpoolLock(tmp_path)
    first.acquire()
    assert not os.get_inheritable(first._descriptor or 0)
    with pytest.raises(SpoolLocked):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


async def test_wrong_mode_and_wrong_number_are_refused(open_spool: Any, directory: Path) -> None:
    spool = await open_spool()
    await spool.close()
    with pytest.raises(SpoolUnavailable, match="number"):
        await Spool.open(directory, 2)
    directory.chmod(0o750)
    with pytest.raises(SpoolUnavailable, match="0750"):
        await Spool.open(directory, 1)
    directory.chmod(0o700)
    again = await open_spool(create=False)
    assert again.clean_start


async def test_prc14_everything_is_private_whatever_the_umask(kit: Any, open_spool: Any, directory: Path) -> None:
    old = os.umask(0)
    try:
        spool = await open_spool(options=replace(kit.QUIET, reserve=4096))
        await kit.put(spool, body=b"x" * 100_000)
        work = await kit.put(spool)
        await spool.desk.remove([work.recipients[0].number], actor="root", reason="test")
        await spool.move_journal()
        modes = {path: path.stat().st_mode & 0o777 for path in directory.rglob("*")}
    finally:
        os.umask(old)
    assert (directory / "queue.db-wal") in modes
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


MOUNTS = """22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:30 / /srv rw,relatime shared:1 - nfs4 server:/srv rw
31 22 0:31 / /srv/with\\040space rw - tmpfs tmpfs rw
32 30 0:32 / /srv/local rw - xfs /dev/sdb rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/x", "ext4"),
        ("/srv/a", "nfs4"),
        ("/srvx", "ext4"),
        ("/srv/with space/b", "tmpfs"),
        ("/srv/local/c", "xfs"),
    ],
)
def test_prc15_file_system_is_found(path: str, kind: str) -> None:
    assert place.filesystem_of(Path(path), MOUNTS) == kind


def test_prc15_network_file_systems_are_refused_and_memory_is_warned_of() -> None:
    for kind in ("nfs", "nfs4", "cifs", "fuse.sshfs"):
        with pytest.raises(SpoolUnavailable):
            place.judge_filesystem(kind)
    assert place.judge_filesystem("tmpfs")
    assert not place.judge_filesystem("ext4")


def test_inv_46_too_little_space_or_inodes_is_452_and_recovers(tmp_path: Path) -> None:
    answers = [Space(10, 10), Space(1000, 5), Space(1000, None), Space(1000, 10)]
    health = Health(tmp_path, minimum_free=100, minimum_inodes=10, reserve=8192, look=lambda _path: answers.pop(0))
    for expected in (452, 452, None, None):
        health.poll()
        reply = health.unhealthy()
        assert (reply and reply.code) == expected
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 8192
    assert health.make_room()
    assert health.unhealthy() is not None
    assert not health.make_room()


def test_inv_47_disk_that_does_not_answer_is_451(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_path: Path) -> Space:
        raise OSError(errno.EIO, "I/O error")

    health = Health(tmp_path, minimum_free=0, minimum_inodes=0, reserve=0, look=broken)
    health.poll()
    reply = health.unhealthy()
    assert reply is not None
    assert reply.code == 451
    silent = Health(tmp_path, minimum_free=0, minimum_inodes=0, reserve=0)
    assert silent.unhealthy() is None
    monkeypatch.setattr("router.spool.health._STALE", -1.0)
    assert silent.unhealthy() is not None


async def test_inv_2_orphans_go_after_an_age_and_nothing_else(kit: Any, spool: Spool, directory: Path) -> None:
    work = await kit.put(spool, body=b"x" * 100_000)
    bodies = directory / "bodies"
    young, old, temporary, foreign = (bodies / name for name in ("a" * 32, "b" * 32, "tmp-" + "c" * 32, "README"))
    for path in (young, old, temporary, foreign):
        path.write_bytes(b"x")
    ages = (old, temporary, foreign, bodies / work.message.body_file)
    for path in ages:
        os.utime(path, (time.time() - 40 * 3600,) * 2)
    assert await spool._upkeep.reap() == 2
    assert {path.name for path in bodies.iterdir()} == {young.name, foreign.name, work.message.body_file}


async def test_inv_6_write_errors_of_a_body(
    kit: Any, spool: Spool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, code in ((errno.ENOSPC, 452), (errno.EDQUOT, 452), (errno.EIO, 451)):

        def broken(*_args: Any, number: int = number) -> int:
            raise OSError(number, "no")

        body = spool.open_body()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", broken)
            await body.write(b"x" * 100_000)
            with pytest.raises(SpoolUnavailable) as caught:
                await spool.accept(kit.ENVELOPE, [kit.rcpt("a@example.edu")], body, kit.HEADER, 1.0)
        assert caught.value.reply.code == code
        await body.discard()
    assert spool.unhealthy() is not None, "EIO is remembered"
    await spool.close()
    assert not list((directory / "bodies").iterdir())


def test_queue_ids_lead_back() -> None:
    for spool, message in ((0, 1), (7, 255), (9999, 1 << 33)):
        text = make_queue_id(spool, message)
        assert text.isalnum()
        assert text.upper() == text
        assert parse_queue_id(text) == (spool, message)
    for bad in ("", "0001", "00010000000G", "0001000000000001", "000100000000", "00010000000a", " 000100000001"):
        with pytest.raises(ValueError, match="queue-id"):
            parse_queue_id(bad)
