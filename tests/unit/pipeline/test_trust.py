"""People of a directory that was not followed for too long wait; everybody else is answered as before."""

import pytest

from router.errors import LookupFailed
from router.model.address import Address, parse_address
from router.model.mailbox import Hold, Mailbox
from router.model.route import Classification, Kind
from router.pipeline.trust import TrustedClassifier

ADDRESS = parse_address("ann@example.edu")
HOLD = Hold(1, 0.0, 1)


class Inner:
    def __init__(self, found: Classification) -> None:
        self.found: Classification | None = found
        self.error: Exception | None = None

    def known(self, address: Address) -> Classification | None:
        assert address == ADDRESS
        return self.found

    async def classify(self, address: Address) -> Classification:
        assert address == ADDRESS
        if self.error is not None:
            raise self.error
        assert self.found is not None
        return self.found


def mailbox(source: str, hold: Hold | None = None) -> Classification:
    return Classification(ADDRESS, Kind.MAILBOX, 1, Mailbox("ann@example.edu", "old", hold=hold, source=source))


def of(found: Classification, *trusted: str) -> TrustedClassifier:
    return TrustedClassifier(Inner(found), lambda source: source in trusted)


async def test_people_of_a_directory_that_is_believed_are_answered() -> None:
    found = mailbox("ldap")
    one = of(found, "ldap")
    assert one.known(ADDRESS) is found
    assert await one.classify(ADDRESS) is found


async def test_people_of_one_that_is_not_believed_are_not() -> None:
    one = of(mailbox("ldap"), "database")
    assert one.known(ADDRESS) is None
    with pytest.raises(LookupFailed, match="the directory ldap has not been followed") as caught:
        await one.classify(ADDRESS)
    assert str(caught.value.reply) == "451 4.4.3 Address lookup failed, please try again later"


async def test_trust_that_comes_and_goes_counts_at_once() -> None:
    trusted: set[str] = set()
    one = TrustedClassifier(Inner(mailbox("ldap")), trusted.__contains__)
    assert one.known(ADDRESS) is None
    trusted.add("ldap")
    assert one.known(ADDRESS) is not None
    trusted.clear()
    assert one.known(ADDRESS) is None


async def test_who_is_on_hold_stays_on_hold() -> None:
    found = mailbox("ldap", HOLD)
    one = of(found)
    assert one.known(ADDRESS) is found
    assert await one.classify(ADDRESS) is found


async def test_who_is_spared_is_answered_however_old_it_is() -> None:
    found = mailbox("ldap")
    assert TrustedClassifier(Inner(found), lambda _: False, lambda one: one is not found).known(ADDRESS) is None
    one = TrustedClassifier(Inner(found), lambda _: False, lambda one: one is found)
    assert one.known(ADDRESS) is found
    assert await one.classify(ADDRESS) is found


@pytest.mark.parametrize("kind", [Kind.LIST, Kind.SERVICE, Kind.UNKNOWN, Kind.FOREIGN])
async def test_what_is_nobodys_mailbox_needs_no_directory(kind: Kind) -> None:
    found = Classification(ADDRESS, kind, 1, source="configuration")
    one = of(found)
    assert one.known(ADDRESS) is found
    assert await one.classify(ADDRESS) is found


async def test_what_is_not_known_and_what_fails_is_passed_on() -> None:
    inner = Inner(mailbox("ldap"))
    one = TrustedClassifier(inner, lambda _: True)
    inner.found = None
    assert one.known(ADDRESS) is None
    inner.error = LookupFailed("no answer")
    with pytest.raises(LookupFailed, match="no answer"):
        await one.classify(ADDRESS)
