"""
`sluice serve`: from the command to a running supervisor.

Guarantees: the listeners are bound while the process may still bind port 25; everything after that runs as the
configured account. On failure at start: one line on standard error and a sysexits.h code; nothing was accepted.
"""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from router.daemon.logs import log_to_stderr
from router.daemon.loops import to_the_end
from router.daemon.notify import Notifier, inherited_sockets
from router.daemon.nursery import Nursery, possible
from router.daemon.privileges import PrivilegeError, become, owner_of, require_user
from router.daemon.site import Site, SiteError
from router.daemon.starting import Executed, Starter
from router.daemon.supervisor import Supervisor
from router.errors import ControlUnavailable
from router.settings.loader import load
from router.settings.problem import SettingsError
from router.settings.published import keep
from router.settings.schema import Settings

EX_OSERR = 71
EX_CONFIG = 78

log = logging.getLogger("sluice.serve")


def serve(path: Path) -> int:
    """Run until told to stop; the exit code."""
    with ExitStack() as stack:
        return _serve(path, stack)


def _serve(path: Path, stack: ExitStack) -> int:
    os.umask(0o077)
    log_to_stderr("info", os.environ)
    try:
        settings = load(path.absolute())
        require_user(settings.user, os.environ)
        inherited = inherited_sockets(os.environ)
        sockets = Supervisor.bind(settings, inherited)
        _prepare(settings)
        become(settings.user)
        starter = _nursery(settings, sockets, stack)
        site = Site.open(settings)
        stack.callback(site.close)
    except (SettingsError, PrivilegeError, SiteError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - a start that fails speaks to whoever started it
        return EX_CONFIG
    except (OSError, ControlUnavailable) as error:
        print(f"sluice cannot start: {error}", file=sys.stderr)  # noqa: T201 - as above
        return EX_OSERR
    log_to_stderr(settings.log.level, os.environ)
    try:
        keep(settings, settings.state_dir)
        site.publish(settings)
        supervisor = Supervisor(path.absolute(), settings, site, Notifier(os.environ), starter)
        return asyncio.run(to_the_end(supervisor.run(sockets)))
    except (OSError, ControlUnavailable) as error:
        print(f"sluice: {error}", file=sys.stderr)  # noqa: T201 - as above
        return EX_OSERR


def _nursery(settings: Settings, sockets: Sequence[Sequence[socket.socket]], stack: ExitStack) -> Starter:
    """What starts workers. Call it with the rights that they are to have, before a thread or a database is there."""
    if not possible():
        return Executed()
    modules = ["router.daemon.worker_process"]
    if settings.ldaps:
        modules += ["router.daemon.directory_process", "router.directory.lookups"]
    nursery = Nursery.fork(modules, unwanted=[one for row in sockets for one in row])
    stack.callback(nursery.close)
    return nursery


def _prepare(settings: Settings) -> None:
    """The state directory, owned by the account that will work in it."""
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    uid, gid = owner_of(settings.user)
    if os.geteuid() == 0 and settings.state_dir.stat().st_uid != uid:
        os.chown(settings.state_dir, uid, gid)
