"""What is said of entries."""

from router.model.directory import complaint


def test_an_entry_is_named_once() -> None:
    assert complaint("uid=a,dc=x", "has no address") == "uid=a,dc=x: has no address"
    assert complaint("uid=a,dc=x", "uid=a,dc=x: has no address") == "uid=a,dc=x: has no address"
    assert complaint("uid=a,dc=x", "uid=a,dc=xy: has no address") == "uid=a,dc=x: uid=a,dc=xy: has no address"
