"""
A Debian package that cannot be installed beside Postfix, run all the same: fetched, unpacked, never installed.

Its programs have their paths compiled in. So they run in a mount namespace of their own in which the unpacked files,
a configuration, accounts and an empty /run lie over the machine's; its queue is a directory of ours. The machine's own
files are not written to, and nothing of it is left when the last process has ended.

On failure: `Unavailable`, with the reason, when there is no apt-get, no package or no such mount.
"""

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

# Disks of others must not be kept in use by a copy of their mounts.
_LET_GO = """awk '$1 ~ "^/dev/loop" { print $2 }' /proc/self/mounts | while read -r place; do
case "$1" in "$place"/*) ;; *) umount --lazy "$place" || true ;; esac; done"""
_ACCOUNTS = {"Debian-exim": 64901, "opensmtpd": 64902, "opensmtpq": 64903}


class Unavailable(RuntimeError):
    """The relay cannot be had here; why."""


def unpacked(packages: Sequence[str], directory: Path) -> Path:
    """A directory with the files of these packages. Fetched by apt-get, once."""
    root = directory / "-".join(packages)
    if (root / "done").exists():
        return root
    root.mkdir(parents=True, exist_ok=True)
    _run(["apt-get", "download", *packages], root)
    for package in sorted(root.glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(root)], root)
    (root / "done").touch()
    return root


class PrivateView:
    """
    Runs commands with `files` (by path below /) and the tree `root` over the machine's, and `queue` as `spool`.

    `owner` is the account that has queue and log directory.
    """

    def __init__(
        self, directory: Path, root: Path, files: Mapping[str, str], *, spool: str, queue: Path, owner: str
    ) -> None:
        self._over = directory / "view"
        self._root = root
        self._spool = spool
        self._queue = queue
        self.log = directory / "log"
        self._own = _ACCOUNTS[owner]
        for path in (self._over / "etc", self._over / "var/log" / "relay", directory / "run", self.log, queue):
            path.mkdir(parents=True, exist_ok=True)
        (self._over / spool.lstrip("/")).mkdir(parents=True, exist_ok=True)
        for name, text in {**_accounts(), **files}.items():
            path = self._over / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self._run_directory = directory / "run"

    def words(self, *command: str) -> list[str]:
        """The command line that runs a command in the view."""
        mounts = [
            f"mount -t overlay overlay -o ro,lowerdir={self._root}/usr:/usr /usr",
            f"mount -t overlay overlay -o ro,lowerdir={self._over}/etc:/etc /etc",
            f"mount -t overlay overlay -o ro,lowerdir={self._over}/var:/var /var",
            f"mount --bind {self._queue} {self._spool}",
            f"mount --bind {self.log} /var/log/relay",
            f"mount --bind {self._run_directory} /run",
        ]
        script = " && ".join([_LET_GO, *mounts, f"exec {shlex.join(command)}"])
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(self._queue)]

    def run(self, *command: str, check: bool = True) -> str:
        """What a command printed. Raises `Unavailable` when it failed and `check` is on."""
        done = subprocess.run(self.words(*command), capture_output=True, text=True, check=False, timeout=60)
        if check and done.returncode:
            raise Unavailable(f"{shlex.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout + done.stderr


def account(name: str) -> int:
    """The number of an account that exists in the view only."""
    return _ACCOUNTS[name]


def _accounts() -> dict[str, str]:
    people = [f"{name}:x:{number}:{number}::/var/empty:/usr/sbin/nologin\n" for name, number in _ACCOUNTS.items()]
    groups = [f"{name}:x:{number}:\n" for name, number in _ACCOUNTS.items()]
    return {
        "/etc/passwd": Path("/etc/passwd").read_text() + "".join(people),
        "/etc/group": Path("/etc/group").read_text() + "".join(groups),
    }


def _run(command: list[str], directory: Path) -> None:
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=300)
    except OSError as error:
        raise Unavailable(f"{command[0]}: {error}") from error
    if done.returncode:
        raise Unavailable(f"{' '.join(command)}: {done.stderr.strip()}")
