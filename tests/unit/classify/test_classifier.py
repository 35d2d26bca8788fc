"""The classifier in front of a directory that is right, wrong, slow, empty or down."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from router.classify.classifier import CachingClassifier
from router.classify.domains import DomainTable
from router.classify.lists import ListTable, MailingList
from router.classify.probe import Prober
from router.classify.rules import AddressRules, load_rules
from router.classify.services import ServiceTable
from router.errors import BadRouteData, ControlUnavailable, LookupFailed, SluiceError
from router.model.address import Address, parse_address
from router.model.change import Change, ChangeKind, ChangeSet
from router.model.mailbox import Found, Hold, Mailbox, Status
from router.model.reply import HopReply
from router.model.route import Classification, Kind
from router.settings.schema import Domain, Settings

DOMAINS = DomainTable(
    {
        "example.edu": Domain(),
        "msd.example.edu": Domain(alias_of="example.edu"),
        "mcs.example.edu": Domain(unknown="probe", probe=("old", "new")),
        "store.example.edu": Domain(unknown="store", store="cliff"),
        "empty.example.edu": Domain(),
    }
)
LISTS = ListTable(
    [
        MailingList("news@example.edu", "lists", "majordomo"),
        MailingList("talk@example.edu", "lists", "mailman2"),
        MailingList("both@example.edu", "lists", "mailman2"),
        MailingList("news-x@example.edu", "lists", "mailman2"),
        MailingList("foo-request@example.edu", "lists", "mailman2"),
        MailingList("rfc@empty.example.edu", "lists", "mailman3"),
    ]
)
SERVICES = ServiceTable({"tickets@example.edu": "rt", "clash@example.edu": "rt"})
JOE = Mailbox("joe.user@example.edu", "cliff")
ANN = Mailbox("ann@example.edu", "zimbra")
ROOT = Mailbox("root@example.edu", "cliff")
PEOPLE = {
    "joe.user@example.edu": JOE,
    "joe@example.edu": JOE,
    "ann@example.edu": ANN,
    "ann+private@example.edu": JOE,
    "ann@msd.example.edu": JOE,
    "talk-owner@example.edu": ANN,
    "both@example.edu": ANN,
    "clash@example.edu": ANN,
    "root@example.edu": ROOT,
    "hal@mcs.example.edu": ANN,
    "postmaster@example.edu": ANN,
}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class Directory:
    """A source with a switch for everything that can go wrong."""

    def __init__(self, people: dict[str, Mailbox] | None = None) -> None:
        self.people = dict(PEOPLE if people is None else people)
        self.epoch = 1
        self.asked: list[tuple[str, ...]] = []
        self.error: Exception | None = None
        self.disputed: dict[str, str] = {}
        self.doubtful: dict[str, str] = {}
        """By domain."""
        self.gate = asyncio.Event()
        self.gate.set()
        self.reached = asyncio.Event()

    async def find(self, keys: Sequence[str]) -> Found:
        self.asked.append(tuple(keys))
        self.reached.set()
        people = {key: self.people[key] for key in keys if key in self.people}
        disputed = {key: why for key, why in self.disputed.items() if key in people}
        doubtful = {key: why for key in keys if (why := self.doubtful.get(key.partition("@")[2])) and key not in people}
        found = Found(self.epoch, people, disputed, doubtful)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return found

    async def populated(self, domain: str) -> bool:
        if self.error is not None:
            raise self.error
        return any(key.endswith(f"@{domain}") for key in self.people)


class Stores:
    def __init__(self) -> None:
        self.replies = {"old": HopReply(550, "5.1.1", "no"), "new": HopReply(550, "5.1.1", "no")}
        self.asked = 0

    async def __call__(self, store: str, address: Address) -> HopReply:
        self.asked += 1
        return self.replies[store]


class Site:
    """A classifier with everything around it."""

    def __init__(self, *more: Directory, delimiters: str = "+", postmaster: str = "Root@example.edu") -> None:
        self.rules = AddressRules(DOMAINS, LISTS, SERVICES, parse_address(postmaster), delimiters)
        self.directory = Directory()
        self.clock = Clock()
        self.stores = Stores()
        prober = Prober(self.stores, self.clock)
        self.classifier = CachingClassifier(self.rules, (self.directory, *more), self.clock, prober, deadline=60.0)

    async def classify(self, text: str) -> Classification:
        return await self.classifier.classify(parse_address(text))

    def known(self, text: str) -> Classification | None:
        return self.classifier.known(parse_address(text))

    def change(self, kind: ChangeKind, key: str) -> None:
        self.directory.epoch += 1
        epoch = self.directory.epoch
        self.classifier.apply(ChangeSet(epoch, (Change(epoch, kind, key),), {}))

    async def asking(self, text: str) -> "asyncio.Task[Classification]":
        """A question that has reached the directory, which keeps its answer back."""
        self.directory.gate.clear()
        self.directory.reached.clear()
        task = asyncio.create_task(self.classify(text))
        await self.directory.reached.wait()
        return task


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    yield made
    await made.classifier.close()


# --- what an address is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "target", "canonical"),
    [
        ("joe@example.edu", Kind.MAILBOX, "joe.user@example.edu", "joe.user@example.edu"),
        ("JOE@Example.EDU", Kind.MAILBOX, "joe.user@example.edu", "joe.user@example.edu"),
        ('"joe"@example.edu', Kind.MAILBOX, "joe.user@example.edu", "joe.user@example.edu"),
        ("Joe+Foo@example.edu", Kind.MAILBOX, "joe.user@example.edu", "joe.user+Foo@example.edu"),
        ("joe+@example.edu", Kind.MAILBOX, "joe.user@example.edu", "joe.user+@example.edu"),
        ("joe@msd.example.edu", Kind.MAILBOX, "joe.user@example.edu", "joe.user@example.edu"),
        ("joe+x@msd.example.edu", Kind.MAILBOX, "joe.user@example.edu", "joe.user+x@example.edu"),
        # exact entries come first
        ("ann+private@example.edu", Kind.MAILBOX, "joe.user@example.edu", "joe.user@example.edu"),
        ("ann+other@example.edu", Kind.MAILBOX, "ann@example.edu", "ann+other@example.edu"),
        ("ann@msd.example.edu", Kind.MAILBOX, "joe.user@example.edu", "joe.user@example.edu"),
        # lists
        ("news@example.edu", Kind.LIST, "lists", ""),
        ("Owner-News@example.edu", Kind.LIST, "lists", ""),
        ("news-approval@example.edu", Kind.LIST, "lists", ""),
        ("talk-bounces+joe=example.org@example.edu", Kind.LIST, "lists", ""),
        ("talk+token@example.edu", Kind.LIST, "lists", ""),
        ("talk-request@msd.example.edu", Kind.LIST, "lists", "talk-request@example.edu"),
        ("majordomo@example.edu", Kind.LIST, "lists", ""),
        ("mailman-loop@example.edu", Kind.LIST, "lists", ""),
        ("foo-request@example.edu", Kind.LIST, "lists", ""),
        ("foo-request-owner@example.edu", Kind.LIST, "lists", ""),
        ("talk-owner@example.edu", Kind.MAILBOX, "ann@example.edu", "ann@example.edu"),
        ("talk-owner+x@example.edu", Kind.MAILBOX, "ann@example.edu", "ann+x@example.edu"),
        ("rfc-owner@empty.example.edu", Kind.LIST, "lists", ""),
        # services
        ("Tickets@example.edu", Kind.SERVICE, "rt", ""),
        ("tickets+17@example.edu", Kind.SERVICE, "rt", ""),
        ("Tickets@msd.example.edu", Kind.SERVICE, "rt", "Tickets@example.edu"),
        # unknown
        ("talk-approval@example.edu", Kind.UNKNOWN, "", ""),
        ("nobody@example.edu", Kind.UNKNOWN, "", ""),
        ("+joe@example.edu", Kind.UNKNOWN, "", ""),
        ("joe%elsewhere.example@example.edu", Kind.UNKNOWN, "", ""),
        ('"joe@elsewhere.example"@example.edu', Kind.UNKNOWN, "", ""),
        ("anybody@store.example.edu", Kind.UNKNOWN, "cliff", ""),
        # not ours
        ("joe@sub.example.edu", Kind.FOREIGN, "", ""),
        ("joe@elsewhere.example", Kind.FOREIGN, "", ""),
        ("postmaster@elsewhere.example", Kind.FOREIGN, "", ""),
        ("joe@[192.0.2.1]", Kind.FOREIGN, "", ""),
    ],
)
async def test_what_an_address_is(site: Site, text: str, kind: Kind, target: str, canonical: str) -> None:
    found = await site.classify(text)

    assert found.kind is kind
    assert (found.mailbox.key if found.mailbox else found.store) == target
    assert found.canonical == canonical
    assert found.address.wire == text
    assert found.steps == ()
    assert found.chain == ((target,) if kind is Kind.MAILBOX else ())
    assert site.known(text) == found


async def test_a_cached_answer_is_given_in_the_spelling_of_each_client(site: Site) -> None:
    await site.classify("joe+foo@example.edu")
    await site.classify("tickets@msd.example.edu")

    joe, tickets = site.known('"Joe+Foo"@Example.edu'), site.known("TICKETS@msd.example.edu")

    assert joe is not None
    assert tickets is not None
    assert (joe.address.wire, joe.extension, joe.canonical) == (
        '"Joe+Foo"@Example.edu',
        "Foo",
        "joe.user+Foo@example.edu",
    )
    assert (tickets.address.wire, tickets.canonical) == ("TICKETS@msd.example.edu", "TICKETS@example.edu")
    assert len(site.directory.asked) == 2


@pytest.mark.parametrize(
    "text", ["both@example.edu", "both-request@example.edu", "both+x@example.edu", "clash@example.edu"]
)
async def test_f4_a_name_that_is_two_things_is_temporary(site: Site, text: str) -> None:
    with pytest.raises(BadRouteData) as caught:
        await site.classify(text)

    assert caught.value.reply.code == 451
    assert site.known(text) is None


async def test_s2_with_a_hyphen_as_delimiter_lists_stay_whole() -> None:
    site = Site(delimiters="-")
    site.directory.people["news@msd.example.edu"] = ANN

    assert (await site.classify("owner-news@example.edu")).kind is Kind.LIST
    assert (await site.classify("joe-x@example.edu")).extension == "x"
    assert (await site.classify("news-x-request@example.edu")).kind is Kind.LIST
    assert (await site.classify("talk+token@example.edu")).kind is Kind.LIST
    assert (await site.classify("joe+x@example.edu")).kind is Kind.UNKNOWN


async def test_all_readings_are_asked_for_in_one_read(site: Site) -> None:
    await site.classify("joe+x@msd.example.edu")

    assert site.directory.asked == [
        ("joe+x@msd.example.edu", "joe+x@example.edu", "joe@msd.example.edu", "joe@example.edu")
    ]


async def test_two_sources() -> None:
    drifted = Mailbox("ann@example.edu", "cliff", Status.DISABLED, source="file")
    other = Directory(
        {"ann@example.edu": drifted, "joe@example.edu": ANN, "new@example.edu": ANN, "j@mcs.example.edu": ANN}
    )
    other.epoch = 0
    site = Site(other)

    assert (await site.classify("ann@example.edu")).mailbox == ANN
    assert (await site.classify("ann@example.edu")).epoch == 0
    assert (await site.classify("new@example.edu")).mailbox == ANN
    with pytest.raises(BadRouteData, match="belongs to joe"):
        await site.classify("joe@example.edu")
    other.error = LookupFailed("down")
    with pytest.raises(LookupFailed):
        await site.classify("nobody@example.edu")


# --- postmaster ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["postmaster", "POSTMASTER", "PostMaster@example.edu", "postmaster@empty.example.edu"])
async def test_s9_postmaster_of_every_domain(site: Site, text: str) -> None:
    found = await site.classify(text)

    assert (found.kind, found.mailbox, found.delivery) == (Kind.MAILBOX, ROOT, "Root@example.edu")
    assert found.chain == ("root@example.edu",)


async def test_postmaster_follows_changes_of_its_mailbox(site: Site) -> None:
    await site.classify("postmaster@msd.example.edu")
    site.change(ChangeKind.MAILBOX, "root@example.edu")

    assert site.known("postmaster@msd.example.edu") is None


@pytest.mark.parametrize("error", [LookupFailed("down"), ControlUnavailable("down"), OSError("down"), None])
async def test_postmaster_is_accepted_while_the_directory_is_down(site: Site, error: Exception | None) -> None:
    site.directory.error = error
    if error is None:  # it answers, but is empty
        site.directory.people.clear()
    site.classifier.start_from(5)
    site.directory.epoch = 5

    found = await site.classify("postmaster@example.edu")

    assert (found.kind, found.store) == (Kind.SERVICE, "")
    assert site.known("postmaster@example.edu") == found
    site.clock.now += 5.0
    assert site.known("postmaster@example.edu") is None


async def test_a_postmaster_outside_of_our_domains() -> None:
    site = Site(postmaster="noc@elsewhere.example")
    site.classifier.start_from(7)

    found = await site.classify("postmaster@example.edu")

    assert (found.kind, found.delivery) == (Kind.FORWARD, "noc@elsewhere.example")
    assert site.known("postmaster@example.edu") is not None


async def test_postmaster_can_be_its_own_mailbox() -> None:
    site = Site(postmaster="postmaster@example.edu")

    assert (await site.classify("postmaster@msd.example.edu")).mailbox == ANN


# --- doubt --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [LookupFailed("down"), ControlUnavailable("down"), OSError("down"), KeyError("bug")])
async def test_inv_35_a_source_that_fails_is_temporary(site: Site, error: Exception) -> None:
    site.directory.error = error

    for text in ("joe@example.edu", "nobody@example.edu", "news@example.edu", "x@store.example.edu"):
        with pytest.raises(LookupFailed) as caught:
            await site.classify(text)
        assert caught.value.reply.code == 451


async def test_inv_35_a_source_that_hangs_is_temporary_in_time() -> None:
    site = Site()
    site.classifier._deadline = 0.05
    site.directory.gate.clear()

    with pytest.raises(LookupFailed, match="too long"):
        await site.classify("joe@example.edu")
    await site.classifier.close()


async def test_inv_36_a_denial_is_not_served_once_the_source_is_down(site: Site) -> None:
    await site.classify("nobody@example.edu")
    await site.classify("joe@example.edu")
    assert site.known("nobody@example.edu") is not None

    site.directory.error = LookupFailed("down")
    with pytest.raises(LookupFailed):
        await site.classify("ann@example.edu")

    assert site.known("nobody@example.edu") is None
    assert site.known("joe@example.edu") is not None


async def test_a_denial_is_short_lived(site: Site) -> None:
    await site.classify("nobody@example.edu")
    site.clock.now += 15.0

    assert site.known("nobody@example.edu") is None


async def test_inv_39_a_source_that_is_down_is_not_asked_for_every_recipient(site: Site) -> None:
    site.directory.error = LookupFailed("down")
    for number in range(10):
        with pytest.raises(LookupFailed):
            await site.classify(f"u{number}@example.edu")
    assert len(site.directory.asked) == 3

    site.directory.error = None
    site.clock.now += 1.0
    assert (await site.classify("joe@example.edu")).mailbox == JOE
    assert (await site.classify("ann@example.edu")).mailbox == ANN


async def test_promise_5_a_domain_without_anybody_denies_nobody(site: Site) -> None:
    with pytest.raises(LookupFailed, match=r"nobody is known in empty\.example\.edu"):
        await site.classify("joe@empty.example.edu")

    site.directory.people["ann@empty.example.edu"] = ANN
    assert (await site.classify("joe@empty.example.edu")).kind is Kind.UNKNOWN


async def test_promise_5_a_domain_that_loses_everybody(site: Site) -> None:
    await site.classify("nobody@example.edu")
    site.directory.people.clear()
    site.change(ChangeKind.RESYNC, "")

    with pytest.raises(LookupFailed, match="nobody is known"):
        await site.classify("nobody@example.edu")
    with pytest.raises(LookupFailed, match="nobody is known"):
        await site.classify("joe@example.edu")


async def test_no_source_at_all_is_temporary() -> None:
    rules = AddressRules(DOMAINS, LISTS, SERVICES, parse_address("root@example.edu"))
    classifier = CachingClassifier(rules, (), Clock())

    with pytest.raises(LookupFailed):
        await classifier.classify(parse_address("joe@example.edu"))


# --- probe --------------------------------------------------------------------------------------------------------


async def test_probed_domains(site: Site) -> None:
    assert (await site.classify("hal@mcs.example.edu")).mailbox == ANN
    assert site.stores.asked == 0
    denied = await site.classify("Eve@mcs.example.edu")
    assert (denied.kind, denied.store) == (Kind.UNKNOWN, "")
    assert "old: 550" in denied.detail

    # What a store said of one spelling says nothing about another.
    assert site.known("Eve@mcs.example.edu") == denied
    assert site.known("eve@mcs.example.edu") is None

    site.stores.replies["new"] = HopReply(250, "2.1.5", "Ok")
    site.change(ChangeKind.MAILBOX, "hal@mcs.example.edu")
    accepted = await site.classify("Eve@mcs.example.edu")
    assert (accepted.kind, accepted.store) == (Kind.UNKNOWN, "new")

    site.stores.replies["new"] = HopReply(451, "4.0.0", "later")
    site.change(ChangeKind.MAILBOX, "hal@mcs.example.edu")
    with pytest.raises(LookupFailed) as caught:
        await site.classify("Eve@mcs.example.edu")
    assert str(caught.value.reply).startswith("450 4.1.1 ")


async def test_promise_5_stores_deny_nobody_while_the_directory_is_empty(site: Site) -> None:
    site.directory.people.clear()

    with pytest.raises(LookupFailed, match="nobody is known"):
        await site.classify("eve@mcs.example.edu")


# --- changes ------------------------------------------------------------------------------------------------------


async def test_barrier_rule_4_a_slow_read_overtaken_by_a_change_is_asked_again(site: Site) -> None:
    task = await site.asking("joe@example.edu")
    moved = Mailbox(JOE.key, "zimbra")
    site.directory.people["joe@example.edu"] = moved
    site.change(ChangeKind.MAILBOX, JOE.key)
    site.directory.gate.set()

    assert (await task).mailbox == moved
    assert (await task).epoch == 2
    assert len(site.directory.asked) == 2


async def test_a_change_of_somebody_else_does_not_disturb(site: Site) -> None:
    task = await site.asking("joe@example.edu")
    site.change(ChangeKind.MAILBOX, ANN.key)
    site.directory.gate.set()

    assert (await task).epoch == 1
    assert len(site.directory.asked) == 1


async def test_who_asks_after_a_change_never_gets_the_answer_from_before(site: Site) -> None:
    first = await site.asking("joe@example.edu")
    held = Mailbox(JOE.key, "cliff", hold=Hold(1, 0.0, 2))
    site.directory.people["joe@example.edu"] = held
    site.change(ChangeKind.MAILBOX, JOE.key)
    second = asyncio.create_task(site.classify("joe@example.edu"))
    await asyncio.sleep(0)
    site.directory.gate.set()

    assert (await first).mailbox == (await second).mailbox == held


async def test_an_answer_overtaken_for_ever_is_temporary(site: Site) -> None:
    class Restless(Directory):
        async def find(self, keys: Sequence[str]) -> Found:
            found = await super().find(keys)
            site.change(ChangeKind.ADDRESS, "joe@example.edu")
            return Found(0, found.mailboxes)

    site.classifier._sources._sources = (Restless(),)

    with pytest.raises(LookupFailed, match="overtaken"):
        await site.classify("joe@example.edu")


async def test_a_new_address_ends_denials_and_what_rests_on_absence(site: Site) -> None:
    for text in ("new@example.edu", "joe+x@example.edu", "news@example.edu", "joe@msd.example.edu"):
        await site.classify(text)
    site.directory.people["new@example.edu"] = ANN
    site.directory.people["joe+x@example.edu"] = ANN
    site.change(ChangeKind.MAILBOX, ANN.key)

    assert site.known("new@example.edu") is None
    assert (await site.classify("new@example.edu")).mailbox == ANN
    assert (await site.classify("joe+x@example.edu")).mailbox == ANN


async def test_reload_replaces_the_rules_also_for_questions_under_way(site: Site) -> None:
    task = await site.asking("tickets@example.edu")
    await asyncio.sleep(0)
    site.classifier.use(
        AddressRules(DOMAINS, LISTS, ServiceTable({"tickets@example.edu": "other"}), site.rules.postmaster)
    )
    site.directory.gate.set()

    assert (await task).store == "other"


async def test_concurrent_questions_share_reads(site: Site) -> None:
    texts = [f"u{n}@example.edu" for n in range(50)] + ["joe@example.edu"] * 50
    site.directory.people |= {f"u{n}@example.edu": ANN for n in range(50)}

    await asyncio.gather(*(site.classify(text) for text in texts))

    assert len(site.directory.asked) == 1
    assert len(site.directory.asked[0]) == 51


async def test_what_a_source_says_to_be_in_dispute_is_not_routed(site: Site) -> None:
    site.directory.disputed["joe@example.edu"] = "two entries have it"
    with pytest.raises(BadRouteData, match="two entries"):
        await site.classify("joe@example.edu")
    assert (await site.classify("joe.user@example.edu")).mailbox == JOE


@pytest.mark.parametrize("address", ["nobody@example.edu", "nobody@mcs.example.edu", "nobody@msd.example.edu"])
async def test_nobody_is_unknown_in_a_domain_that_a_directory_has_lost(site: Site, address: str) -> None:
    """Whatever the policy for unknown addresses is: neither refused, nor sent to a store, nor probed."""
    site.directory.doubtful = dict.fromkeys(("example.edu", "mcs.example.edu", "msd.example.edu"), "half are gone")
    with pytest.raises(LookupFailed, match="half are gone"):
        await site.classify(address)
    assert site.stores.asked == 0
    assert (await site.classify("joe@example.edu")).mailbox == JOE


async def test_a_conflict_in_a_shared_read_spoils_nobody_elses_answer(site: Site) -> None:
    answers = await asyncio.gather(
        *(site.classify(text) for text in ("joe@example.edu", "both@example.edu", "ann@example.edu")),
        return_exceptions=True,
    )

    assert [isinstance(answer, SluiceError) for answer in answers] == [False, True, False]


# --- explain ------------------------------------------------------------------------------------------------------


async def test_explain_tells_the_story(site: Site) -> None:
    site.directory.people["joe@example.edu"] = Mailbox(JOE.key, "cliff", hold=Hold(4, 0.0, 1, "move"))

    found = await site.classifier.explain(parse_address("Joe+Foo@MSD.example.edu"))

    assert found.steps == (
        "given: Joe+Foo@MSD.example.edu",
        "normalised: joe+foo@msd.example.edu",
        "msd.example.edu is an alias of example.edu",
        "extension 'foo' cut from joe",
        "match: joe@example.edu",
        "class: mailbox joe.user@example.edu, home cliff, status active, on hold 4 (move)",
        "source: database, epoch 1",
    )
    assert site.known("joe+foo@msd.example.edu") is None


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("news-approval@example.edu", "class: list news@example.edu on lists"),
        ("majordomo@example.edu", "class: list a list manager's own address on lists"),
        ("tickets@example.edu", "class: service on rt"),
        ("nobody@example.edu", "class: unknown (no source knows it)"),
        ("x@store.example.edu", "class: unknown, goes to cliff (by the domain's policy)"),
        ("x@elsewhere.example", "elsewhere.example is not a domain of ours"),
        ("postmaster", "postmaster of every domain: Root@example.edu"),
    ],
)
async def test_explain_names_the_class(site: Site, text: str, step: str) -> None:
    assert step in (await site.classifier.explain(parse_address(text))).steps


async def test_f7_explain_says_which_form_is_legacy(site: Site) -> None:
    lists = ListTable(MailingList("l@example.edu", "lists", manager) for manager in ("majordomo", "mailman2"))
    site.classifier.use(AddressRules(DOMAINS, lists, SERVICES, site.rules.postmaster))

    found = await site.classifier.explain(parse_address("owner-l@example.edu"))

    assert "class: list l@example.edu on lists; legacy form, only majordomo knows it" in found.steps


async def test_explain_asks_no_store_unless_told(site: Site) -> None:
    with pytest.raises(LookupFailed, match="old, new"):
        await site.classifier.explain(parse_address("eve@mcs.example.edu"), probe=False)
    assert site.stores.asked == 0
    assert (await site.classifier.explain(parse_address("eve@mcs.example.edu"))).kind is Kind.UNKNOWN


def test_rules_from_settings() -> None:
    settings = Settings.model_validate(
        {
            "hostname": "mx.example.edu",
            "state_dir": "/tmp/x",
            "listen": (),
            "postmaster": "root@example.edu",
            "recipient_delimiter": "+-",
            "stores": {"cliff": {"role": "old", "hosts": ()}},
            "domains": {"example.edu": {}},
            "lists": ({"store": "cliff", "manager": "majordomo", "addresses": ("news@example.edu",)},),
            "services": {"tickets@example.edu": "cliff"},
        }
    )

    rules = load_rules(settings)

    assert (rules.delimiters, rules.postmaster.key) == ("+-", "root@example.edu")
    assert (list(rules.lists), rules.services.store("tickets@example.edu")) == (["news@example.edu"], "cliff")
