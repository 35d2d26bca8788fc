"""
Giving up root after the listeners are bound, before the first octet from outside is read.

Guarantees: after `become` the process and its children have neither root's identity nor its groups, and cannot
regain them (no-new-privs). On failure: `PrivilegeError`; nothing is served with more rights than configured.
"""

import ctypes
import grp
import os
import pwd
from collections.abc import Mapping

_PR_SET_NO_NEW_PRIVS = 38


class PrivilegeError(RuntimeError):
    """The account does not exist, or rights could not be given up."""


def require_user(user: str, environment: Mapping[str, str]) -> None:
    """Refuse to serve as root by accident; SLUICE_ALLOW_ROOT=yes says that it is meant (the demo, tests)."""
    if os.geteuid() == 0 and not user and environment.get("SLUICE_ALLOW_ROOT") != "yes":
        raise PrivilegeError("started as root without `user:` in the configuration; name the account to run as")


def owner_of(user: str) -> tuple[int, int]:
    """Numbers of the account and its group that will own the state directory."""
    if not user or os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise PrivilegeError(f"there is no account {user!r}") from error
    return entry.pw_uid, entry.pw_gid


def become(user: str) -> None:
    """Become `user` for good; nothing to do when not started as root or when `user` is root."""
    uid, gid = owner_of(user)
    if os.geteuid() == 0 and uid != 0:
        groups = [entry.gr_gid for entry in grp.getgrall() if user in entry.gr_mem]
        os.setgroups([gid, *groups])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise PrivilegeError(f"no-new-privs was refused: {os.strerror(ctypes.get_errno())}")
