"""Callouts: who denies, who is unsure, and the limits."""

import asyncio
from collections.abc import Callable

import pytest

from router.classify.probe import UNVERIFIED, ProbeLimits, Prober, denies
from router.errors import LookupFailed
from router.model.address import Address, parse_address
from router.model.reply import HopReply

OK = HopReply(250, "2.1.5", "Ok")
NO = HopReply(550, "5.1.1", "No such user")
BUSY = HopReply(451, "4.3.0", "Later")
JOE = parse_address("Joe@example.edu")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class Stores:
    """Answers callouts from a table; an exception in it is raised, None never answers."""

    def __init__(self, **replies: HopReply | Exception | None) -> None:
        self.replies = replies
        self.asked: list[tuple[str, str]] = []
        self.reached = asyncio.Event()
        self.at_once = 0
        self.most = 0

    async def __call__(self, store: str, address: Address) -> HopReply:
        self.asked.append((store, address.wire))
        self.reached.set()
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            reply = self.replies[store]
            if reply is None:
                await asyncio.Event().wait()
            if isinstance(reply, Exception):
                raise reply
            await asyncio.sleep(0)
            assert reply is not None
            return reply
        finally:
            self.at_once -= 1


@pytest.mark.parametrize(
    ("old", "new", "store"),
    [(OK, NO, "old"), (NO, OK, "new"), (OK, OK, "old"), (BUSY, OK, "new"), (None, OK, "new"), (NO, NO, "")],
)
async def test_both_sides_rule(old: HopReply | None, new: HopReply | None, store: str) -> None:
    prober = Prober(Stores(old=old, new=new), Clock(), ProbeLimits(deadline=0.25 if old is None else 60.0))

    probed = await prober.probe(JOE, ("old", "new"))

    assert probed.store == store
    assert all(name in probed.detail for name in ([store] if store else ["old: 550", "new: 550"]))


@pytest.mark.parametrize(
    "unsure",
    [
        None,
        BUSY,
        OSError("refused"),
        HopReply(550, "5.1.1", "made up here", said_by_hop=False),
        HopReply(554, "5.7.1", "you are on a block list"),
        HopReply(552, "5.2.2", "mailbox full"),
        HopReply(530, "5.7.0", "authenticate first"),
        HopReply(500, "5.5.2", "what?"),
    ],
    ids=str,
)
async def test_one_unsure_store_makes_it_temporary(unsure: HopReply | Exception | None) -> None:
    prober = Prober(Stores(old=NO, new=unsure), Clock(), ProbeLimits(deadline=0.05 if unsure is None else 60.0))

    with pytest.raises(LookupFailed) as caught:
        await prober.probe(JOE, ("old", "new"))

    assert caught.value.reply == UNVERIFIED
    assert "new" in caught.value.private


@pytest.mark.parametrize("code", [550, 551, 553, 554])
@pytest.mark.parametrize("enhanced", ["", "5.1.1", "5.1.10", "5.4.1", "5.0.0"])
def test_denials(code: int, enhanced: str) -> None:
    assert denies(HopReply(code, enhanced, "no"))


async def test_no_store_to_ask_is_temporary() -> None:
    with pytest.raises(LookupFailed):
        await Prober(Stores(), Clock()).probe(JOE, ())


async def test_answers_are_remembered_for_a_time_and_for_one_spelling() -> None:
    clock, stores = Clock(), Stores(old=NO)
    prober = Prober(stores, clock)

    async def asked(text: str) -> int:
        await prober.probe(parse_address(text), ("old",))
        return len(stores.asked)

    assert await asked("Joe@example.edu") == 1
    assert await asked("Joe@EXAMPLE.edu") == 1
    assert await asked("joe@example.edu") == 2
    clock.now += 300.0
    assert await asked("Joe@example.edu") == 3
    stores.replies["old"] = OK
    clock.now += 300.0
    assert await asked("Joe@example.edu") == 4
    clock.now += 3599.0
    assert await asked("Joe@example.edu") == 4
    prober.forget()
    assert await asked("Joe@example.edu") == 5


async def test_an_answer_overtaken_by_a_change_is_not_remembered() -> None:
    stores = Stores(old=NO)
    prober = Prober(stores, Clock())
    first = asyncio.create_task(prober.probe(JOE, ("old",)))
    await stores.reached.wait()

    prober.forget()
    await first
    await prober.probe(JOE, ("old",))

    assert len(stores.asked) == 2


async def test_memory_and_concurrency_are_bounded() -> None:
    stores = Stores(old=NO, new=NO)
    prober = Prober(stores, Clock(), ProbeLimits(rate=1e6, burst=10_000, concurrency=3, entries=5))

    addresses = [parse_address(f"u{n}@example.edu") for n in range(20)]
    await asyncio.gather(*(prober.probe(one, ("old", "new")) for one in addresses))

    assert stores.most == 3
    assert len(prober._answers) == 5


async def test_the_rate_is_kept_and_what_would_wait_too_long_is_not_asked() -> None:
    clock, stores = Clock(), Stores(old=NO)
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    prober = Prober(stores, clock, ProbeLimits(rate=10.0, burst=2, deadline=0.25), sleep)
    addresses: Callable[[], Address] = iter(parse_address(f"u{n}@example.edu") for n in range(99)).__next__

    for _ in range(4):
        await prober.probe(addresses(), ("old",))
    with pytest.raises(LookupFailed):
        await prober.probe(addresses(), ("old",))

    assert waits == pytest.approx([0.1, 0.2])
    assert len(stores.asked) == 4
    clock.now += 1.0
    await prober.probe(addresses(), ("old",))
    assert len(waits) == 2


async def test_callouts_that_begin_together_share_the_rate() -> None:
    """Each takes a turn of its own: a store that is asked about a list of names is not asked all at once."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    prober = Prober(Stores(old=NO, new=NO), Clock(), ProbeLimits(rate=1.0, burst=1, deadline=10.0), sleep)
    await prober.probe(JOE, ["old", "new"])
    assert waited == [1.0]
