"""Following a real slapd: what ldapmodify does is told by the next poll, once; sweeps are whole; servers change."""

import dataclasses
import re
import time
from collections.abc import Callable, Iterator

import pytest
from support.people_ldif import ad_user, delete, replace, sun_dn, sun_domain, sun_person
from support.slapd import BASE, Follows, Slapd, stalled
from support.sunlike import SunLike

from router.directory import feed as module
from router.directory.feed import LdapFeed
from router.directory.meaning import Meaning
from router.directory.position import parse_position
from router.errors import LookupFailed
from router.model.directory import Cookie, DomainEntry, Entry, Polled, RawEntry, Role, Standing, Unplaced
from router.settings.directory import Ldap

pytestmark = pytest.mark.slow
Make = Callable[..., Slapd]
Source = Callable[..., Ldap]
FeedOf = Callable[..., LdapFeed]
ATTRIBUTES = ["entryCSN", "modifyTimestamp"]


@pytest.fixture
def feeds() -> Iterator[FeedOf]:
    made: list[LdapFeed] = []

    def build(source: Ldap, meaning: Meaning | None = None) -> LdapFeed:
        made.append(LdapFeed(source, meaning or SunLike()))
        return made[-1]

    yield build
    for one in made:
        one.close()


def told(polled: Polled) -> dict[str, str]:
    """The first part of the DN, and the status."""
    return {item.dn.partition(",")[0]: item.standing.value for item in polled.items}


@pytest.mark.parametrize("attribute", ATTRIBUTES)
@pytest.mark.parametrize("provides", [True, False])
def test_additions_and_changes_are_told_by_the_next_poll_and_once(
    make: Make, source: Source, feeds: FeedOf, attribute: str, provides: bool
) -> None:
    server = make(provides=provides)
    feed = feeds(source(server, change_attribute=attribute))
    cookie = feed.cookie()
    polled = feed.poll(cookie)  # repeats of the last seconds may come
    for number in range(5):
        server.modify(replace(sun_dn("user1"), mailUserStatus=("hold", "inactive", "active")[number % 3]))
        server.modify(sun_person(f"new{number}"))
        polled = feed.poll(polled.cookie)
        assert not polled.resweep
        assert told(polled) == {"uid=user1": ("hold", "inactive", "active")[number % 3], f"uid=new{number}": "active"}
        assert feed.poll(polled.cookie).items == ()
    assert feed.poll(cookie).items != (), "who lost its place hears it again"


def test_two_changes_in_one_second_are_both_told(make: Make, source: Source, feeds: FeedOf) -> None:
    """modifyTimestamp has steps of a second: the second change does not change it."""
    server = make(provides=False)
    feed = feeds(source(server, change_attribute="modifyTimestamp"))
    polled = feed.poll(feed.cookie())
    seen: set[str] = set()
    for number in range(60):
        if number >= 12 and len(seen) < number:
            break
        server.modify(replace(sun_dn("user1"), mailUserStatus="hold" if number % 2 else "active", cn=f"n{number}"))
        polled = feed.poll(polled.cookie)
        assert told(polled) == {"uid=user1": "hold" if number % 2 else "active"}
        seen.add(server.entry(sun_dn("user1"))["modifyTimestamp"][0])
    assert len(seen) <= number - 1, "no two changes fell into one second"


def test_an_answer_that_was_not_kept_is_given_again(shared: Slapd, source: Source, feeds: FeedOf) -> None:
    feed = feeds(source(shared, change_attribute="modifyTimestamp"))
    polled = feed.poll(feed.cookie())
    shared.modify(replace(sun_dn("user4"), mailUserStatus="hold"))
    lost = feed.poll(polled.cookie)
    again = feed.poll(polled.cookie)
    assert "uid=user4" in told(lost)
    assert told(lost) == told(again)
    assert told(feeds(source(shared, change_attribute="modifyTimestamp")).poll(polled.cookie)).keys() >= {"uid=user4"}
    shared.modify(replace(sun_dn("user4"), mailUserStatus="active"))


def test_domains_groups_and_entries_that_make_no_sense(shared: Slapd, source: Source, feeds: FeedOf) -> None:
    feed = feeds(source(shared))
    polled = feed.poll(feed.cookie())
    shared.modify(replace(f"o=example.edu,ou=domains,{BASE}", mailDomainStatus="hold"))
    shared.modify(replace(f"cn=staff,ou=groups,{BASE}", mgrpRFC822MailMember="a@example.edu"))
    shared.modify(replace(sun_dn("user5"), mail=None))
    polled = feed.poll(polled.cookie)
    domain, group = sorted(polled.items, key=lambda item: isinstance(item, Entry))
    assert isinstance(domain, DomainEntry)
    assert domain.standing is Standing.HOLD
    assert isinstance(group, Entry)
    assert group.role is Role.GROUP
    assert polled.unplaced == (Unplaced(sun_dn("user5"), "has no address"),)
    shared.modify(replace(sun_dn("user5"), mail="user5@example.edu"))
    shared.modify(replace(f"o=example.edu,ou=domains,{BASE}", mailDomainStatus="active"))


