"""
The `Classifier` of the pipeline: rules and cache first, then all sources in one read, then a probe where asked for.

Guarantees:
- `known` answers synchronously and only with what no applied change has overtaken. After `classify` the caller asks
  `known` again in the step in which it acts: a change may have been applied before it was resumed.
- Unknown is said only when every source answered, and never in a domain in which no source knows anybody. A domain
  whose unknown addresses go to a store, lists and services need nobody in the directory. Where a probe denied the
  address, somebody must be known anywhere, so that an empty directory refuses nobody.
- Before anybody is called unknown, the directories themselves are asked (`beyond`); while one does not answer, nobody
  is. People, lists and services that are known here do not wait for that.
- postmaster of every domain of ours is always classified, also while the directory is down: then as a service without
  a store, which is accepted and waits.

On failure: `LookupFailed` (temporary) or `BadRouteData`, nothing else, within `deadline` seconds.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from router.classify.cache import DEFAULT_ENTRIES, DENIED_LIFETIME, Cache, Standing, Ticket
from router.classify.flight import GatheredFind, SingleFlight
from router.classify.matching import canonical_elsewhere, delivery, match, opening_steps, respell
from router.classify.merged import Merged
from router.classify.probe import UNVERIFIED, Prober
from router.classify.reading import Plan, is_postmaster, plan
from router.classify.rules import AddressRules
from router.classify.sources import Sources
from router.errors import BadRouteData, EmptyDomain, LookupFailed, SluiceError
from router.model.address import Address
from router.model.change import ChangeSet
from router.model.route import Classification, Kind
from router.ports import Beyond, Clock, MailboxSource

DEADLINE = 10.0
"""Seconds after which a session is told to come back."""
ROUNDS = 8
"""How often an answer may be overtaken by changes before the address counts as not answerable for now."""
POSTMASTER_LIFETIME = 5.0
PROBE = "probe"


@dataclass(frozen=True, slots=True)
class _Answer:
    found: Classification
    standing: Standing
    lifetime: float = DENIED_LIFETIME


class CachingClassifier:
    """Event-loop thread only. Close it when its loop ends."""

    def __init__(
        self,
        rules: AddressRules,
        sources: Sequence[MailboxSource],
        clock: Clock,
        prober: Prober | None = None,
        entries: int = DEFAULT_ENTRIES,
        deadline: float = DEADLINE,
        beyond: Beyond | None = None,
    ) -> None:
        self._rules = rules
        self._sources = Sources(sources, clock)
        self._clock = clock
        self._prober = prober
        self._beyond = beyond
        self._deadline = deadline
        self._cache = Cache(entries)
        self._flights: SingleFlight[Classification] = SingleFlight()
        self._counts: SingleFlight[str] = SingleFlight()
        self._reads = GatheredFind(self._sources.find)
        self._populated: set[str] = set()
        """Domains in which somebody is known; holds for the present `_state` only, as do the prober's answers."""
        self._state = 0

    # --- the port ---------------------------------------------------------------------------------------------

    def known(self, address: Address) -> Classification | None:
        """The cached, still valid answer for this spelling, or None: ask."""
        if address.domain not in self._rules.domains and address.domain:
            return self._foreign(address)
        found = self._cache.get(address.key, self._clock.monotonic())
        if found is None or found.address.wire == address.wire:
            return found
        # A store may take two spellings for two people: what it said of one is not known of the other.
        return None if found.source == PROBE else respell(found, address, self._rules)

    async def classify(self, address: Address) -> Classification:
        """Ask, unless it is known. Raises `LookupFailed`, `BadRouteData`."""
        found = self.known(address)
        if found is not None:
            return found
        return await self._flights.run(address.wire, lambda: self._in_time(address))

    # --- what the owner does ----------------------------------------------------------------------------------

    def apply(self, changes: ChangeSet) -> None:
        """Put changes of routing state into force. Synchronous: no answer from before is given after this."""
        self._cache.apply(changes)
        if changes.changes:
            self._forget_beside()

    def distrust(self) -> None:
        """A directory does not answer: whatever rests on what it did not know is asked for anew."""
        self._cache.forget_soft()

    def start_from(self, epoch: int) -> None:
        """A snapshot was read at `epoch`: nothing older is believed."""
        self._cache.forget_all(epoch)
        self._forget_beside()

    def use(self, rules: AddressRules) -> None:
        """Replace the rules (reload). Answers and questions by the old ones are dropped."""
        self._rules = rules
        self._cache.forget_all(-1)
        self._forget_beside()

    async def explain(self, address: Address, *, probe: bool = True) -> Classification:
        """
        As `classify`, but asked anew, remembered nowhere and with `steps` filled.

        With `probe=False` no store is asked; what only a store could tell raises `LookupFailed`. So does what cannot
        be resolved now, for a postmaster too.
        """
        if address.domain not in self._rules.domains and address.domain:
            steps = (f"given: {address.wire}", f"{address.domain} is not a domain of ours")
            return replace(self._foreign(address), steps=steps)
        return (await self._look_up(self._rules, address, probe=probe)).found

    async def close(self) -> None:
        """Cancel what is under way."""
        await self._flights.close()
        await self._counts.close()
        await self._reads.close()

    # --- asking -----------------------------------------------------------------------------------------------

    async def _in_time(self, address: Address) -> Classification:
        try:
            async with asyncio.timeout(self._deadline):
                return await self._resolve(address)
        except (LookupFailed, BadRouteData) as error:
            return self._postmaster_or_raise(address, error)
        except TimeoutError as error:
            return self._postmaster_or_raise(address, LookupFailed("the lookup took too long"), error)
        except Exception as error:  # noqa: BLE001 - an unknown error is a temporary one
            return self._postmaster_or_raise(address, LookupFailed(f"the lookup failed: {error!r}"), error)

    async def _resolve(self, address: Address) -> Classification:
        """Ask until no change has overtaken the answer; then it is in the cache."""
        for _ in range(ROUNDS):
            ticket = self._cache.ticket()
            answer = await self._look_up(self._rules, address, probe=True)
            found = replace(answer.found, steps=())
            if self._admit(found, answer, ticket):
                return found
        raise LookupFailed("the answer was overtaken by changes again and again")

    async def _look_up(self, rules: AddressRules, address: Address, *, probe: bool) -> _Answer:
        todo = plan(rules, address)
        if todo is None:
            return _Answer(self._forwarded(rules, address), Standing.DERIVED)
        try:
            known = await self._reads.find(todo.keys)
        except LookupFailed:
            self._cache.forget_denied()
            raise
        matched = match(todo, known)
        if (matched is None or matched.catch_all) and self._beyond is not None:
            known = await self._ask_beyond(self._beyond, todo.keys, known)
            matched = match(todo, known)
        if matched is not None and not matched.catch_all:
            return _Answer(matched.found, Standing.FIRM if matched.firm else Standing.DERIVED)
        for key in todo.keys:
            if key in known.doubtful:
                raise LookupFailed(known.doubtful[key])
        if matched is not None:
            return _Answer(matched.found, Standing.DERIVED)
        match todo.policy.unknown:
            case "store":
                found = self._unknown(todo, known, "by the domain's policy", store=todo.policy.store)
                return _Answer(found, Standing.DERIVED)
            case "probe":
                return await self._probe(rules, todo, known, probe=probe)
            case _:
                await self._require_people(todo.policy.names)
                return _Answer(self._unknown(todo, known, "no source knows it"), Standing.DENIED)

    async def _ask_beyond(self, beyond: Beyond, keys: Sequence[str], known: Merged) -> Merged:
        """What is known once the directories themselves were asked. Raises `LookupFailed`, `BadRouteData`."""
        fetched = await beyond.fetch([key for key in keys if key not in known.people])
        if fetched.news:
            known = await self._reads.find(keys)
        doubtful = {**known.doubtful, **fetched.doubtful}
        for key in fetched.news.difference(known.people):
            doubtful[key] = f"{key} is in a directory and not in the mirror of it"
        return replace(known, doubtful=doubtful)

    async def _probe(self, rules: AddressRules, todo: Plan, known: Merged, *, probe: bool) -> _Answer:
        stores = todo.policy.probe
        if self._prober is None or not probe:
            raise LookupFailed(f"only {', '.join(stores)} could tell, and nobody is asked", reply=UNVERIFIED)
        probed = await self._prober.probe(todo.target, stores)
        if not probed.store:
            await self._require_people(rules.domains.real())
        found = self._unknown(todo, known, probed.detail, store=probed.store, source=PROBE)
        return _Answer(found, Standing.DERIVED if probed.store else Standing.DENIED)

    async def _require_people(self, domains: Sequence[str]) -> None:
        """Promise 5: a directory that knows nobody is empty, half-written or restored, not an authority."""
        if not self._populated.isdisjoint(domains):
            return
        state = self._state
        count = self._counts.run(f"{state} {' '.join(domains)}", lambda: self._sources.populated(domains))
        domain = await count
        if not domain:
            raise EmptyDomain(f"nobody is known in {', '.join(domains)}")
        if state == self._state:
            self._populated.add(domain)

    # --- answers ----------------------------------------------------------------------------------------------

    def _admit(self, found: Classification, answer: _Answer, ticket: Ticket) -> bool:
        return self._cache.admit(found, answer.standing, ticket, self._clock.monotonic() + answer.lifetime)

    def _postmaster_or_raise(
        self, address: Address, error: SluiceError, cause: Exception | None = None
    ) -> Classification:
        if not is_postmaster(self._rules, address):
            raise error from cause
        found = Classification(
            address=address,
            kind=Kind.SERVICE,
            epoch=self._cache.applied,
            source="configuration",
            detail=f"postmaster cannot be resolved now: {error.private}",
        )
        self._admit(found, _Answer(found, Standing.DENIED, POSTMASTER_LIFETIME), self._cache.ticket())
        return found

    def _foreign(self, address: Address) -> Classification:
        return Classification(address, Kind.FOREIGN, self._cache.applied, source="configuration")

    def _forwarded(self, rules: AddressRules, address: Address) -> Classification:
        """A postmaster outside our domains."""
        return Classification(
            address=address,
            kind=Kind.FORWARD,
            epoch=self._cache.applied,
            delivery=rules.postmaster.wire,
            steps=(f"given: {address.wire}", f"postmaster of every domain: {rules.postmaster.wire}"),
            source="configuration",
        )

    def _unknown(
        self, todo: Plan, known: Merged, detail: str, *, store: str = "", source: str = "directory"
    ) -> Classification:
        decision = f"class: unknown, goes to {store}" if store else "class: unknown"
        return Classification(
            address=todo.address,
            kind=Kind.UNKNOWN,
            epoch=known.epoch,
            store=store,
            delivery=delivery(todo),
            canonical=canonical_elsewhere(todo, todo.policy.real) if store else "",
            steps=(*opening_steps(todo), f"{decision} ({detail})", f"source: {source}, epoch {known.epoch}"),
            source=source,
            detail=detail,
        )

    def _forget_beside(self) -> None:
        self._state += 1
        self._populated.clear()
        if self._prober is not None:
            self._prober.forget()
