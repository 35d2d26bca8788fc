"""Clients leave descriptors for what mail needs to go on."""

import resource

import pytest

from router.daemon.descriptors import room


@pytest.mark.parametrize(("limit", "strangers", "favoured"), [(64, 48, 56), (1024, 768, 896), (65536, 49152, 57344)])
def test_inv_50_the_last_quarter_is_not_for_strangers(
    monkeypatch: pytest.MonkeyPatch, limit: int, strangers: int, favoured: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert (room(strangers - 1, favoured=False), room(strangers, favoured=False)) == (True, False)
    assert (room(favoured - 1, favoured=True), room(favoured, favoured=True)) == (True, False)


def test_without_a_limit_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert room(1 << 20, favoured=False)