def test_polling_costs_little_when_nothing_changes(shared: Slapd, source: Source, feeds: FeedOf) -> None:
    feed = feeds(source(shared))
    polled = feed.poll(feed.cookie())
    seen = shared.mark()
    for _ in range(10):
        polled = feed.poll(polled.cookie)
    assert len(shared.searches(seen)) == 20, "what the server has, and what is newer"
    assert shared.connections(seen) == 0
    assert all(f"(entryCSN>={when}" in text for text in shared.searches(seen)[1::2] for when in ("20",))


# --- counts instead of times


def test_a_count_of_changes(make: Make, source: Source, feeds: FeedOf) -> None:
    server = make([ad_user("ann", 10), ad_user("bob", 9)])
    feed = feeds(source(server, schema="activedirectory", change_attribute="uSNChanged"), AnyUser())
    polled = feed.poll(feed.cookie())
    server.modify(replace(f"cn=bob,ou=people,{BASE}", uSNChanged="11"))
    polled = feed.poll(polled.cookie)
    assert [item.version for item in polled.items] == ["00000000000000000011"]
    server.modify(ad_user("carl", 100))
    polled = feed.poll(polled.cookie)
    assert [item.version for item in polled.items] == ["00000000000000000100"]
    assert feed.poll(polled.cookie).items == ()


def test_a_count_that_went_back(make: Make, source: Source, feeds: FeedOf) -> None:
    server = make([ad_user("ann", 10), ad_user("bob", 9)])
    feed = feeds(source(server, schema="activedirectory", change_attribute="uSNChanged"), AnyUser())
    polled = feed.poll(feed.cookie())
    assert not polled.resweep
    server.modify(delete(f"cn=ann,ou=people,{BASE}"))
    assert feed.poll(polled.cookie).resweep
    assert not feed.poll(feed.cookie()).resweep


class AnyUser(SunLike):
    """Counts, as Active Directory does, and everybody is a person."""

    def __init__(self) -> None:
        super().__init__(("uSNChanged",))

    def all_filter(self) -> str:
        return "(objectClass=user)"

    def item(self, raw: RawEntry) -> Entry | DomainEntry | Unplaced | None:
        classes = {"objectclass": (b"inetMailUser",)}
        return super().item(RawEntry(raw.dn, {**raw.attributes, **classes}))


def test_an_attribute_that_entries_do_not_have_is_no_silence(shared: Slapd, source: Source, feeds: FeedOf) -> None:
    with pytest.raises(LookupFailed, match="uSNChanged"):
        feeds(source(shared, change_attribute="uSNChanged")).cookie()


@pytest.mark.parametrize("attribute", [*ATTRIBUTES, "auto"])
def test_an_empty_directory_is_followed_from_its_beginning(
    make: Make, source: Source, feeds: FeedOf, attribute: str
) -> None:
    server = make([])
    feed = feeds(source(server, change_attribute=attribute))
    cookie = feed.cookie()
    assert list(feed.sweep()) == [()]
    server.modify(sun_person("ann"))
    polled = feed.poll(cookie)
    assert told(polled) == {"uid=ann": "active"}
    server.modify(sun_person("bob"))
    assert told(feed.poll(polled.cookie)) == {"uid=bob": "active"}


# --- when only a sweep helps


@pytest.mark.parametrize("cookie", [Cookie(), Cookie("ldap://127.0.0.1:1", "entryCSN||0||"), Cookie("x", "rubbish")])
def test_a_cookie_that_is_none_or_of_another_server(
    shared: Slapd, source: Source, feeds: FeedOf, cookie: Cookie
) -> None:
    polled = feeds(source(shared)).poll(cookie)
    assert polled == Polled((), cookie, resweep=True)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_a_server_that_was_set_back_is_noticed(make: Make, source: Source, feeds: FeedOf, attribute: str) -> None:
    """Without contextCSN, the newest entry is all there is to go by."""
    server = make(provides=False)
    feed = feeds(source(server, change_attribute=attribute))
    time.sleep(1.1)
    server.modify(sun_person("new"))
    polled = feed.poll(feed.cookie())
    assert not polled.resweep
    server.modify(delete(sun_dn("new")))
    assert feed.poll(polled.cookie).resweep
    assert not feed.poll(feed.cookie()).resweep


