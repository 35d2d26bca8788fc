"""
From the readings of an address and what the sources know to its classification. Pure.

Guarantees: the first reading that matches decides. Where one reading matches as two things (a person and a list of
one name, say), or a list's own name is a person's too, the answer is `BadRouteData`, which is temporary: two
sources contradict each other and neither is guessed right. A group of the directory and a list of the configuration
with one name and one store are the same list.
"""

from dataclasses import dataclass

from router.classify.lists import ListMatch
from router.classify.merged import Merged
from router.classify.reading import Plan, Reading
from router.classify.rules import AddressRules
from router.classify.subaddress import spelled_local, split, wire_local, with_suffix
from router.errors import BadRouteData
from router.model.address import Address
from router.model.directory import is_catch_all
from router.model.mailbox import LIST, Mailbox
from router.model.route import Classification, Kind


@dataclass(frozen=True, slots=True)
class Match:
    """
    `firm`: the mailbox has exactly the address that was asked for, so that only a change of the two can make the
    answer wrong. Any other answer also rests on what was not found. `catch_all`: it holds only if nobody has the
    address, which the sources must be sure of.
    """

    found: Classification
    firm: bool
    catch_all: bool = False


def match(plan: Plan, known: Merged) -> Match | None:
    """The classification, or None when nobody has the address. Raises `BadRouteData`."""
    for reading in plan.readings:
        mailbox = known.people.get(reading.key)
        if not (mailbox or reading.service or reading.mailing_list):
            continue
        _refuse_conflict(reading, mailbox, known.conflicts)
        if mailbox is not None and not (reading.family and mailbox.kind == LIST):
            firm = not plan.postmaster and reading.key == plan.address.key
            return Match(_of_mailbox(plan, reading, mailbox, known.epoch), firm, reading.catch_all)
        if reading.service:
            return Match(_of_service(plan, reading, known.epoch), firm=False)
        if reading.mailing_list is not None:
            return Match(_of_list(plan, reading, reading.mailing_list, known.epoch), firm=False)
    return None


def respell(found: Classification, address: Address, rules: AddressRules) -> Classification:
    """
    A cached answer for the recipient as this client spelled it: what goes onward is what was received.

    Built by hand, not by `dataclasses.replace`: this is on the way of every recipient.
    """
    extension, canonical = found.extension, found.canonical
    if found.delivery:
        pass  # rewritten: nothing in it comes from this spelling
    elif found.mailbox is not None:
        cut = split(spelled_local(address), rules.delimiters) if extension else None
        if cut is not None:
            extension, canonical = cut.extension, with_suffix(found.mailbox.key, cut.suffix)
    elif canonical:
        canonical = f"{wire_local(address)}@{canonical.rpartition('@')[2]}"
    return Classification(
        address,
        found.kind,
        found.epoch,
        found.mailbox,
        found.store,
        extension,
        found.delivery,
        canonical,
        found.chain,
        found.steps,
        found.source,
        found.detail,
    )


def canonical_elsewhere(plan: Plan, domain: str) -> str:
    """For what is no mailbox: the address in the domain it was found in, where that is another than was given."""
    return "" if domain == plan.target.domain else f"{wire_local(plan.target)}@{domain}"


def opening_steps(plan: Plan) -> tuple[str, ...]:
    """The story up to the match."""
    steps = [f"given: {plan.address.wire}", f"normalised: {plan.address.key}"]
    if plan.postmaster:
        steps.append(f"postmaster of every domain: {plan.target.wire}")
    if plan.policy.name != plan.policy.real:
        steps.append(f"{plan.policy.name} is an alias of {plan.policy.real}")
    return tuple(steps)


def delivery(plan: Plan) -> str:
    """A postmaster's mail goes to the address that was configured: a store need not know another one."""
    return plan.target.wire if plan.postmaster else ""


