"""Writing status and home to a real slapd: compare-and-set, races, absent values, what is read back, LDIF."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.people_ldif import delete, replace, sun_dn, sun_person
from support.slapd import BASE, Follows, Slapd, stalled
from support.sunlike import SunLike

from router.directory.connection import LdapConnection
from router.directory.faults import Lost, refused
from router.directory.feed import LdapFeed
from router.directory.writer import LdapWriter
from router.errors import Conflict, LookupFailed, NotFound
from router.model.directory import KEEP, Standing, Standpoint, Wanted
from router.settings.directory import Ldap

pytestmark = pytest.mark.slow
Source = Callable[..., Ldap]
WriterOf = Callable[..., LdapWriter]
NAME = sun_dn("user1")


@pytest.fixture
def writers() -> Iterator[WriterOf]:
    made: list[LdapWriter] = []

    def build(source: Ldap, meaning: Any = None) -> LdapWriter:
        made.append(LdapWriter(source, meaning or SunLike()))
        return made[-1]

    yield build
    for one in made:
        one.close()


@pytest.fixture
def server(shared: Slapd) -> Iterator[Slapd]:
    shared.modify(replace(NAME, mailUserStatus="active", mailHost="oldmail.example.edu"))
    yield shared
    shared.modify(replace(NAME, mailUserStatus="active", mailHost="oldmail.example.edu"))


def status(server: Slapd, dn: str = NAME) -> list[str] | None:
    return server.entry(dn).get("mailUserStatus")


def test_a_write_is_one_modify_with_the_old_and_the_new_value(server: Slapd, source: Source, writers: WriterOf) -> None:
    writer = writers(source(server))
    before = writer.read(NAME)
    assert (before.dn, before.status, before.host) == (NAME, "active", "oldmail.example.edu")
    assert before.standing is Standing.ACTIVE
    seen = server.mark()
    after = writer.write(before, Wanted(status="hold", host="newmail.example.edu"))
    assert (after.status, after.host, after.standing) == ("hold", "newmail.example.edu", Standing.HOLD)
    assert after.version == server.entry(NAME)["entryCSN"][0] > before.version
    assert server.log(seen).count(" MOD dn=") == 1
    assert server.log(seen).count(" MOD attr=mailUserStatus mailUserStatus mailHost mailHost") == 1


def test_what_is_kept_is_not_touched_and_what_is_so_already_is_not_written(
    server: Slapd, source: Source, writers: WriterOf
) -> None:
    writer = writers(source(server))
    before = writer.read(NAME)
    seen = server.mark()
    assert writer.write(before, Wanted()) == before
    assert writer.write(before, Wanted(status="Active", host=KEEP)) == before
    assert " MOD dn=" not in server.log(seen)
    writer.write(before, Wanted(status="hold"))
    assert server.entry(NAME)["mailHost"] == ["oldmail.example.edu"]


def test_absent_values_are_written_and_restored_as_absent(server: Slapd, source: Source, writers: WriterOf) -> None:
    writer = writers(source(server))
    server.modify(replace(NAME, mailUserStatus=None, mailHost=None))
    before = writer.read(NAME)
    assert (before.status, before.host) == (None, None)
    held = writer.write(before, Wanted(status="hold", host="new.example.edu"))
    assert status(server) == ["hold"]
    after = writer.write(held, Wanted(status=before.status, host=before.host))
    assert (after.status, after.host) == (None, None)
    assert status(server) is None


def test_odd_values_are_octets_like_any_other(server: Slapd, source: Source, writers: WriterOf) -> None:
    writer = writers(source(server))
    before = writer.read(NAME)
    for value in ("  spaced ", "größer; drop=(*)", "a\\2ab", "line\nbreak"):
        before = writer.write(before, Wanted(status=value))
        assert before.status == value
        assert status(server) == [value]


# --- somebody else was there


@pytest.mark.parametrize("changed", [{"mailUserStatus": "inactive"}, {"mailUserStatus": None}])
def test_a_value_that_changed_meanwhile_is_a_conflict(
    server: Slapd, source: Source, writers: WriterOf, changed: dict[str, str | None]
) -> None:
    writer = writers(source(server))
    before = writer.read(NAME)
    server.modify(replace(NAME, **changed))
    with pytest.raises(Conflict):
        writer.write(before, Wanted(status="hold"))
    with pytest.raises(Conflict):
        writer.write(before, Wanted(status="active"))
    assert status(server) == (["inactive"] if changed["mailUserStatus"] else None)


def test_a_value_that_appeared_meanwhile_is_a_conflict(server: Slapd, source: Source, writers: WriterOf) -> None:
    writer = writers(source(server))
    server.modify(replace(NAME, mailUserStatus=None))
    before = writer.read(NAME)
    for value in ("inactive", "hold"):
        server.modify(replace(NAME, mailUserStatus=value))
        with pytest.raises(Conflict):
            writer.write(before, Wanted(status="hold", host="new.example.edu"))
        assert status(server) == [value]
        assert server.entry(NAME)["mailHost"] == ["oldmail.example.edu"], "all or nothing"


class ManyValues(SunLike):
    """A status attribute that may have several values, by mistake of whoever made the schema."""

    write_status = "mailDeliveryOption"

    def attributes(self) -> list[str]:
        return [*super().attributes(), self.write_status]


def test_absence_is_asserted_where_the_schema_allows_several_values(
    server: Slapd, source: Source, writers: WriterOf
) -> None:
    writer = writers(source(server), ManyValues())
    server.modify(replace(NAME, mailDeliveryOption=None))
    before = writer.read(NAME)
    server.modify(replace(NAME, mailDeliveryOption="mailbox"))
    with pytest.raises(Conflict):
        writer.write(before, Wanted(status="hold"))
    assert server.entry(NAME)["mailDeliveryOption"] == ["mailbox"]
    server.modify(replace(NAME, mailDeliveryOption=("mailbox", "forward")))
    with pytest.raises(Conflict, match="2 values"):
        writer.read(NAME)
    server.modify(replace(NAME, mailDeliveryOption="mailbox"))


def test_of_many_at_once_one_wins(server: Slapd, source: Source, writers: WriterOf) -> None:
    before = writers(source(server)).read(NAME)
    many = [writers(source(server)) for _ in range(8)]
    start = threading.Barrier(len(many))

    def race(writer: LdapWriter, number: int) -> str:
        start.wait(60)
        try:
            return writer.write(before, Wanted(status=f"won{number}")).status or ""
        except Conflict:
            return ""

    for _ in range(5):
        server.modify(replace(NAME, mailUserStatus="active"))
        with ThreadPoolExecutor(len(many)) as pool:
            won = [name for name in pool.map(race, many, range(len(many))) if name]
        assert len(won) == 1
        assert status(server) == won


def test_an_entry_that_is_gone(server: Slapd, source: Source, writers: WriterOf) -> None:
    writer = writers(source(server))
    server.modify(sun_person("gone"))
    before = writer.read(sun_dn("gone"))
    server.modify(delete(sun_dn("gone")))
    with pytest.raises(NotFound):
        writer.read(sun_dn("gone"))
    with pytest.raises(Conflict):
        writer.write(before, Wanted(status="hold"))


def test_a_change_right_after_the_write_is_a_conflict_and_no_success(
    server: Slapd, source: Source, writers: WriterOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = writers(source(server))
    before = writer.read(NAME)
    real = LdapConnection.modify

    def overtaken(self: LdapConnection, *args: Any) -> None:
        real(self, *args)
        server.modify(replace(NAME, mailUserStatus="active"))

    monkeypatch.setattr(LdapConnection, "modify", overtaken)
    with pytest.raises(Conflict, match="somebody else"):
        writer.write(before, Wanted(status="hold"))


@pytest.mark.parametrize(("code", "what"), [(16, Conflict), (20, Conflict), (122, Conflict), (50, LookupFailed)])
def test_what_a_refusal_means(
    server: Slapd,
    source: Source,
    writers: WriterOf,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    what: type[Exception],
) -> None:
    """noSuchAttribute, attributeOrValueExists, assertionFailed: the entry was not as told, whatever it is by now."""

    def refuse(*_: Any) -> None:
        raise refused("modify", code)

    monkeypatch.setattr(LdapConnection, "modify", refuse)
    writer = writers(source(server))
    with pytest.raises(what):
        writer.write(writer.read(NAME), Wanted(status="hold"))


# --- the server


def test_a_value_that_the_server_refuses_is_no_conflict(server: Slapd, source: Source, writers: WriterOf) -> None:
    writer = writers(source(server))
    before = writer.read(NAME)
    with pytest.raises(LookupFailed, match="result 21"):
        writer.write(before, Wanted(host="größer.example.edu"))  # mailHost is ASCII
    assert server.entry(NAME)["mailHost"] == ["oldmail.example.edu"]


def test_a_stopped_server_fails_in_time_and_the_same_write_succeeds_later(
    server: Slapd, source: Source, writers: WriterOf
) -> None:
    patient = source(server)
    writer = writers(patient)
    before = writer.read(NAME)
    with stalled(server):
        writer._settings = patient.model_copy(update={"deadline": 0.5})
        began = time.monotonic()
        with pytest.raises(LookupFailed):
            writer.write(before, Wanted(status="hold"))
        assert time.monotonic() - began < 20
        writer._settings = patient
    assert writer.write(writer.read(NAME), Wanted(status="hold")).status == "hold"


def test_a_restarted_server_costs_nothing(server: Slapd, source: Source, writers: WriterOf) -> None:
    writer = writers(source(server))
    before = writer.read(NAME)
    server.kill()
    server.start()
    assert writer.write(before, Wanted(status="hold")).status == "hold"


@pytest.mark.parametrize("done", [True, False])
def test_a_connection_that_ends_during_the_modify(
    server: Slapd, source: Source, writers: WriterOf, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    """Done or not is seen by reading: done is success, not done is a failure to be repeated."""
    writer = writers(source(server))
    before = writer.read(NAME)
    real = LdapConnection.modify

    def cut(self: LdapConnection, *args: Any) -> None:
        if done:
            real(self, *args)
        self.close()
        raise Lost("the connection ended")

    monkeypatch.setattr(LdapConnection, "modify", cut)
    if done:
        assert writer.write(before, Wanted(status="hold")).status == "hold"
    else:
        with pytest.raises(LookupFailed, match="not known"):
            writer.write(before, Wanted(status="hold"))
        assert status(server) == ["active"]


def test_a_replica_refers_to_its_master_and_is_not_written(
    make: Callable[..., Slapd], server: Slapd, source: Source, writers: WriterOf
) -> None:
    replica = make([], follows=Follows(server))
    end = time.monotonic() + 60
    while not replica.entry(NAME):
        assert time.monotonic() < end
        time.sleep(0.05)
    wrong = writers(source(replica))
    with pytest.raises(LookupFailed, match="result 10"):
        wrong.write(wrong.read(NAME), Wanted(status="hold"))
    assert status(server) == ["active"]
    right = writers(source(replica, write_uri=server.uri))
    assert right.write(right.read(NAME), Wanted(status="hold")).status == "hold"
    assert status(server) == ["hold"]


def test_the_version_is_the_one_that_the_follower_sees(server: Slapd, source: Source, writers: WriterOf) -> None:
    feed = LdapFeed(source(server), SunLike())
    polled = feed.poll(feed.cookie())
    writer = writers(source(server))
    after = writer.write(writer.read(NAME), Wanted(status="hold"))
    (seen,) = (item for item in feed.poll(polled.cookie).items if item.dn == NAME)
    assert seen.version == after.version
    feed.close()


# --- LDIF and names


def test_ldif_is_what_an_administrator_could_have_typed(server: Slapd, source: Source, writers: WriterOf) -> None:
    writer = writers(source(server))
    before = writer.read(NAME)
    text = writer.ldif(before, Wanted(status="hold", host="neuer Höst "))
    assert "delete: mailUserStatus\nmailUserStatus: active\n-\nadd: mailUserStatus\nmailUserStatus: hold\n-\n" in text
    text = writer.ldif(before, Wanted(status=" höld", host="new.example.edu"))
    server.modify(text)
    after = writer.read(NAME)
    assert (after.status, after.host) == (" höld", "new.example.edu")
    assert writer.ldif(after, Wanted(status=" höld")).startswith("# nothing to change\n")


def test_names_of_hosts_and_what_may_be_written(server: Slapd, source: Source, writers: WriterOf) -> None:
    writer = writers(source(server))
    assert (writer.source, writer.writes_status, writer.writes_home) == ("ldap", True, True)
    assert (writer.hold_value, writer.host_of("newmail")) == ("hold", "newmail.example.edu")
    with pytest.raises(NotFound):
        writer.host_of("nowhere")


def test_an_attribute_that_is_not_ours_to_write(server: Slapd, source: Source, writers: WriterOf) -> None:
    class ReadOnly(SunLike):
        write_status = ""
        write_home = ""

    writer = writers(source(server), ReadOnly())
    assert (writer.writes_status, writer.writes_home) == (False, False)
    before = writer.read(NAME)
    assert before == Standpoint(NAME, before.version, None, None, Standing.ACTIVE)
    with pytest.raises(Conflict, match="no attribute"):
        writer.write(before, Wanted(status="hold"))


def test_a_name_that_is_no_name(server: Slapd, source: Source, writers: WriterOf) -> None:
    writer = writers(source(server))
    with pytest.raises(LookupFailed):
        writer.read("no name at all")
    with pytest.raises(NotFound):
        writer.read(f"uid=a\\2cb,{BASE}")
