"""Debian's OpenSMTPD for the comparison, with its defaults: set is only where mail goes, and who may send it."""

import subprocess
from pathlib import Path

from compare.private_view import PrivateView, unpacked
from compare.relay import DOMAIN, HOSTNAME, SIZE_LIMIT, Missing, Place, free_port, names, queued_in, tail, wait_for
from router.ledger.book import Ledger

PACKAGES = ("opensmtpd",)


class OpensmtpdRelay:
    """See the module's text."""

    name = "OpenSMTPD"

    def __init__(self, place: Place, packages: Path) -> None:
        self.port = free_port()
        self._queue = place.state / "spool"
        place.state.mkdir(exist_ok=True)
        place.state.chmod(0o755)
        self._view = PrivateView(
            place.directory,
            unpacked(PACKAGES, packages),
            {"/etc/smtpd.conf": _configuration(place, self.port), "/var/lib/opensmtpd/empty/.keep": ""},
            spool="/var/spool/smtpd",
            queue=self._queue,
            owner="opensmtpd",
        )
        self._queue.chmod(0o711)
        (place.directory / "view/var/lib/opensmtpd/empty/.keep").unlink()
        self._log = self._view.log / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def version(self) -> str:
        said = self._view.run("/usr/sbin/smtpd", "-h", check=False)
        return f"OpenSMTPD {said.partition('OpenSMTPD ')[2].split()[0]} of Debian"

    def start(self) -> None:
        with self._log.open("ab") as log:
            words = self._view.words("/usr/sbin/smtpd", "-d")
            self._process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        assert wait_for(self.port), f"OpenSMTPD does not listen: {self.told()}"

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self.killed()

    def killed(self) -> None:
        if self._process is not None:
            self._process.wait(30)
            self._process = None

    def queued(self) -> int:
        return sum(len(name) == 16 for name in names(self._queue / "queue"))

    def aside(self) -> int:
        return len(names(self._queue / "corrupt"))

    def flush(self) -> None:
        self._view.run("/usr/sbin/smtpctl", "schedule", "all", check=False)

    def tell(self, ledger: Ledger, missing: Missing) -> None:
        ledger.kept(queued_in(self._queue / "queue", missing))

    def leave_disk(self) -> None:
        """Nothing is open."""

    def told(self) -> str:
        return tail(self._log)

    def close(self) -> None:
        """Its processes end with the group."""


def _configuration(place: Place, port: int) -> str:
    lines = [f"listen on 127.0.0.1 port {port} hostname {HOSTNAME}", f"smtp max-message-size {SIZE_LIMIT}"]
    lines += [f'action "{hop}" relay host "smtp://127.0.0.1:{number}"' for hop, number in place.hops.items()]
    for hop in place.hops:
        people = ", ".join(f'"{who}"' for who, home in place.homes.items() if home == hop)
        lines.append(f'match from any for rcpt-to {{ {people} }} action "{hop}"')
    lines.append(f'match from any for domain "{DOMAIN}" action "{next(iter(place.hops))}"')
    return "\n".join(lines) + "\n"