def test_a_restored_server_is_noticed_by_what_it_says_it_has(make: Make, source: Source, feeds: FeedOf) -> None:
    server, older = make(), make()
    feed = feeds(source(server))
    server.modify(sun_person("new"))
    cookie = feed.cookie()
    polled = feeds(source(older)).poll(Cookie(older.uri, cookie.value))
    assert polled.resweep


def test_a_server_that_says_it_has_less_is_noticed_though_its_entries_are_the_same(
    shared: Slapd, source: Source, feeds: FeedOf
) -> None:
    """As a backup from before some deletions: nothing in it is new, and the newest entry is where it was."""
    feed = feeds(source(shared))
    cookie = feed.cookie()
    position = parse_position(cookie.value)
    assert position is not None
    ahead = {sid: csn.replace("20", "29", 1) for sid, csn in position.complete.items()}
    assert not feed.poll(cookie).resweep
    assert feed.poll(Cookie(cookie.server, str(dataclasses.replace(position, complete=ahead)))).resweep


def test_deletions_do_not_cause_sweeps_where_the_server_tells_how_far_it_is(
    make: Make, source: Source, feeds: FeedOf
) -> None:
    server = make()
    feed = feeds(source(server))
    server.modify(sun_person("new"))
    polled = feed.poll(feed.cookie())
    server.modify(delete(sun_dn("new")))
    polled = feed.poll(polled.cookie)
    assert not polled.resweep
    assert polled.items == ()


