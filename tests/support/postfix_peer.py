"""
Postfix as a relay of its own, below one directory: what Sluice is compared with, in the same run on the same disk.

Configuration, queue, data and log are there, nothing of the machine's own Postfix is read or touched. It listens on
loopback and sends everything to ports of 127.0.0.1. `postfix()` is the instance of the benchmark, which may open as
many connections as Sluice does; `Instance` is one with any settings, for tests that kill it.

On failure: an assertion with what `postfix` said. It needs root, as Postfix's master does.
"""

import contextlib
import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

_DAEMONS = Path("/usr/lib/postfix/sbin")
_MASTER = Path("/usr/share/postfix/master.cf.dist")
_QUEUES = ("maildrop", "incoming", "active", "deferred")
_ASIDE = ("corrupt", "hold")
_PATIENCE = 60.0
_FIXED = {
    "compatibility_level": "3.6",
    "command_directory": "/usr/sbin",
    "daemon_directory": _DAEMONS,
    "mail_owner": "postfix",
    "setgid_group": "postdrop",
    "myhostname": "mx.example.edu",
    "mydestination": "",
    "disable_dns_lookups": "yes",
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
}


class Instance:
    """
    One Postfix on `port`. `state` is where queue and data are (default: `directory`), which may be a disk of its own.

    `settings` are lines of main.cf. The directories above must let Postfix's own account pass.
    """

    def __init__(
        self, directory: Path, port: int, settings: Mapping[str, object], *, state: Path | None = None
    ) -> None:
        self.queue, self.data = (state or directory) / "queue", (state or directory) / "data"
        self.log = directory / "maillog"
        self._port = port
        self._configuration = directory / "etc"
        self._command = ["/usr/sbin/postfix", "-c", str(self._configuration)]
        for path in (self._configuration, self.queue, self.data):
            path.mkdir(parents=True)
        shutil.chown(self.data, "postfix")
        places = {"queue_directory": self.queue, "data_directory": self.data, "maillog_file": self.log}
        lines = {**_FIXED, **places, "maillog_file_prefixes": directory, **settings}
        (self._configuration / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
        (self._configuration / "master.cf").write_text(_services(_MASTER.read_text(), port))

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._run("start")
        end = time.monotonic() + _PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return
            assert time.monotonic() < end, "Postfix does not listen"
            time.sleep(0.02)

    def stop(self) -> None:
        """`postfix stop`, and wait."""
        self._run("stop")

    def _run(self, word: str) -> None:
        done = subprocess.run([*self._command, word], check=False, capture_output=True, text=True, timeout=120)
        log = self.log.read_text(errors="replace")[-2000:] if done.returncode and self.log.exists() else ""
        assert not done.returncode, f"postfix {word}: {done.stderr}{log}"

    def flush(self) -> None:
        """Try everything now."""
        command = ["/usr/sbin/postqueue", "-c", str(self._configuration), "-f"]
        subprocess.run(command, check=False, capture_output=True, timeout=120)

    def release(self) -> None:
        """Try everything that is on hold now."""
        command = ["/usr/sbin/postsuper", "-c", str(self._configuration), "-H", "ALL"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        self.flush()

    def files(self) -> list[Path]:
        """One for each message that is queued; a file that cannot be executed is one whose client has no 250."""
        return [file for name in _QUEUES for file in _files(self.queue / name) if _complete(file)]

    def aside(self) -> list[Path]:
        """Messages that it will not deliver by itself: on hold, or found damaged."""
        return [file for name in _ASIDE for file in _files(self.queue / name)]

    def drain(self, timeout: float) -> None:
        """Wait until its queue is empty. Raises `AssertionError` after `timeout` seconds."""
        end = time.monotonic() + timeout
        while self.files():
            if time.monotonic() > end:
                raise AssertionError("mail is left in Postfix's queue: the run does not count")
            time.sleep(0.02)


@contextlib.contextmanager
def postfix(directory: Path, port: int, hop: int, lanes: int) -> Iterator[Instance]:
    """Postfix on `port`, relaying to `hop` by up to `lanes` connections."""
    settings = {
        "mynetworks": "127.0.0.0/8",
        "relayhost": f"[127.0.0.1]:{hop}",
        "smtpd_client_connection_count_limit": 0,
        "default_destination_concurrency_limit": lanes,
        # Without it Postfix makes a client wait that is faster than its disk: the figure would be of the pause.
        "in_flow_delay": 0,
    }
    instance = Instance(directory, port, settings)
    instance.start()
    try:
        yield instance
    finally:
        instance.stop()


def why_not() -> str:
    """Why there is no Postfix to compare with; '' when there is one."""
    if os.geteuid() != 0:
        return "Postfix starts as root only"
    with contextlib.suppress(KeyError):
        pwd.getpwnam("postfix")
        if (_DAEMONS / "master").exists() and _MASTER.exists():
            return ""
    return "Debian's package postfix is missing"


def _files(directory: Path) -> list[Path]:
    return [Path(place) / name for place, _, names in os.walk(directory) for name in names]


def _complete(file: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return bool(file.stat().st_mode & 0o100)
    return False


def _services(master: str, port: int) -> str:
    """Debian's services on our port, none in a chroot, whose files this directory has not."""
    free = re.sub(r"(?m)^(\S+\s+(?:inet|unix|unix-dgram)\s+\S\s+\S+\s+)\S(\s)", r"\1n\2", master)
    return re.sub(r"(?m)^smtp(\s+inet\s)", rf"127.0.0.1:{port}\1", free)
