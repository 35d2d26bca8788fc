"""
Which mailboxes a verb is about: addresses as arguments, from a file, from standard input, or by a filter.

An address is read as mail to it would be: alias domains, sub-addresses and postmaster lead to their mailbox. Lists
and services are refused by name, for nobody can hold them.

Guarantees: the order is that of the arguments, each mailbox comes once. Everything that is wrong is said at once and
before anything is done. Nothing is meant to be everything unless `--all` says so.

On failure: `CommandFailed`: 64 for nothing or too much, 65 for addresses that are no mailboxes, 66 for the file.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Connection

from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed, Exit
from router.classify.matching import match
from router.classify.merged import merge
from router.classify.reading import plan
from router.classify.rules import AddressRules, load_rules
from router.control import mailboxes
from router.control.mailboxes import Filter
from router.errors import BadRouteData
from router.model.address import Address, AddressSyntaxError, parse_address
from router.model.mailbox import Found, Mailbox
from router.model.route import Kind

_PAGE = 500
_TOGETHER = 200
"""Addresses asked for in one read transaction."""

Addresses = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ADDR]...", help="Addresses; @FILE reads them from a file, - from standard input."),
]
FromFile = Annotated[Path | None, typer.Option("--file", metavar="FILE", help="One address a line; # begins a remark.")]
InDomain = Annotated[str, typer.Option("--domain", help="Every mailbox of this domain.")]
AtHome = Annotated[str, typer.Option("--home", help="Every mailbox with this home store.")]
Everything = Annotated[bool, typer.Option("--all", help="Every mailbox there is.")]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was said on the command line. `held` restricts what a filter finds: only those on hold, or only others."""

    addresses: Sequence[str] = ()
    file: Path | None = None
    domain: str = ""
    home: str = ""
    everything: bool = False
    held: bool | None = None

    @property
    def by_filter(self) -> bool:
        return bool(self.domain or self.home or self.everything)


def select(context: Context, wanted: Wanted, *, fetch: bool = False) -> list[str]:
    """
    The keys of the mailboxes meant; may be empty when a filter finds nobody. Raises `CommandFailed`.

    With `fetch`, named people who are not known yet are looked up in the directories; raises `LookupFailed`.
    """
    named = list(read_addresses(wanted.addresses, wanted.file))
    if wanted.by_filter:
        if named:
            raise CommandFailed(Exit.USAGE, "give addresses, or --domain, --home or --all, not both")
        return list(_by_filter(context, wanted))
    if not named:
        raise CommandFailed(Exit.USAGE, "no address is given", "name addresses, or use --domain, --home or --all")
    return resolve(context, named, fetch=fetch)


def read_addresses(arguments: Iterable[str], file: Path | None = None) -> Iterator[str]:
    """Arguments with `@FILE` and `-` replaced by what stands in them. Raises `CommandFailed`."""
    for text in arguments:
        if text == "-":
            yield from _lines(sys.stdin)
        elif text.startswith("@"):
            yield from _from_file(Path(text[1:]))
        else:
            yield text
    if file is not None:
        yield from _from_file(file)


def resolve(context: Context, texts: Sequence[str], *, fetch: bool = False) -> list[str]:
    """The mailbox keys of addresses, in their order, each once. Raises `CommandFailed` naming every bad one."""
    rules = rules_of(context)
    problems: list[str] = []
    keys: list[str] = []
    parsed = _parse(texts, problems)
    if fetch and (directories := context.directories()) is not None:
        directories.fetch(_not_known(context, rules, parsed))
    for start in range(0, len(parsed), _TOGETHER):
        run = parsed[start : start + _TOGETHER]
        wanted = {key for address in run for key in _keys(rules, address)}
        found = context.database().run_read(partial(mailboxes.find, keys=sorted(wanted)))
        for address in run:
            mailbox = _mailbox_of(rules, address, found, problems)
            if mailbox is not None:
                keys.append(mailbox.key)
    if problems:
        count = "1 address" if len(problems) == 1 else f"{len(problems)} addresses"
        raise CommandFailed(Exit.DATA, f"{count} cannot be used; nothing was done", details=tuple(problems))
    return list(dict.fromkeys(keys))


