"""
`Dovecot`: a private Dovecot with LMTP and IMAP on loopback, for tests that need a real mail store.

    with Dovecot("old", quotas={"full@example.edu": 1}) as old:     # started, and stopped by its pid
        StoreAt("old", old.lmtp_port, protocol="lmtp")
        old.letters("ann@example.edu")                              # what lies in the maildir, as `Letter`s
        await asyncio.to_thread(old.fetch, "ann@example.edu")       # the same over IMAP, as octets
        old.copy("ann@example.edu", new)                            # as `doveadm backup` does it, or `copy_files`

Everything is below one new directory under the system's temporary one, because the account that owns the mail must
reach it when tests run as root; nothing outside of it is touched, and it is removed in the end. Each address is a
mailbox of its own (in lower case, without its extension). Messages are kept with CRLF, so octets compare as they are.

On failure: `DovecotFailed` with the end of its log. All methods block.
"""

import contextlib
import grp
import imaplib
import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from router.demo.config import LOOPBACK
from router.ledger.arrival import Arrival, Tape

_START = 90.0
_OWN_FIELDS = (b"return-path:", b"delivered-to:", b"received:")
_PASSWORD = "secret"
_NOBODY = 65534

_CONFIG = """\
base_dir = {base}
state_dir = {base}
log_path = {log}
instance_name = {name}
protocols = imap lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
auth_username_format = %Lu
first_valid_uid = 1
default_process_limit = 200
default_client_limit = 2000
mail_max_userip_connections = 100
mail_location = maildir:{mail}/%Lu
mail_save_crlf = yes
mail_plugins = $mail_plugins quota
recipient_delimiter = +
lmtp_save_to_detail_mailbox = no
protocol lmtp {{
  auth_username_format = %Lu
}}
namespace inbox {{
  inbox = yes
}}
passdb {{
  driver = static
  args = password={password}
}}
{userdb}
plugin {{
  quota = maildir:mailbox
  quota_grace = 0
}}
service imap-login {{
  {no_chroot}
  inet_listener imap {{
    address = 127.0.0.1
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
{accounts}
"""


class DovecotFailed(RuntimeError):
    """It did not start or a command of it failed; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One message in a mailbox: `content` as kept, `relayed` as the relay handed it over (its trace field on top)."""

    name: str
    """Of the file, without flags: it stays the same when a letter is read or moved from new to cur."""
    content: bytes

    @property
    def relayed(self) -> bytes:
        return without_own_fields(self.content)

    def arrival(self, store: str, recipient: str) -> Arrival:
        """As a record for the ledger, without a time: copying gives a letter another one."""
        tape = Tape()
        tape.feed(self.relayed)
        digest, _ = tape.finish()
        return Arrival(store, 0.0, 0.0, "", ((recipient, 250),), tape.tag, digest, tape.size, tape.trace)


def without_own_fields(content: bytes) -> bytes:
    """The message without Return-Path, Delivered-To and the one Received field that Dovecot's LMTP puts on top."""
    rest = content
    wanted = set(_OWN_FIELDS)
    while wanted and (name := next((one for one in wanted if rest[:20].lower().startswith(one)), b"")):
        end = rest.find(b"\r\n") + 2
        while rest[end : end + 1] in {b" ", b"\t"}:
            end = rest.find(b"\r\n", end) + 2
        if name == b"received:" and b"with LMTP" not in rest[:end]:
            break
        wanted.discard(name)
        rest = rest[end:]
    return rest


