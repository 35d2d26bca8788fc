"""Who may serve, and who owns the state."""

import ctypes
import os

import pytest

from router.daemon import privileges
from router.daemon.privileges import PrivilegeError, owner_of, require_user


@pytest.mark.parametrize(
    ("uid", "user", "environment", "refused"),
    [
        (0, "", {}, True),
        (0, "", {"SLUICE_ALLOW_ROOT": "1"}, True),
        (0, "", {"SLUICE_ALLOW_ROOT": "yes"}, False),
        (0, "mail", {}, False),
        (1000, "", {}, False),
    ],
)
def test_root_is_refused_unless_it_is_meant(
    monkeypatch: pytest.MonkeyPatch, uid: int, user: str, environment: dict[str, str], refused: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    if refused:
        with pytest.raises(PrivilegeError, match="started as root"):
            require_user(user, environment)
    else:
        require_user(user, environment)


def test_an_account_that_does_not_exist_is_an_error_for_root_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(PrivilegeError, match="no account 'nobody-of-that-name'"):
        owner_of("nobody-of-that-name")
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    assert owner_of("nobody-of-that-name") == (1234, os.getegid())


def test_without_root_nothing_is_given_up_but_no_new_privileges(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []

    class Libc:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def prctl(self, *arguments: int) -> int:
            asked.append(arguments)
            return 0 if len(asked) == 1 else -1

    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(ctypes, "CDLL", Libc)
    privileges.become("")
    assert asked == [(38, 1, 0, 0, 0)]
    with pytest.raises(PrivilegeError, match="no-new-privs"):
        privileges.become("")