def test_more_changes_than_a_poll_can_tell(
    make: Make, source: Source, feeds: FeedOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_CHANGES", 5)
    server = make([])
    feed = feeds(source(server, page_size=10))
    cookie = feed.cookie()
    server.modify("\n".join(sun_person(f"new{number}") for number in range(30)))
    assert feed.poll(cookie) == Polled((), cookie, resweep=True)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
@pytest.mark.parametrize("provides", [True, False])
def test_a_change_of_everybody_at_once_ends_in_quiet_polls(
    make: Make, source: Source, feeds: FeedOf, monkeypatch: pytest.MonkeyPatch, attribute: str, provides: bool
) -> None:
    """As a provisioning run at night: more than a poll can tell, all in one second, and then nothing for hours."""
    monkeypatch.setattr(module, "MOST_CHANGES", 5)
    monkeypatch.setattr(module, "OVERLAP", 1.5)
    server = make(provides=provides)
    feed = feeds(source(server, change_attribute=attribute))
    cookie, sweeps = feed.cookie(), 0
    end = time.monotonic() + 60
    while (polled := feed.poll(cookie)).resweep:
        assert time.monotonic() < end
        cookie, sweeps = feed.cookie(), sweeps + 1
        assert sum(len(page) for page in feed.sweep()) == 22
        time.sleep(0.8)
    assert sweeps <= 4
    # Results are logged after they are sent, and may come to stand behind a mark that is set too soon.
    until(lambda: len(results(server, 0)) == len(server.searches()))
    seen = server.mark()
    assert feed.poll(polled.cookie).items == ()
    until(lambda: len(results(server, seen)) == len(server.searches(seen)))
    assert results(server, seen)[-1] <= 1
    server.modify(replace(sun_dn("user1"), mailUserStatus="hold"))
    assert told(feed.poll(polled.cookie)) == {"uid=user1": "hold"}


# --- servers


def test_another_server_means_a_sweep_and_is_then_kept(make: Make, source: Source, feeds: FeedOf) -> None:
    first, second = make(), make()
    feed = feeds(source(first, second))
    polled = feed.poll(feed.cookie())
    first.kill()
    assert feed.poll(polled.cookie).resweep
    cookie = feed.cookie()
    assert cookie.server == second.uri
    assert sum(len(page) for page in feed.sweep()) == 22
    first.start()
    time.sleep(0.2)
    assert not feed.poll(cookie).resweep, "the server that answers is kept"


def test_a_restarted_server_is_followed_on(make: Make, source: Source, feeds: FeedOf) -> None:
    server = make()
    feed = feeds(source(server))
    polled = feed.poll(feed.cookie())
    server.kill()
    with pytest.raises(LookupFailed):
        feed.poll(polled.cookie)
    server.start()
    server.modify(replace(sun_dn("user1"), mailUserStatus="hold"))
    assert told(feed.poll(polled.cookie)) == {"uid=user1": "hold"}


def test_a_stopped_server_fails_in_time_and_misses_nothing(shared: Slapd, source: Source, feeds: FeedOf) -> None:
    patient = source(shared)
    feed = feeds(patient)
    polled = feed.poll(feed.cookie())
    shared.modify(replace(sun_dn("user6"), mailUserStatus="hold"))
    with stalled(shared):
        feed._source = patient.model_copy(update={"deadline": 0.5})
        began = time.monotonic()
        with pytest.raises(LookupFailed):
            feed.poll(polled.cookie)
        assert time.monotonic() - began < 20
        feed._source = patient
    assert "uid=user6" in told(feed.poll(polled.cookie))
    shared.modify(replace(sun_dn("user6"), mailUserStatus="active"))


def test_a_replica_is_followed_through_its_refreshes(make: Make, source: Source, feeds: FeedOf) -> None:
    """It asks its master every second and gets entries in the master's own order, not in that of the changes."""
    master = make()
    replica = make([], follows=Follows(master, 1))
    until(lambda: replica.entry(BASE).get("contextCSN") == master.entry(BASE)["contextCSN"])
    feed = feeds(source(replica))
    polled = feed.poll(feed.cookie())
    wanted: dict[str, str] = {}
    for name in ("user9", "user3", "user12", "user1"):
        master.modify(replace(sun_dn(name), mailUserStatus="hold"))
        wanted[f"uid={name}"] = "hold"
    found: dict[str, str] = {}
    end = time.monotonic() + 60
    while found != wanted:
        assert time.monotonic() < end, found
        polled = feed.poll(polled.cookie)
        assert not polled.resweep
        found |= {name: status for name, status in told(polled).items() if status == "hold"}
        time.sleep(0.05)


def results(server: Slapd, since: int) -> list[int]:
    """How many entries each search has found."""
    return [int(number) for number in re.findall(r"nentries=(\d+)", server.log(since))]


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


# --- sweeps


def test_a_sweep_is_everything_page_by_page(shared: Slapd, source: Source, feeds: FeedOf) -> None:
    pages = list(feeds(source(shared, page_size=10)).sweep())
    assert [len(page) for page in pages] == [10, 10, 2]
    assert sum(isinstance(item, DomainEntry) for page in pages for item in page) == 1


def test_domains_elsewhere_are_swept_too(make: Make, source: Source, feeds: FeedOf) -> None:
    server = make([sun_person("ann"), sun_domain("example.edu")])
    where = {"base": f"ou=people,{BASE}", "domain_base": f"ou=domains,{BASE}"}
    feed = feeds(source(server, **where))
    assert {item.dn.partition(",")[0] for page in feed.sweep() for item in page} == {"uid=ann", "o=example.edu"}


def test_polls_go_on_during_a_sweep(shared: Slapd, source: Source, feeds: FeedOf) -> None:
    feed = feeds(source(shared, page_size=10))
    polled = feed.poll(feed.cookie())
    pages = []
    for page in feed.sweep():
        pages.append(page)
        polled = feed.poll(polled.cookie)
        assert not polled.resweep
    assert sum(len(page) for page in pages) == 22


@pytest.mark.parametrize("how", ["kill", "stall", "limit"])
def test_a_sweep_that_was_cut_short_never_ends_normally(make: Make, source: Source, feeds: FeedOf, how: str) -> None:
    server = make(limits="sizelimit 15" if how == "limit" else "sizelimit unlimited")
    patient = source(server, page_size=10)
    feed = feeds(patient)
    pages = feed.sweep()
    assert len(next(pages)) == 10
    if how != "limit":
        feed._source = patient.model_copy(update={"deadline": 0.5})
        getattr(server, how)()
    with pytest.raises(LookupFailed):
        list(pages)


def test_a_sweep_reads_the_server_of_the_cookie(make: Make, source: Source, feeds: FeedOf) -> None:
    first, second = make(), make([])
    feed = feeds(source(first, second))
    assert feed.cookie().server == first.uri
    first.kill()
    with pytest.raises(LookupFailed):
        list(feed.sweep())
    assert feed.cookie().server == second.uri
    assert list(feed.sweep()) == [()]


def test_a_sweep_keeps_to_that_server_though_a_better_one_is_back(make: Make, source: Source) -> None:
    ahead = 0.0
    first, second = make(), make([])
    feed = LdapFeed(source(first, second), SunLike(), lambda: time.monotonic() + ahead)
    first.kill()
    assert feed.cookie().server == second.uri
    first.start()
    ahead = 100.0  # nobody rests any more
    assert list(feed.sweep()) == [()]
    feed.close()


def test_a_base_that_is_gone_is_no_empty_directory(shared: Slapd, source: Source, feeds: FeedOf) -> None:
    feed = feeds(source(shared, base=f"ou=nowhere,{BASE}"))
    with pytest.raises(LookupFailed):
        list(feed.sweep())
    with pytest.raises(LookupFailed):
        feed.cookie()