class Dovecot:
    """
    One instance. `users`: the addresses that exist (None: every one); `quotas`: octets that an address may keep.

    With `quotas` or `users` LMTP refuses: an unknown address at RCPT, a full mailbox after the dot.
    """

    def __init__(
        self, name: str, *, users: Collection[str] | None = None, quotas: Mapping[str, int] | None = None
    ) -> None:
        self.name = name
        self._users = users
        self._quotas = dict(quotas or {})
        self.lmtp_port = self.imap_port = _free_port()
        while self.imap_port == self.lmtp_port:  # a port that is free is free for both
            self.imap_port = _free_port()
        self.directory = Path(tempfile.mkdtemp(prefix=f"sluice-dovecot-{name}-"))
        self.mail = self.directory / "mail"
        self._config = self.directory / "dovecot.conf"
        self._log = self.directory / "dovecot.log"
        self._owner = (_NOBODY, _NOBODY) if os.getuid() == 0 else (os.getuid(), os.getgid())
        self._process: subprocess.Popen[bytes] | None = None

    # --- process

    def start(self) -> Self:
        """Start it and wait until both ports answer. Raises `DovecotFailed`."""
        self._prepare()
        command = ["dovecot", "-F", "-c", str(self._config)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=_environment())
        end = time.monotonic() + _START
        while not (_answers(self.lmtp_port, b"220") and _answers(self.imap_port, b"* OK")):
            if self._process.poll() is not None or time.monotonic() > end:
                raise DovecotFailed(f"Dovecot {self.name} does not serve:\n{self.tail()}")
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        """End it; the mail stays. Idempotent, and `start` may follow."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End it and remove its directory. Idempotent."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def tail(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-4000:] if self._log.exists() else ""

    # --- mail

    def maildir(self, address: str) -> Path:
        return self.mail / address.lower()

    def files(self, address: str) -> list[str]:
        """Names, without flags, of all files of messages, unfinished ones (in tmp) included."""
        return sorted(_base(path.name) for path in self._paths(address, ("new", "cur", "tmp")))

    def letters(self, address: str) -> list[Letter]:
        """The mailbox as it lies on disk, by name."""
        found = [Letter(_base(path.name), path.read_bytes()) for path in self._paths(address, ("new", "cur"))]
        return sorted(found, key=lambda letter: letter.name)

    def fetch(self, address: str) -> list[bytes]:
        """The inbox over IMAP, message by message. Raises `DovecotFailed`."""
        with imaplib.IMAP4(LOOPBACK, self.imap_port, timeout=60) as client:
            client.login(address, _PASSWORD)
            said, count = client.select("INBOX", readonly=True)
            if said != "OK":
                raise DovecotFailed(f"{address} cannot be selected: {count!r}\n{self.tail()}")
            if not int(count[0] or b"0"):
                return []
            said, parts = client.fetch("1:*", "(BODY.PEEK[])")
            return [part[1] for part in parts if isinstance(part, tuple)]

    def copy(self, address: str, target: "Dovecot") -> None:
        """Make the mailbox at `target` the same as here, with doveadm. Raises `DovecotFailed`."""
        where = f"maildir:{target.maildir(address)}"
        command = ["doveadm", "-c", str(self._config), "backup", "-u", address.lower(), where]
        done = subprocess.run(command, capture_output=True, text=True, env=_environment(), timeout=120, check=False)
        if done.returncode:
            raise DovecotFailed(f"doveadm backup of {address}: {done.returncode} {done.stderr}\n{self.tail()}")

    def copy_files(self, address: str, target: "Dovecot") -> None:
        """Put every message that `target` has not into its maildir, file by file, as rsync would."""
        there = set(target.files(address))
        target.make_maildir(address)
        for path in self._paths(address, ("new", "cur")):
            if _base(path.name) not in there:
                waiting = target.maildir(address) / "tmp" / path.name
                shutil.copyfile(path, waiting)
                os.chown(waiting, *target._owner)
                waiting.rename(target.maildir(address) / path.parent.name / path.name)

    def make_maildir(self, address: str) -> None:
        """Create an empty maildir, unless there is one."""
        for part in (".", "tmp", "new", "cur"):
            path = self.maildir(address) / part
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chown(path, *self._owner)

    def jam(self, address: str, *, jammed: bool) -> None:
        """A file in the way of the maildir: deliveries to it fail for the time being; only before its first mail."""
        if jammed:
            self.maildir(address).write_text("no directory\n")
        else:
            self.maildir(address).unlink()

    def _paths(self, address: str, parts: Collection[str]) -> list[Path]:
        folders = [self.maildir(address) / part for part in parts]
        return [path for folder in folders if folder.is_dir() for path in folder.iterdir()]

    # --- configuration

    def _prepare(self) -> None:
        # Dovecot's own accounts must pass through; what is secret in there is not.
        self.directory.chmod(0o755)
        for path in (self.mail, self.directory / "base"):
            path.mkdir(mode=0o755, exist_ok=True)
        os.chown(self.mail, *self._owner)
        text = _CONFIG.format(
            base=self.directory / "base",
            log=self._log,
            name=f"sluice-{self.name}",
            mail=self.mail,
            password=_PASSWORD,
            userdb=self._userdb(),
            imap=self.imap_port,
            lmtp=self.lmtp_port,
            no_chroot="" if os.getuid() == 0 else "chroot =",
            accounts="" if os.getuid() == 0 else _without_root(),
        )
        self._config.write_text(text)

    def _userdb(self) -> str:
        uid, gid = self._owner
        if self._users is None and not self._quotas:
            return _static(uid, gid, self.mail)
        users = {*(self._users or ()), *self._quotas}
        lines = []
        for user in sorted(users):
            limit = f"userdb_quota_rule=*:bytes={self._quotas[user]}" if user in self._quotas else ""
            lines.append(f"{user}::{uid}:{gid}::{self.mail / user}::{limit}\n")
        table = self.directory / "users"
        table.write_text("".join(lines))
        return f"userdb {{\n  driver = passwd-file\n  args = username_format=%Lu {table}\n}}"


def _static(uid: int, gid: int, mail: Path) -> str:
    return f"userdb {{\n  driver = static\n  args = uid={uid} gid={gid} home={mail}/%Lu allow_all_users=yes\n}}"


def _without_root() -> str:
    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    lines = [f"default_internal_user = {user}", f"default_login_user = {user}", f"default_internal_group = {group}"]
    lines += [f"service {name} {{\n  chroot =\n}}" for name in ("anvil", "stats")]
    return "\n".join(lines)


def _environment() -> dict[str, str]:
    """Debian keeps the programs in sbin, which is not on everybody's path."""
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin"}


def _free_port() -> int:
    """Below the range from which the system draws ports of clients, so that it is still free when Dovecot starts."""
    while True:
        number = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, number))
            return number


def _answers(port: int, greeting: bytes) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=30) as client:
            return client.recv(512).startswith(greeting)
    except OSError:
        return False


def _base(name: str) -> str:
    return name.partition(":")[0]