def _refuse_conflict(reading: Reading, mailbox: Mailbox | None, conflicts: dict[str, str]) -> None:
    if reading.key in conflicts:
        raise BadRouteData(conflicts[reading.key])
    roles = []
    if mailbox is not None:
        roles.append(f"the mailbox {mailbox.key}")
    if reading.service:
        roles.append(f"a service on {reading.service}")
    if reading.mailing_list is not None:
        roles.append(f"a list on {reading.mailing_list.store}")
    if len(roles) > 1 and not _same_list(reading, mailbox):
        raise BadRouteData(f"{reading.key} is {' and '.join(roles)}")


def _same_list(reading: Reading, mailbox: Mailbox | None) -> bool:
    """Whether a group of a directory and a list of the configuration are one and the same."""
    if mailbox is None or mailbox.kind != LIST or reading.service or reading.mailing_list is None:
        return False
    return mailbox.home == reading.mailing_list.store


def _of_mailbox(plan: Plan, reading: Reading, mailbox: Mailbox, epoch: int) -> Classification:
    cut = split(spelled_local(plan.target), reading.split.delimiter) if reading.split is not None else None
    return Classification(
        address=plan.address,
        kind=Kind.LIST if mailbox.kind == LIST else Kind.MAILBOX,
        epoch=epoch,
        mailbox=mailbox,
        extension=cut.extension if cut else "",
        delivery=delivery(plan),
        # A mailbox that has only a catch-all is named by no address: on the wire nobody would take it.
        canonical="" if is_catch_all(mailbox.key) else with_suffix(mailbox.key, cut.suffix if cut else ""),
        chain=(mailbox.key,),
        steps=(*_matched(plan, reading), *_mailbox_steps(mailbox), f"source: {mailbox.source}, epoch {epoch}"),
        source=mailbox.source,
    )


def _of_service(plan: Plan, reading: Reading, epoch: int) -> Classification:
    return Classification(
        address=plan.address,
        kind=Kind.SERVICE,
        epoch=epoch,
        store=reading.service,
        extension=reading.split.extension if reading.split else "",
        delivery=delivery(plan),
        canonical=canonical_elsewhere(plan, reading.domain),
        steps=(*_matched(plan, reading), f"class: service on {reading.service}", "source: configuration"),
        source="configuration",
    )


def _of_list(plan: Plan, reading: Reading, found: ListMatch, epoch: int) -> Classification:
    name = found.base or "a list manager's own address"
    legacy = f"; legacy form, only {' and '.join(found.managers)} knows it" if found.legacy else ""
    return Classification(
        address=plan.address,
        kind=Kind.LIST,
        epoch=epoch,
        store=found.store,
        delivery=delivery(plan),
        canonical=canonical_elsewhere(plan, reading.domain),
        steps=(*_matched(plan, reading), f"class: list {name} on {found.store}{legacy}", "source: lists"),
        source="lists",
    )


def _matched(plan: Plan, reading: Reading) -> tuple[str, ...]:
    steps = list(opening_steps(plan))
    if reading.split is not None:
        steps.append(f"extension {reading.split.extension!r} cut from {reading.split.base}")
    how = " (an address of its family)" if reading.family else " (the domain's catch-all)" if reading.catch_all else ""
    return (*steps, f"match: {reading.key}{how}")


def _mailbox_steps(mailbox: Mailbox) -> tuple[str, ...]:
    hold = f", on hold {mailbox.hold.number} ({mailbox.hold.reason})" if mailbox.hold else ""
    home = mailbox.home or "(none)"
    what = "list (a group of the directory)" if mailbox.kind == LIST else "mailbox"
    steps = [f"class: {what} {mailbox.key}, home {home}, status {mailbox.status.value}{hold}"]
    if mailbox.problem:
        steps.append(f"problem: {mailbox.problem}")
    if mailbox.forwards:
        copy = "and keeps a copy" if mailbox.keeps else "without a copy"
        steps.append(f"forwards to {', '.join(mailbox.forwards)} {copy}")
    if mailbox.route:
        steps.append(f"routing address: {mailbox.route}" + ("" if mailbox.home else ", where its mail goes"))
    return tuple(steps)
