"""
The directory a spool lives in: is it fit to keep mail, and who may look into it.

Guarantees: the directory is 0700 and ours (PRC14), and not on a network file system, where SQLite's WAL cannot work
(PRC15) and locks lie.

On failure: `SpoolUnavailable` naming what to change; what is only doubtful (a memory file system, a clock that
disagrees) is returned as a warning.
"""

import os
import stat
import time
from pathlib import Path

from router.errors import SpoolDamaged, SpoolUnavailable
from router.spool import schema, wal
from router.spool.bodies import BODIES
from router.spool.schema import sync_directory
from router.spool.sequence import SEQUENCE

JOURNAL = "journal"
REMOVED = "removed"
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "ocfs2", "gfs2", "ncpfs"}
)
_VOLATILE = frozenset({"tmpfs", "ramfs"})
_CLOCK_SKEW = 5.0


def prepare(directory: Path, *, create: bool) -> list[str]:
    """Make (with `create`) and check the directory and its folders; warnings. Raises `SpoolUnavailable`."""
    try:
        if create and not directory.exists():
            make_directory(directory)
        _check_owner(directory)
        warnings = _check_filesystem(directory)
        for name in (BODIES, JOURNAL, REMOVED):
            if not (directory / name).is_dir():
                (directory / name).mkdir(mode=0o700)
                sync_directory(directory)
            _check_owner(directory / name)
        return warnings + _check_clock(directory)
    except OSError as error:
        raise SpoolUnavailable(f"{directory}: {error.strerror or error}") from error


def make_directory(directory: Path) -> None:
    """A directory for a spool, with a durable name. Raises `OSError`."""
    directory.mkdir(mode=0o700, parents=True)
    sync_directory(directory.parent)


def ensure_database(directory: Path, number: int, *, create: bool) -> None:
    """
    Make the database if there never was one; a spool that lost its database is not given an empty one.

    Raises `SpoolDamaged` for a log that is damaged, or what is no database; `OSError`.
    """
    path = directory / schema.DATABASE
    if path.exists():
        # Before SQLite looks: it would end a damaged log there, and write over what is behind.
        if damaged := wal.damage(path) or wal.cut_off(path):
            raise SpoolDamaged(damaged)
        schema.require_version(path)
        return
    if not create:
        raise SpoolUnavailable(f"{path}: there is no spool here")
    traces = [directory / SEQUENCE, *(directory / BODIES).iterdir(), *(directory / JOURNAL).iterdir()]
    if any(trace.exists() and trace.stat().st_size for trace in traces):
        raise SpoolUnavailable(f"{path}: the database of this spool is gone; an empty one would hide that")
    schema.create(path, number, time.time())


def filesystem_of(path: Path, mountinfo: str) -> str:
    """Type of the file system a path is on, by the text of /proc/self/mountinfo; '' when it does not say."""
    best, kind = -1, ""
    resolved = str(path.resolve())
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, words = left.split(), right.split()
        if len(fields) < 5 or not words:
            continue
        point = fields[4].encode("ascii", "ignore").decode("unicode_escape")
        inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, kind = len(point), words[0]
    return kind


def judge_filesystem(kind: str) -> list[str]:
    """Warnings about a file system type; `SpoolUnavailable` for a network one."""
    if kind in _NETWORK or kind.startswith("fuse."):
        raise SpoolUnavailable(f"a spool cannot be on {kind}: it needs a local file system")
    if kind in _VOLATILE:
        return [f"the spool is on {kind}: mail does not survive a restart of this machine"]
    return []


def _check_filesystem(directory: Path) -> list[str]:
    try:
        text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ["the type of the spool's file system could not be found out"]
    return judge_filesystem(filesystem_of(directory, text))


def _check_owner(directory: Path) -> None:
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise SpoolUnavailable(f"{directory} is no directory")
    if found.st_uid != os.geteuid():
        raise SpoolUnavailable(f"{directory} belongs to uid {found.st_uid}, not to {os.geteuid()}")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise SpoolUnavailable(f"{directory} has mode {stat.S_IMODE(found.st_mode):04o}; make it 0700")


def _check_clock(directory: Path) -> list[str]:
    probe = directory / f"tmp-clock-{os.getpid()}"
    os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    skew = abs(probe.stat().st_mtime - time.time())
    probe.unlink()
    return [f"the file system's clock is {skew:.0f} s off"] if skew > _CLOCK_SKEW else []
