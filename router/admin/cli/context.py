"""
What every verb is given: which configuration, whose hands, and where to write.

Guarantees: nothing is opened before a verb asks for it, each thing once; all of it is closed when the command ends.
The actor is the person behind sudo or su where that can be known, as the audit is to name people.

On failure: `CommandFailed` with the status of its cause: 66 no configuration file, 77 not allowed, 78 faulty.
"""

import os
import pwd
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from router.admin.cli.exits import CommandFailed, Exit
from router.admin.cli.output import Output

if TYPE_CHECKING:  # pydantic and SQLAlchemy take long to import, and `sluice --help` needs neither
    from router.admin.cli.directories import Directories
    from router.control.audit import Act
    from router.control.database import ControlDatabase
    from router.settings.schema import Settings

VARIABLE = "SLUICE_CONFIG"
_SHORTEST, _LONGEST = 2.0, 30.0
"""Seconds to wait for a lock: a busy site is no reason to fail."""
SYSTEM_FILE = Path("/etc/sluice/sluice.yaml")


@dataclass(slots=True)
class _Opened:
    settings: "Settings | None" = None
    database: "ControlDatabase | None" = None
    patience: float = _LONGEST
    directories: "Directories | None" = None


@dataclass(frozen=True, slots=True)
class Context:
    """One run of the command. A verb gets it by `Context.of(ctx)`."""

    config: Path
    json: bool = False
    actor: str = "unknown"
    _opened: _Opened = field(default_factory=_Opened, repr=False, compare=False)

    @classmethod
    def of(cls, ctx: typer.Context) -> "Context":
        """The context that the root command made."""
        found = ctx.obj
        if not isinstance(found, cls):
            raise TypeError("the verb was not started by the root command")
        return found

    @property
    def out(self) -> Output:
        """Where to write."""
        return Output(json=self.json)

    def settings(self) -> "Settings":
        """The configuration, loaded once. Raises `CommandFailed` with every problem of the file."""
        if self._opened.settings is None:
            self._opened.settings = _load(self.config)
        return self._opened.settings

    def database(self) -> "ControlDatabase":
        """The control database, opened once; closed with the command. Raises `CommandFailed`."""
        if self._opened.database is None:
            self._opened.database = _open(self.settings(), self._opened.patience)
        return self._opened.database

    def wait_for_locks(self, timeout: float) -> None:
        """Wait for locks no longer than the command is to take (seconds). Before the control database is opened."""
        self._opened.patience = max(_SHORTEST, min(timeout, _LONGEST))

    def directories(self) -> "Directories | None":
        """The LDAP directories; None for a site without, which then needs nothing of LDAP."""
        if not self.settings().ldaps:
            return None
        if self._opened.directories is None:
            from router.admin.cli.directories import Directories  # noqa: PLC0415 - see above

            self._opened.directories = Directories(self.settings(), self.database)
        return self._opened.directories

    def act(self, reason: str, *, correcting: bool = False, restored: bool = False) -> "Act":
        """
        Who acts, why and when, for a change.

        Raises `CommandFailed` while the control database is not the one that the spools know; not for who corrects
        mailboxes in it (`correcting`), accepts it, or changes nothing in it (`restored`).
        """
        from router.admin.cli.standing import require_followed  # noqa: PLC0415 - see above
        from router.control.audit import Act  # noqa: PLC0415 - see above

        if not restored:
            require_followed(self.database(), self.spools(), correcting=correcting)
        return Act(self.actor, reason, time.time())

    def spools(self) -> list[Path]:
        """The directories of this node's spools, in the order of their numbers."""
        root = self.settings().state_dir / "spool"
        try:
            return sorted(path for path in root.iterdir() if path.name.isdigit())
        except FileNotFoundError:
            return []

    def close(self) -> None:
        """Close what was opened."""
        if self._opened.directories is not None:
            self._opened.directories.close()
            self._opened.directories = None
        if self._opened.database is not None:
            self._opened.database.close()
            self._opened.database = None


def find_config(given: Path | None) -> Path:
    """
    `--config`, else SLUICE_CONFIG, else /etc/sluice/sluice.yaml.

    The current directory is not searched: root must not be led by a file that somebody left in /tmp.
    """
    if given is not None:
        return given
    named = os.environ.get(VARIABLE, "")
    return Path(named) if named else SYSTEM_FILE


def who() -> str:
    """The login behind this process: SUDO_USER and the like only count for root, who could claim anything anyway."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    if os.geteuid() != 0:
        return name
    for variable in ("SUDO_USER", "DOAS_USER"):
        behind = os.environ.get(variable, "")
        if behind and behind != name:
            return f"{behind} ({name})"
    return _login(name)


@contextmanager
def acting_as_owner(place: Path) -> Iterator[None]:
    """As root, be the directory's owner meanwhile: files that root made there would shut the service out."""
    facts = place.stat()
    if os.geteuid() != 0 or facts.st_uid == 0:
        yield
        return
    group = os.getegid()
    os.setegid(facts.st_gid)
    os.seteuid(facts.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


def _login(name: str) -> str:
    """Who logged in at this terminal, when that is somebody else (`su`)."""
    try:
        behind = pwd.getpwuid(int(Path("/proc/self/loginuid").read_text(encoding="ascii"))).pw_name
    except (OSError, ValueError, KeyError, OverflowError):
        return name
    return name if behind == name else f"{behind} ({name})"


def _load(path: Path) -> "Settings":
    from router.settings.loader import load  # noqa: PLC0415 - see above
    from router.settings.problem import SettingsError  # noqa: PLC0415 - see above

    require_readable(path)
    try:
        return load(path)
    except SettingsError as error:
        lines = tuple(f"{one}" + (f" ({one.remedy})" if one.remedy else "") for one in error.problems)
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        raise CommandFailed(
            Exit.CONFIG, f"{path}: {count}", "mend the file; `sluice check` shows this list", lines
        ) from (error)


def require_readable(path: Path) -> None:
    """Raises `CommandFailed` when there is no such file (66) or it may not be read (77)."""
    remedy = f"name the file by --config or {VARIABLE}; without either it is {SYSTEM_FILE}"
    try:
        with path.open("rb"):
            return
    except PermissionError as error:
        remedy = "run the command as root or as the user of the service"
        raise CommandFailed(Exit.NO_PERMISSION, f"{path}: may not be read by this account", remedy) from error
    except OSError as error:
        raise CommandFailed(Exit.NO_INPUT, f"{path}: {error.strerror or error}", remedy) from error


def _open(settings: "Settings", patience: float) -> "ControlDatabase":
    from router.control.database import ControlDatabase  # noqa: PLC0415 - see above

    if settings.database == "sqlite":
        _require_database(settings.state_dir / "control.db")
    return ControlDatabase.open(settings.database_url, patience=patience)


def _require_database(path: Path) -> None:
    try:
        path.stat()
        allowed = os.access(path, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)
    except FileNotFoundError as error:
        remedy = "start `sluice serve` once, which creates it; a site that has run before needs its backup restored"
        raise CommandFailed(Exit.UNAVAILABLE, f"{path}: there is no control database", remedy) from error
    except PermissionError:
        allowed = False
    if not allowed:
        remedy = "run the command as root or as the user of the service"
        raise CommandFailed(Exit.NO_PERMISSION, f"{path}: may not be used by this account", remedy)
