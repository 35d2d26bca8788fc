"""
`sluice check --live` for people in LDAP: every server, and then the whole directory, read once from end to end.

Guarantees: nothing is written, neither there nor here. Memory is bounded however large the directory is (`Survey`): a
million people cost under 100 MB. Where an address is on two entries the directory is read a second time, to name them.

On failure: nothing raises; a directory that cannot be read to its end is a finding.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import islice

from router.admin.cli.address_book import number_of
from router.admin.cli.check_directory_server import AREA, check_server, servers_of
from router.admin.cli.check_finding import Finding, Level, error, ok, warning
from router.admin.cli.check_survey import SHOWN, Survey, Trouble, both_sides
from router.admin.cli.directories import meaning_of
from router.directory.faults import ADMIN_LIMIT_EXCEEDED, SIZE_LIMIT_EXCEEDED, Troubled
from router.directory.feed import LdapFeed
from router.directory.schema_meaning import SchemaMeaning
from router.errors import LookupFailed
from router.model.directory import DirectoryItem, Entry, Unplaced
from router.settings.directory import Ldap
from router.settings.schema import Settings

_LIMITS = frozenset({SIZE_LIMIT_EXCEEDED, ADMIN_LIMIT_EXCEEDED})
_MEND = "mend the entry; its mail waits"


def check_directories(settings: Settings) -> list[Finding]:
    """All directories of the configuration. Blocking."""
    found: list[Finding] = []
    surveys: dict[str, Survey] = {}
    for name, source in settings.ldaps.items():
        meaning = meaning_of(settings, source)
        sound = []
        for server in servers_of(source, meaning):
            told = check_server(server)
            found += told
            if server.reads and not any(one.level is Level.ERROR for one in told):
                sound.append(server.uri)
        if not sound:
            continue
        reachable = source.model_copy(update={"uri": tuple(sound)})
        try:
            surveys[name] = _survey(settings, reachable, meaning)
            found += _tell(name, surveys[name])
            found += _twice(name, reachable, meaning, surveys[name])
        except LookupFailed as failure:
            found.append(error(AREA, name, f"cannot be read to its end: {failure.private}", _remedy(failure)))
    return [*found, *_catch_alls(settings, surveys)]


def _survey(settings: Settings, source: Ldap, meaning: SchemaMeaning) -> Survey:
    survey = Survey(settings.domains)
    for item in _all(source, meaning):
        survey.add(item)
    return survey


def _all(source: Ldap, meaning: SchemaMeaning) -> Iterator[DirectoryItem | Unplaced]:
    with closing(LdapFeed(source, meaning)) as feed:
        for page in feed.sweep():
            yield from page


def _tell(name: str, survey: Survey) -> list[Finding]:
    found = [_counts(name, survey)]
    homes = [(count, home) for home, count in survey.homes.items()]
    for count, home in sorted(homes, reverse=True):
        text = f"is the home of {count} people" if home else f"{count} people have no home and are forwarded"
        found.append(ok(AREA, name, f"{home} {text}".strip()))
    for count, value in sorted(((n, v) for v, n in survey.unmapped.items()), reverse=True)[:SHOWN]:
        text = f"the home {value} of {count} entries is no store"
        found.append(error(AREA, name, text, "add it to `homes`, or correct the entries; their mail waits"))
    if len(survey.unmapped) > SHOWN:
        found.append(error(AREA, name, f"and {len(survey.unmapped) - SHOWN} more homes that are no store"))
    for domain, count in survey.elsewhere.most_common(SHOWN):
        text = f"{count} entries are of {domain}, which is not in `domains`"
        found.append(warning(AREA, name, text, "mail for them is not ours; add the domain if it is"))
    found += _listed(name, survey.homeless, "people without a home, in", error, _MEND)
    found += _listed(name, survey.problems, "entries whose mail cannot be placed", error, _MEND)
    found += _listed(name, survey.senseless, "entries that make no sense", error, _MEND)
    found += _listed(name, survey.doubts, "entries in doubt, whose mail flows", warning, "mend the entry")
    remedy = "it takes every address of the domain that nobody else has: see that this is meant"
    found += _listed(name, survey.catch_alls, "catch-alls of people", warning, remedy)
    return [*found, *_circles(name, survey)]


def _counts(name: str, survey: Survey) -> Finding:
    held = f", {survey.held} on hold" if survey.held else ""
    text = f"{survey.people} people{held}, {survey.groups} groups, {len(survey.domains)} domains"
    remedy = "correct `base` or `schema`, or give the bind DN the rights"
    return ok(AREA, name, text) if survey.people else warning(AREA, name, text, remedy)


def _listed(name: str, trouble: Trouble, what: str, level: Callable[..., Finding], remedy: str) -> list[Finding]:
    found = [level(AREA, name, f"{what}: {text}", remedy) for text in trouble.named]
    if len(trouble.named) < trouble.total and trouble.total > SHOWN:
        found.append(level(AREA, name, f"{what}: {trouble.total} in all, of which the first are shown", remedy))
    return found


def _circles(name: str, survey: Survey) -> list[Finding]:
    trouble = Trouble()
    for circle in survey.circles():
        trouble.add(str(circle))
    found = _listed(name, trouble, "forwards lead in a circle", error, "mend a forward; mail for these people waits")
    if survey.forwarders_left_out:
        text = f"{survey.forwarders_left_out} people with forwards were not looked at for circles: there are too many"
        found.append(warning(AREA, name, text))
    return found


def _twice(name: str, source: Ldap, meaning: SchemaMeaning, survey: Survey) -> list[Finding]:
    """Addresses on two entries: numbers are known of them, so the directory is read again for the names."""
    numbers = survey.addresses.twice()
    wanted = set(islice(numbers, SHOWN))
    if not wanted:
        return []
    total = len(wanted) + sum(1 for _ in numbers)
    owners: dict[str, list[str]] = {}
    for item in _all(source, meaning):
        if isinstance(item, Entry):
            for address in item.addresses:
                if number_of(address) in wanted:
                    owners.setdefault(address, []).append(item.dn)
    trouble = Trouble()
    for address, dns in sorted(owners.items()):
        if len(dns) > 1:
            more = f" and {len(dns) - 5} more" if len(dns) > 5 else ""
            trouble.add(f"{address}: {'; '.join(dns[:5])}{more}")
    trouble.total = max(trouble.total, total)
    return _listed(name, trouble, "address on several entries", error, "take it from all but one; its mail waits")


def _catch_alls(settings: Settings, surveys: Mapping[str, Survey]) -> list[Finding]:
    """Where another system sends what it does not know; if Sluice or a third one does so too, it comes back."""
    found = []
    for domain, told in sorted(both_sides(surveys).items())[:SHOWN]:
        policy = settings.domains.get(domain)
        text = f"the mail system of {' and '.join(told)} sends addresses of {domain} that nobody has"
        if len(told) > 1:
            found.append(error(AREA, domain, f"{text}: on both sides, which is a loop", "keep one of the two"))
        elif policy is not None and policy.unknown == "store":
            text = f"{text}, and Sluice sends them to {policy.store}: on both sides this is a loop"
            found.append(error(AREA, domain, text, "set `unknown: reject` or `probe`, or end the catch-all there"))
        else:
            found.append(warning(AREA, domain, f"{text}; Sluice does not", "see that it does not lead back to Sluice"))
    return found


def _remedy(failure: LookupFailed) -> str:
    if isinstance(failure, Troubled) and failure.code in _LIMITS:
        return "lift the size and time limits for the bind DN, or allow it paged results"
    return "see the findings about its servers"
