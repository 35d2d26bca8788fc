"""
Asks for many addresses at a time, a bounded number at once, with what the relay itself would use.

Guarantees: only `probe` opens connections to stores, with the relay's own limits on them. On failure: `CommandFailed`,
`ControlUnavailable`; what goes wrong with one address is in its explanation.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from router.admin.cli.context import Context
from router.admin.cli.route_answer import Explained, Question
from router.admin.cli.route_explain import Explainer, Live
from router.admin.cli.route_live import LiveSource
from router.admin.cli.route_origin import Origins
from router.admin.cli.user_selection import rules_of
from router.classify.classifier import CachingClassifier
from router.classify.probe import Prober
from router.classify.reading import plan
from router.classify.rules import AddressRules
from router.control import members, stores
from router.control.lookups import DatabaseLookups
from router.control.mirrors import never_held, source_names
from router.daemon.clock import SystemClock
from router.deliver.site import Senders
from router.model.address import Address
from router.model.reply import HopReply
from router.route.routing import Routing
from router.settings.schema import Settings

_TOGETHER = 50
"""Addresses asked for at a time."""


async def explain_all(context: Context, texts: Sequence[str], question: Question) -> list[Explained]:
    """One explanation for each text, in their order."""
    settings = context.settings()
    database = context.database()
    rules = rules_of(context)
    lookups = DatabaseLookups(database)
    senders = Senders(settings.hostname, settings.outbound, alarm=_unheard) if question.probe else None
    prober = None if senders is None else Prober(_Ask(senders, settings), SystemClock())
    classifier = CachingClassifier(rules, [lookups], SystemClock(), prober)
    live = _live(context, lookups, prober)
    paused = frozenset(one.store for one in database.run_read(stores.paused))
    keys = database.run_read(lambda connection: members.snapshot(connection, takeover=False)).mark_keys
    routing, origins = Routing.from_settings(settings, keys), Origins(database, settings.ldaps)
    one = Explainer(settings, classifier, routing, question, paused, origins, partial(_keys, rules), live)
    found: list[Explained] = []
    try:
        for start in range(0, len(texts), _TOGETHER):
            found += await asyncio.gather(*(one.explain(text) for text in texts[start : start + _TOGETHER]))
    finally:
        await classifier.close()
        if live is not None:
            await live.classifier.close()
            await live.source.close()
        lookups.close()
        if senders is not None:
            senders.close()
    return found


def _keys(rules: AddressRules, address: Address) -> Sequence[str]:
    todo = plan(rules, address)
    return () if todo is None else todo.keys


def _live(context: Context, mirror: DatabaseLookups, prober: Prober | None) -> Live | None:
    """What asks the directories themselves; None for a site without."""
    settings = context.settings()
    if not settings.ldaps:
        return None
    from router.admin.cli.directories import meaning_of  # noqa: PLC0415 - a site without needs no LDAP
    from router.directory.lookups import LdapLookups  # noqa: PLC0415 - see above

    readers = {name: LdapLookups(one, meaning_of(settings, one)) for name, one in settings.ldaps.items()}
    ranks = {name: rank for rank, name in enumerate(source_names(settings))}
    source = LiveSource(mirror, readers, ranks, never_held(context.database(), settings))
    return Live(CachingClassifier(rules_of(context), [source], SystemClock(), prober), source)


@dataclass(frozen=True, slots=True)
class _Ask:
    """One callout to a store (`classify.probe.Ask`)."""

    senders: Senders
    settings: Settings

    async def __call__(self, store: str, address: Address) -> HopReply:
        return await self.senders.callout(self.settings.stores[store]).ask(address)


def _unheard(_kind: str, _key: str, _text: str) -> None:
    """A question raises no alarms."""
