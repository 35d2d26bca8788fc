"""
`Slapd`: a private OpenLDAP server on loopback, for tests that need a real directory.

    with Slapd(people(20)) as ldap:                      # loaded with slapadd, started, stopped by its pid
        Ldap(uri=ldap.uri, base=BASE, bind_dn=READER, password_file=ldap.password_file)
        ldap.modify(replace("uid=user1,ou=people,…", mailUserStatus="hold"))     # as an administrator, by ldapmodify
        ldap.searches()                                  # the filters that were asked for, as its own log spells them
        ldap.stall(); ldap.wake(); ldap.kill(); ldap.start()                     # the same ports, the same data

It speaks ldap, ldapi and, with a certificate, ldaps and StartTLS. Everything is below one new directory under the
system's temporary one, which is removed in the end. The administrator comes by ldapi and is bound by no limit.

On failure: `SlapdFailed` with the end of its log. All methods block.
"""

import base64
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

import trustme

from router.demo.config import LOOPBACK

BASE = "dc=example,dc=edu"
ADMIN = f"cn=admin,{BASE}"
READER = f"cn=sluice,{BASE}"
"""Who Sluice is there: reads and writes everything, but the server's limits hold for it."""
PASSWORD = "let (me) in, schließlich"
_START = 90.0
_SCHEMA = Path(__file__).with_name("mail.schema")
_SCHEMAS = ("core", "cosine", "inetorgperson", "misc")
_EQUALITY = (
    "objectClass,entryCSN,entryUUID,modifyTimestamp,mail,mailAlternateAddress,mailEquivalentAddress,mailLocalAddress,"
    "mailRoutingAddress,zimbraMailDeliveryAddress,zimbraMailAlias,zimbraOldMailAddress,zimbraMailCatchAllAddress,"
    "zimbraDomainName,proxyAddresses,uSNChanged,associatedDomain,sunPreferredDomain,uid"
)

_CONFIG = """\
{includes}
pidfile {home}/slapd.pid
argsfile {home}/slapd.args
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload syncprov
loglevel none
{tls}
{limits}
authz-regexp "gidNumber=[0-9]+.uidNumber=[0-9]+,cn=peercred,cn=external,cn=auth" "{reader}"
authz-regexp "cn=sluice,.*" "{reader}"
database mdb
maxsize 1073741824
suffix "{base}"
rootdn "{admin}"
rootpw secret
directory {home}/data
dbnosync
index {equality} eq
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{reader}" write by * none
{overlay}
{replica}
"""


