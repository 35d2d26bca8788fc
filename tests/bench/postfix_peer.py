"""
Postfix as a relay of its own for a benchmark: what Sluice is compared with, in the same run on the same disk.

A whole instance below one directory: configuration, queue, data and log are there, nothing of the machine's own
Postfix is read or touched. It listens on loopback and relays everything to one port of 127.0.0.1, where it may open
as many connections as Sluice does. Stopped by its own `postfix stop`, whatever happens in between.

On failure: `CalledProcessError` with what `postfix` said, or an assertion when it does not listen. It needs root, as
Postfix's master does.
"""

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_DAEMONS = Path("/usr/lib/postfix/sbin")
_MASTER = Path("/usr/share/postfix/master.cf.dist")
_QUEUES = ("maildrop", "incoming", "active", "deferred")


@dataclass(frozen=True, slots=True)
class Peer:
    """A running Postfix. `queue` is its queue directory."""

    queue: Path

    def drain(self, timeout: float) -> None:
        """Wait until its queue is empty. Raises `AssertionError` after `timeout` seconds."""
        end = time.monotonic() + timeout
        while any(files for name in _QUEUES for _, _, files in os.walk(self.queue / name)):
            if time.monotonic() > end:
                raise AssertionError("mail is left in Postfix's queue: the run does not count")
            time.sleep(0.02)


@contextlib.contextmanager
def postfix(directory: Path, port: int, hop: int, lanes: int) -> Iterator[Peer]:
    """Postfix on `port`, relaying to `hop` by up to `lanes` connections."""
    configuration, queue, data = (directory / name for name in ("etc", "queue", "data"))
    for path in (configuration, queue, data):
        path.mkdir(parents=True)
    shutil.chown(data, "postfix")
    (configuration / "main.cf").write_text(_main(directory, queue, data, hop, lanes))
    (configuration / "master.cf").write_text(_services(_MASTER.read_text(), port))
    command = ["/usr/sbin/postfix", "-c", str(configuration)]
    subprocess.run([*command, "start"], check=True, capture_output=True, timeout=30)
    try:
        yield Peer(queue)
    finally:
        subprocess.run([*command, "stop"], check=True, capture_output=True, timeout=30)


def why_not() -> str:
    """Why there is no Postfix to compare with; '' when there is one."""
    if os.geteuid() != 0:
        return "Postfix starts as root only"
    with contextlib.suppress(KeyError):
        pwd.getpwnam("postfix")
        if (_DAEMONS / "master").exists() and _MASTER.exists():
            return ""
    return "Debian's package postfix is missing"


def _main(directory: Path, queue: Path, data: Path, hop: int, lanes: int) -> str:
    settings = {
        "compatibility_level": "3.6",
        "queue_directory": queue,
        "data_directory": data,
        "command_directory": "/usr/sbin",
        "daemon_directory": _DAEMONS,
        "mail_owner": "postfix",
        "setgid_group": "postdrop",
        "maillog_file": directory / "maillog",
        "maillog_file_prefixes": directory,
        "myhostname": "mx.example.edu",
        "mydestination": "",
        "mynetworks": "127.0.0.0/8",
        "relayhost": f"[127.0.0.1]:{hop}",
        "disable_dns_lookups": "yes",
        "inet_interfaces": "127.0.0.1",
        "inet_protocols": "ipv4",
        "smtpd_client_connection_count_limit": 0,
        "default_destination_concurrency_limit": lanes,
        # Without it Postfix makes a client wait that is faster than its disk: the figure would be of the pause.
        "in_flow_delay": 0,
    }
    return "".join(f"{key} = {value}\n" for key, value in settings.items())


def _services(master: str, port: int) -> str:
    """Debian's services on our port, none in a chroot, whose files this directory has not."""
    free = re.sub(r"(?m)^(\S+\s+(?:inet|unix|unix-dgram)\s+\S\s+\S+\s+)\S(\s)", r"\1n\2", master)
    return re.sub(r"(?m)^smtp(\s+inet\s)", rf"127.0.0.1:{port}\1", free)
