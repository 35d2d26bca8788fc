"""
Flips: somebody's mail goes to another store from now on.

In the database: `move` as `sluice move --to` does it (hold, barrier, flip, release; nothing to copy), `set` as
`sluice user set --home` does it, and many at once as `sluice hold` and `sluice release --to` do it with a file of
addresses: one call each. A move is followed at once by a message, which must arrive at the new store. In a directory:
from the end of `ldapmodify`, and from the call of `release --to`, to the first message that took the new route;
`follow` is 2 s, as by default.
"""

import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

from support.people_ldif import NEW_HOST, replace, sun_dn, sun_domain, sun_person
from support.site import Site
from support.slapd import Slapd

from bench.many import import_people, people, wait_applied
from bench.relays import Plan, Sluice, running
from bench.row import OURS, Case, Figures, Row
from bench.rows.latency import ms
from bench.stamps import arrival, hand_in, stamping_store
from router.control import edits
from router.ledger.stores import StoreProcess

PEOPLE = int(os.environ.get("BENCH_PEOPLE", "1000000"))
FEW = 1000
FLIPS = int(os.environ.get("BENCH_FLIPS", "50"))
BATCH = int(os.environ.get("BENCH_BATCH", "10000"))
_PATIENCE = 600.0


def _among(count: int) -> Callable[[str], Figures]:
    """Single flips, among so many mailboxes of the database."""

    def run(relay: str) -> Figures:
        with (
            stamping_store("old") as old,
            stamping_store("new") as new,
            running(relay, Plan({"old": old.port, "new": new.port})) as made,
        ):
            assert isinstance(made, Sluice)
            imported = import_people(made.site, count)
            chosen = random.Random(1).sample(people(count), 2 * FLIPS)
            moves = [_move(made.site, key, new) for key in chosen[:FLIPS]]
            sets = [_set(made.site, key) for key in chosen[FLIPS:]]
            made.settle(60)
        move, first = (statistics.median(values) for values in zip(*moves, strict=True))
        return {"move": ms(move), "first": ms(first), "set": ms(statistics.median(sets)), "import": imported}

    return run


def _move(site: Site, key: str, new: StoreProcess) -> tuple[float, float]:
    """Seconds until the move returned, and until a message handed in then was at the new store."""
    office, tag, began = site.office, f"flip-{key.partition('@')[0]}", time.monotonic()
    moved = office.operations.move(key, "new", office.act("bench"))
    call = time.monotonic() - began
    assert moved.release is not None
    assert moved.release.applied
    hand_in(site.port, tag, key)
    return call, arrival(new, tag).at - began


def _set(site: Site, key: str) -> float:
    office, began = site.office, time.monotonic()
    edit = partial(edits.edit, key=key, wanted=edits.Edit(home="new"), act=office.act("bench"))
    _, after = office.database.run_write(edit)
    wait_applied(site)
    assert after.mailbox.home == "new"
    return time.monotonic() - began


def _batch(relay: str) -> Figures:
    """Many at once, of twice as many."""
    with (
        stamping_store("old") as old,
        stamping_store("new") as new,
        running(relay, Plan({"old": old.port, "new": new.port})) as made,
    ):
        assert isinstance(made, Sluice)
        import_people(made.site, 2 * BATCH)
        hold, release = flip_all(made.site, people(BATCH))
        hand_in(made.port, "batch", people(BATCH)[-1])
        arrival(new, "batch")
        made.settle(60)
    return {"batch": hold + release, "batch_hold": hold, "batch_release": release}


def flip_all(site: Site, keys: Sequence[str]) -> tuple[float, float]:
    """Seconds that the hold took, and then the release."""
    office, began = site.office, time.monotonic()
    held = office.operations.hold(keys, office.act("bench"), timeout=_PATIENCE)
    quiet = time.monotonic()
    released = office.operations.release(keys, office.act("bench"), "new", timeout=_PATIENCE)
    ended = time.monotonic()
    assert all(one.quiet for one in held)
    assert all(one.applied and one.home == "new" for one in released)
    return quiet - began, ended - quiet


def _directory(by: str) -> Callable[[str], Figures]:
    """Flips in LDAP, from the flip to the arrival of the first message that took the new route."""

    def run(relay: str) -> Figures:
        names = [f"f{number}" for number in range(FLIPS)]
        with (
            Slapd([sun_domain("example.edu"), *map(sun_person, names)]) as server,
            stamping_store("old") as old,
            stamping_store("new") as new,
            running(relay, Plan({"old": old.port, "new": new.port}, ldap=server)) as made,
        ):
            assert isinstance(made, Sluice)
            flip = partial(_modify, server) if by == "ldapmodify" else partial(_release, made.site)
            first = [_first(made.site, name, flip, (old, new)) for name in names]
            made.settle(60)
        return {"first": ms(statistics.median(first)), "worst": ms(max(first))}

    return run


def _first(site: Site, name: str, flip: Callable[[str], float], stores: Sequence[StoreProcess]) -> float:
    address, (old, new) = f"{name}@example.edu", stores
    hand_in(site.port, f"{name}-before", address)  # it is remembered with its old home
    arrival(old, f"{name}-before")
    time.sleep(random.uniform(0, 2))  # one flip after the other would always come just after a poll
    began = flip(name)
    for number in range(10_000):
        hand_in(site.port, f"{name}-{number}", address)
        time.sleep(0.01)
        came = [one.at for one in new.arrivals() if one.tag.startswith(f"{name}-")]
        if came:
            return min(came) - began
    raise AssertionError(f"{name} was never flipped")


def _modify(server: Slapd, name: str) -> float:
    server.modify(replace(sun_dn(name), mailHost=NEW_HOST))
    return time.monotonic()


def _release(site: Site, name: str) -> float:
    office, keys = site.office, [f"{name}@example.edu"]
    assert office.operations.hold(keys, office.act("bench"))[0].quiet
    began = time.monotonic()
    assert office.operations.release(keys, office.act("bench"), "new")[0].home == "new"
    return began


ROW = Row(
    "flips",
    "Flips",
    f"{FLIPS} single flips, one after the other, and {BATCH:,} at once; two workers, no other load.",
    {
        "move": "move, call → return, median, ms",
        "first": "call → first message at the new store, median, ms",
        "worst": "the same, the longest, ms",
        "set": "user set --home, call → return, median, ms",
        "batch": "all at once, s",
        "batch_hold": "of it the hold, s",
        "batch_release": "of it the release, s",
        "import": "importing them, s",
    },
    [
        Case(f"one among {FEW:,} mailboxes", _among(FEW), OURS),
        Case(f"one among {PEOPLE:,} mailboxes", _among(PEOPLE), OURS, rounds=1),
        Case(f"{BATCH:,} at once", _batch, OURS),
        Case("in LDAP, by ldapmodify", _directory("ldapmodify"), OURS, rounds=1),
        Case("in LDAP, by release --to", _directory("release"), OURS, rounds=1),
    ],
)