class SlapdFailed(RuntimeError):
    """It did not start or a command failed; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Follows:
    """
    Of whom this server is a replica. `interval`: seconds between two refreshes; None: changes come at once.

    `through`: a port of loopback that leads to the provider; 0: its own.
    """

    provider: "Slapd"
    interval: int | None = None
    through: int = 0


@dataclass(frozen=True, slots=True)
class Security:
    """
    `certificate` is shown to clients on ldaps and after StartTLS; `required`: nothing is answered without TLS.

    `clients`: the authority whose client certificates are asked for and believed (SASL EXTERNAL).
    """

    certificate: trustme.LeafCert
    required: bool = False
    clients: trustme.CA | None = None


class Slapd:
    """
    One instance. `entries` are LDIF records below `BASE`; a replica gets its entries from its provider.

    `limits` are lines of slapd.conf, such as `sizelimit 5`; slapd's own default is 500 entries. `provides`: it keeps
    contextCSN up to date and can be followed; without, only the entries' own attributes tell of changes.
    """

    def __init__(
        self,
        entries: Iterable[str] = (),
        *,
        security: Security | None = None,
        follows: Follows | None = None,
        limits: str = "sizelimit unlimited",
        provides: bool = True,
    ) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="sluice-slapd-"))
        self.port, self.tls_port = free_port(), free_port()
        self.password_file = self.home / "password"
        self.password_file.write_text(PASSWORD + "\n", encoding="utf-8")
        self.password_file.chmod(0o600)
        self._security = security
        self._follows = follows
        self._limits = limits
        self._provides = provides
        self._entries: Iterable[str] | None = entries
        self._log = self.home / "slapd.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"ldap://{LOOPBACK}:{self.port}"

    @property
    def tls_uri(self) -> str:
        return f"ldaps://localhost:{self.tls_port}"

    @property
    def local_uri(self) -> str:
        return f"ldapi://{quote(str(self.home / 'ldapi'), safe='')}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    # --- process

    def start(self) -> Self:
        """Start it and wait until it serves; the first time, load the entries before. Raises `SlapdFailed`."""
        first = self._entries is not None
        self._prepare()
        while not self._launch():
            # Somebody else may have taken a port since it was found free; later it is known to others and stays.
            if not first or "errno=98" not in self.tail():
                raise SlapdFailed(f"slapd does not serve:\n{self.tail()}")
            self.port, self.tls_port = free_port(), free_port()
        return self

    def _launch(self) -> bool:
        """Whether it serves; False: it has ended."""
        seen = self.mark()
        listeners = [f"{self.uri}/", self.local_uri]
        if self._security is not None:
            listeners.append(f"ldaps://{LOOPBACK}:{self.tls_port}/")
        command = ["slapd", "-d", "stats", "-f", str(self.home / "slapd.conf"), "-h", " ".join(listeners)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, env=_environment())
        end = time.monotonic() + _START
        while "slapd starting" not in self.log(seen) or not self._answers():
            if self._process.poll() is not None:
                return False
            if time.monotonic() > end:
                raise SlapdFailed(f"slapd does not serve in time:\n{self.tail()}")
            time.sleep(0.02)
        return True

    def stop(self) -> None:
        """End it; the data stay. Idempotent, and `start` may follow."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End it without a word (SIGKILL); the data stay, and `start` may follow."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def stall(self) -> None:
        """SIGSTOP: connections are taken by the kernel, and nobody answers. Returns when every thread has stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        end = time.monotonic() + _START
        while not _stopped(self.pid):
            if time.monotonic() > end:
                raise SlapdFailed("slapd does not stop")
            time.sleep(0.001)

    def wake(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it and remove its directory. Idempotent."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- what is in it

    def modify(self, ldif: str) -> None:
        """Change, add or delete entries by `ldapmodify`, in the order of the records. Raises `SlapdFailed`."""
        self._run(["ldapmodify", "-a", "-M", *self._admin()], ldif)

    def entry(self, dn: str) -> dict[str, list[str]]:
        """The entry as it stands, operational attributes too, by attribute as it is spelled; {}: there is none."""
        ask = ["ldapsearch", "-LLL", "-o", "ldif-wrap=no", *self._admin(), "-b", dn, "-s", "base", "(objectClass=*)"]
        try:
            told = self._run([*ask, "*", "+"], "")
        except SlapdFailed:
            return {}
        found: dict[str, list[str]] = {}
        for text in told.splitlines():
            name, mark, value = text.partition(": ")
            if name.endswith(":"):
                name, value = name[:-1], base64.b64decode(value).decode("utf-8", "replace")
            if mark and name != "dn":
                found.setdefault(name, []).append(value)
        return found

    # --- its log

    def mark(self) -> int:
        """Where the log ends now."""
        return self._log.stat().st_size if self._log.exists() else 0

    def log(self, since: int = 0) -> str:
        if not self._log.exists():
            return ""
        with self._log.open("rb") as file:
            file.seek(since)
            return file.read().decode("utf-8", "replace")

    def tail(self) -> str:
        return self.log()[-4000:]

    def searches(self, since: int = 0) -> list[str]:
        """The filters of the searches, in order, as the log spells them (`mark` says where it ended before)."""
        return re.findall(r' SRCH base=".*" scope=\d deref=\d filter="(.*)"$', self.log(since), re.MULTILINE)

    def connections(self, since: int = 0) -> int:
        """How many connections were accepted over TCP."""
        return len(re.findall(r" ACCEPT from IP=", self.log(since)))

    # --- configuration

    def _prepare(self) -> None:
        entries, self._entries = self._entries, None
        if entries is None:
            return
        (self.home / "data").mkdir(exist_ok=True)
        includes = [f"include /etc/ldap/schema/{name}.schema" for name in _SCHEMAS] + [f"include {_SCHEMA}"]
        text = _CONFIG.format(
            includes="\n".join(includes),
            home=self.home,
            base=BASE,
            admin=ADMIN,
            reader=READER,
            equality=_EQUALITY,
            tls=self._tls(),
            limits=self._limits,
            overlay="overlay syncprov" if self._provides else "",
            replica=self._replica(),
        )
        (self.home / "slapd.conf").write_text(text)
        if self._follows is None:
            self._load(entries)

    def _load(self, entries: Iterable[str]) -> None:
        ldif = self.home / "entries.ldif"
        with ldif.open("w", encoding="utf-8") as file:
            file.writelines(f"{record.strip()}\n\n" for record in (*_TREE, *entries))
        self._run(["slapadd", "-q", "-w", "-f", str(self.home / "slapd.conf"), "-l", str(ldif)], "")

    def _tls(self) -> str:
        security = self._security
        if security is None:
            return ""
        chain, key = self.home / "certificate.pem", self.home / "key.pem"
        chain.write_bytes(b"".join(blob.bytes() for blob in security.certificate.cert_chain_pems))
        security.certificate.private_key_pem.write_to_path(str(key))
        lines = [f"TLSCertificateFile {chain}", f"TLSCertificateKeyFile {key}"]
        if security.clients is not None:
            security.clients.cert_pem.write_to_path(str(self.home / "clients.pem"))
            lines += [f"TLSCACertificateFile {self.home / 'clients.pem'}", "TLSVerifyClient try"]
        if security.required:
            lines.append("security ssf=64")
        return "\n".join(lines)

    def _replica(self) -> str:
        if self._follows is None:
            return ""
        every = self._follows.interval
        kind = "refreshAndPersist" if every is None else f"refreshOnly interval=00:00:00:{every:02}"
        provider = self._follows.provider
        retry = 'retry="1 +"'
        uri = f"ldap://{LOOPBACK}:{self._follows.through}" if self._follows.through else provider.uri
        return (
            f"syncrepl rid=1 provider={uri} type={kind} {retry} searchbase={BASE} schemachecking=off "
            f'bindmethod=simple binddn="{ADMIN}" credentials=secret\nupdateref {provider.uri}'
        )

    def _admin(self) -> list[str]:
        return ["-x", "-H", self.local_uri, "-D", ADMIN, "-w", "secret"]

    def _run(self, command: list[str], text: str) -> str:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, env=_environment(), timeout=240, check=False
        )
        if done.returncode:
            raise SlapdFailed(f"{command[0]}: {done.returncode} {done.stderr}\n{self.tail()}")
        return done.stdout

    def _answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=30):
                return True
        except OSError:
            return False


_SECRET = f"userPassword:: {base64.b64encode(PASSWORD.encode()).decode()}"
_TREE = (
    f"dn: {BASE}\nobjectClass: domain\nobjectClass: dcObject\ndc: example",
    f"dn: {READER}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: sluice\n{_SECRET}",
    f"dn: ou=people,{BASE}\nobjectClass: organizationalUnit\nou: people",
    f"dn: ou=groups,{BASE}\nobjectClass: organizationalUnit\nou: groups",
    f"dn: ou=domains,{BASE}\nobjectClass: organizationalUnit\nou: domains",
)


@contextlib.contextmanager
def stalled(server: Slapd) -> Iterator[None]:
    """For as long as the block runs, the server takes connections and does not answer."""
    server.stall()
    try:
        yield
    finally:
        server.wake()


def _stopped(pid: int) -> bool:
    """Whether all threads are in state T (proc(5)): the signal alone does not wait for those that are at work."""
    tasks = list(Path(f"/proc/{pid}/task").glob("*/stat"))
    return all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)


def free_port() -> int:
    """Below the range from which the system draws ports of clients, so that it is still free when slapd starts."""
    while True:
        number = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, number))
            return number


def _environment() -> dict[str, str]:
    """Debian keeps the servers in sbin, which is not on everybody's path; no ldaprc of anybody counts."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin"
    return {**os.environ, "PATH": path, "LDAPNOINIT": "1", "LC_ALL": "C.UTF-8"}