def rules_of(context: Context) -> AddressRules:
    """What the configuration says about addresses. Raises `CommandFailed` for a list file that cannot be read."""
    try:
        return load_rules(context.settings())
    except ValueError as error:
        raise CommandFailed(Exit.CONFIG, str(error), "mend the file; `sluice check` shows all problems") from error


def postmaster_mailbox(context: Context) -> str | None:
    """The key of the mailbox that the postmaster's mail goes to, None when that is not a mailbox here."""
    rules = rules_of(context)
    keys = _keys(rules, rules.postmaster)
    found = context.database().run_read(partial(mailboxes.find, keys=sorted(keys)))
    mailbox = _mailbox_of(rules, rules.postmaster, found, [])
    return None if mailbox is None else mailbox.key


def _by_filter(context: Context, wanted: Wanted) -> Iterator[str]:
    settings = context.settings()
    if wanted.home and wanted.home not in settings.stores:
        raise CommandFailed(Exit.DATA, f"there is no store {wanted.home}", f"stores: {', '.join(settings.stores)}")
    domain = wanted.domain.lower()
    if domain and domain not in settings.domains:
        raise CommandFailed(Exit.DATA, f"{domain} is not a domain of ours", f"domains: {', '.join(settings.domains)}")
    pattern = Filter(home=wanted.home, domain=domain, held=wanted.held)
    for mailbox in pages(context, pattern):
        yield mailbox.key


def pages(context: Context, pattern: Filter) -> Iterator[Mailbox]:
    """All mailboxes that match, read in short transactions."""
    last = ""
    while True:

        def work(connection: Connection, after: str = last) -> Sequence[Mailbox]:
            return mailboxes.listing(connection, pattern, after=after, limit=_PAGE)

        page = context.database().run_read(work)
        yield from page
        if len(page) < _PAGE:
            return
        last = page[-1].key


def _parse(texts: Sequence[str], problems: list[str]) -> list[Address]:
    parsed = []
    for text in texts:
        try:
            parsed.append(parse_address(text))
        except AddressSyntaxError as error:
            problems.append(f"{text}: {error}")
    return parsed


def _keys(rules: AddressRules, address: Address) -> Sequence[str]:
    todo = plan(rules, address)
    return todo.keys if todo is not None else ()


def _not_known(context: Context, rules: AddressRules, parsed: Sequence[Address]) -> list[str]:
    """The keys of addresses that nobody here has in any reading."""
    missing: list[str] = []
    for address in parsed:
        todo = plan(rules, address)
        if todo is None:
            continue
        known = context.database().run_read(partial(mailboxes.find, keys=todo.keys))
        with suppress(BadRouteData):
            if match(todo, merge([known])) is None:
                missing += todo.keys
    return list(dict.fromkeys(missing))


def _mailbox_of(rules: AddressRules, address: Address, known: Found, problems: list[str]) -> Mailbox | None:
    todo = plan(rules, address)
    if todo is None:
        problems.append(f"{address.wire}: not in a domain of ours")
        return None
    try:
        matched = match(todo, merge([known]))
    except BadRouteData as error:
        problems.append(f"{address.wire}: {error.private}")
        return None
    if matched is None:
        problems.append(f"{address.wire}: no mailbox has this address (`sluice user import` or `user list` may help)")
        return None
    found = matched.found
    if found.mailbox is None:
        what = "a list" if found.kind is Kind.LIST else "a service"
        problems.append(
            f"{address.wire}: is {what} on {found.store}; only mailboxes are held, released and moved"
            f" (`sluice store pause {found.store}` keeps all mail for that store)"
        )
    return found.mailbox


def _from_file(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
            yield from _lines(stream)
    except OSError as error:
        raise CommandFailed(Exit.NO_INPUT, f"{path}: {error.strerror}") from error


def _lines(stream: Iterable[str]) -> Iterator[str]:
    """Addresses without what stands behind a `#` at the beginning of a word, which no address contains."""
    for line in stream:
        words = line.split()
        for word in words:
            if word.startswith("#"):
                break
            yield word
