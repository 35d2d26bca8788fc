"""The cache: what drops what, bounds, and no answer older than an applied change."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.classify.cache import Cache, Standing
from router.model.address import parse_address
from router.model.change import Change, ChangeKind, ChangeSet
from router.model.mailbox import Mailbox
from router.model.route import Classification, Kind


def answer(address: str, epoch: int, mailbox: str = "", home: str = "cliff") -> Classification:
    found = Classification(parse_address(address), Kind.UNKNOWN, epoch)
    if not mailbox:
        return found
    return replace(found, kind=Kind.MAILBOX, mailbox=Mailbox(mailbox, home), chain=(mailbox,))


def change_set(epoch: int, kind: ChangeKind, key: str = "") -> ChangeSet:
    return ChangeSet(epoch, (Change(epoch, kind, key),), {})


def put(cache: Cache, found: Classification, standing: Standing = Standing.FIRM) -> bool:
    return cache.admit(found, standing, cache.ticket(), expires=100.0)


def filled() -> Cache:
    cache = Cache()
    assert put(cache, answer("joe@x.example", 5, "joe@x.example"))
    assert put(cache, answer("j.smith@x.example", 5, "joe@x.example"))
    assert put(cache, answer("ann@x.example", 5, "ann@x.example"))
    assert put(cache, answer("joe+x@x.example", 5, "joe@x.example"), Standing.DERIVED)
    assert put(cache, answer("nobody@x.example", 5), Standing.DENIED)
    return cache


def kept(cache: Cache) -> set[str]:
    names = ("joe", "j.smith", "ann", "joe+x", "nobody")
    return {name for name in names if cache.get(f"{name}@x.example", 0.0) is not None}


@pytest.mark.parametrize(
    ("kind", "key", "left"),
    [
        (ChangeKind.MAILBOX, "joe@x.example", {"ann"}),
        (ChangeKind.ADDRESS, "j.smith@x.example", {"joe", "ann"}),
        (ChangeKind.ADDRESS, "new@x.example", {"joe", "j.smith", "ann"}),
        (ChangeKind.MAILBOX, "new@x.example", {"joe", "j.smith", "ann"}),
        (ChangeKind.DOMAIN, "x.example", set()),
        (ChangeKind.LIST, "", set()),
        (ChangeKind.STORE, "cliff", set()),
        (ChangeKind.CONFIGURATION, "", set()),
        (ChangeKind.RESYNC, "", set()),
    ],
)
def test_what_a_change_drops(kind: ChangeKind, key: str, left: set[str]) -> None:
    cache = filled()

    cache.apply(change_set(6, kind, key))

    assert kept(cache) == left
    assert cache.applied == 6
    assert len(cache) == len(left)


def test_no_news_drops_nothing() -> None:
    cache = filled()

    cache.apply(ChangeSet(9, (), {}))

    assert len(cache) == 5
    assert cache.applied == 9


@pytest.mark.parametrize("standing", Standing)
def test_an_overtaken_answer_stays_out(standing: Standing) -> None:
    cache = Cache()
    cache.apply(change_set(6, ChangeKind.MAILBOX, "joe@x.example"))

    assert not put(cache, answer("j.smith@x.example", 5, "joe@x.example"), standing)
    assert put(cache, answer("j.smith@x.example", 6, "joe@x.example"), standing)


def test_a_firm_answer_minds_only_its_own_keys() -> None:
    cache = Cache()
    cache.apply(change_set(6, ChangeKind.MAILBOX, "joe@x.example"))

    assert put(cache, answer("ann@x.example", 5, "ann@x.example"))
    assert not put(cache, answer("ann+x@x.example", 5, "ann@x.example"), Standing.DERIVED)


def test_a_question_from_before_everything_was_dropped_stays_out() -> None:
    cache = Cache()
    ticket = cache.ticket()
    cache.forget_all(-1)

    assert not cache.admit(answer("joe@x.example", 99, "joe@x.example"), Standing.FIRM, ticket)
    assert put(cache, answer("joe@x.example", 0, "joe@x.example"))
    cache.forget_all(7)
    assert not put(cache, answer("joe@x.example", 6, "joe@x.example"))
    assert cache.applied == 7


def test_denied_answers_are_short_lived_and_die_with_the_source() -> None:
    cache = filled()
    assert cache.get("nobody@x.example", 99.9) is not None
    assert cache.get("nobody@x.example", 100.0) is None

    assert put(cache, answer("nobody@x.example", 5), Standing.DENIED)
    cache.forget_denied()
    assert kept(cache) == {"joe", "j.smith", "ann", "joe+x"}


def test_a_new_answer_replaces_one_of_another_standing() -> None:
    cache = filled()

    assert put(cache, answer("joe+x@x.example", 6, "joe+x@x.example"))
    assert put(cache, answer("joe@x.example", 6), Standing.DENIED)

    assert len(cache) == 5
    found = cache.get("joe@x.example", 0.0)
    assert found is not None
    assert found.kind is Kind.UNKNOWN


@pytest.mark.parametrize("standing", Standing)
def test_entries_are_bounded_and_the_used_ones_stay(standing: Standing) -> None:
    cache = Cache(entries=20)
    bound = 20 if standing is Standing.FIRM else 10

    for number in range(100):
        assert put(cache, answer(f"u{number}@x.example", 1, f"m{number}@x.example"), standing)
        if standing is not Standing.DENIED:
            assert cache.get("u0@x.example", 0.0) is not None

    assert len(cache) == bound
    assert len(cache._named_by) == (bound if standing is Standing.FIRM else 0)


def test_the_record_of_changes_is_bounded_and_the_floor_rises() -> None:
    cache = Cache(recent=10)
    for epoch in range(1, 31):
        cache.apply(change_set(epoch, ChangeKind.MAILBOX, f"m{epoch}@x.example"))

    assert len(cache._recent) == 10
    assert not put(cache, answer("m5@x.example", 4, "m5@x.example"))
    assert not put(cache, answer("other@x.example", 19, "other@x.example"))
    assert put(cache, answer("other@x.example", 20, "other@x.example"))


# --- the simulation -----------------------------------------------------------------------------------------------

PEOPLE = ("a", "b", "c")
NAMES = (*PEOPLE, "d", "e")
STEPS = st.one_of(
    st.tuples(st.just("home"), st.sampled_from(PEOPLE), st.integers(0, 9)),
    st.tuples(st.just("alias"), st.sampled_from(NAMES), st.sampled_from((*PEOPLE, ""))),
    st.tuples(st.just("ask"), st.sampled_from(NAMES), st.booleans()),
    st.tuples(st.just("answer"), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("apply"), st.integers(0, 4), st.booleans()),
)


class World:
    """A database with its history, and a cache that follows it."""

    def __init__(self) -> None:
        self.homes = [dict.fromkeys(PEOPLE, 0)]
        self.aliases: list[dict[str, str]] = [{name: name for name in PEOPLE}]
        self.changes: list[list[Change]] = [[]]
        self.cache = Cache(entries=3, recent=2)
        self.open: list[tuple[str, int, bool, object]] = []

    @property
    def epoch(self) -> int:
        return len(self.homes) - 1

    def commit(self, homes: dict[str, int], aliases: dict[str, str], keys: set[str]) -> None:
        self.homes.append(homes)
        self.aliases.append(aliases)
        self.changes.append([Change(self.epoch, ChangeKind.MAILBOX, f"{key}@x.example") for key in sorted(keys)])

    def truth(self, name: str, epoch: int) -> tuple[str, int] | None:
        person = self.aliases[epoch].get(name, "")
        return (person, self.homes[epoch][person]) if person else None

    def step(self, verb: str, one: object, two: object) -> None:
        homes, aliases = dict(self.homes[-1]), dict(self.aliases[-1])
        match verb, one, two:
            case "home", str(person), int(home):
                homes[person] = home
                self.commit(homes, aliases, {person})
            case "alias", str(name), str(person):
                keys = {aliases.pop(name, ""), person} - {""}
                if person:
                    aliases[name] = person
                self.commit(homes, aliases, keys or {"nothing"})
            case "ask", str(name), bool(late):
                self.open.append((name, self.epoch, late, self.cache.ticket()))
            case "answer", int(which), _:
                if self.open:
                    self.answer(*self.open.pop(which % len(self.open)))
            case "apply", int(count), bool(everything):
                self.apply(count, everything=everything)

    def answer(self, name: str, epoch: int, soft: bool, ticket: object) -> None:
        known = self.truth(name, epoch)
        found = answer(f"{name}@x.example", epoch, f"{known[0]}@x.example" if known else "", str(known and known[1]))
        standing = Standing.DENIED if known is None else Standing.DERIVED if soft else Standing.FIRM
        self.cache.admit(found, standing, ticket, expires=1.0)  # type: ignore[arg-type]

    def apply(self, count: int, *, everything: bool) -> None:
        applied = max(0, self.cache.applied)
        upto = min(self.epoch, applied + count)
        changes = tuple(change for epoch in range(applied + 1, upto + 1) for change in self.changes[epoch])
        if everything:
            changes = (Change(upto, ChangeKind.RESYNC, ""),)
        self.cache.apply(ChangeSet(upto, changes, {}))

    def check(self) -> None:
        applied = max(0, self.cache.applied)
        for name in NAMES:
            found = self.cache.get(f"{name}@x.example", 0.0)
            if found is None:
                continue
            said = (found.mailbox.key[0], int(found.mailbox.home)) if found.mailbox else None
            assert said in [self.truth(name, epoch) for epoch in range(applied, self.epoch + 1)]


@given(st.lists(STEPS, max_size=60))
def test_barrier_rule_4_no_answer_is_older_than_an_applied_change(steps: list[tuple[str, object, object]]) -> None:
    world = World()
    for step in steps:
        world.step(*step)
        world.check()
