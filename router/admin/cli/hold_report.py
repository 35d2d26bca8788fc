"""
Results of hold, release and move as people and programs read them.

The JSON members: a hold is `{mailbox, hold, home, quiet, quiet_at, opened_at, deadline, reason, actor, ended, error,
source, unwritten, drift, waiting_for, in_doubt}`; a release `{mailbox, released, home_before, home, applied,
waiting_for, in_doubt, error, temporary, drift}`.
`waiting_for` has `{cause, worker, pid, queue_id, store, stage, since, until}`, `in_doubt` has `{queue_id, message_id,
store, time}`. Times are ISO 8601.
"""

from collections.abc import Iterable, Sequence
from functools import partial

from router.admin.cli.context import Context
from router.admin.cli.exits import Exit
from router.admin.cli.output import Output, moment
from router.control import mailboxes
from router.control.barrier import Waiting
from router.control.hold_records import InDoubt
from router.control.operations import HoldResult, ReleaseResult
from router.model.mailbox import Mailbox

OUT_OF_SIGHT = (
    "This speaks of Sluice. Mail in the store's own queue, and mail that its users send to each other there, is out of"
    " our sight: before the last pass of the copy, see that the store's queue has none for these mailboxes, and close"
    " submission and local delivery for them there."
)
"""Told where a copy is about to be made: of a mailbox that is quiet. Once it is released there is nothing to close."""


def hold_status(results: Iterable[HoldResult]) -> Exit:
    """
    65 could not be held, 1 ended by somebody else, 75 not quiet in time or not in the directory, 0 all quiet: the first
    that fits any.
    """
    listed = list(results)
    if any(one.error for one in listed):
        return Exit.DATA
    if any(one.ended for one in listed):
        return Exit.FAILED
    return Exit.OK if all(one.quiet and not one.unwritten for one in listed) else Exit.TRY_AGAIN


def release_status(results: Iterable[ReleaseResult]) -> Exit:
    """65 could not be released, 75 not everywhere in force yet or the directory is not written, 0 in force."""
    listed = list(results)
    if any(one.error and not one.temporary for one in listed):
        return Exit.DATA
    return Exit.OK if all(one.applied for one in listed) else Exit.TRY_AGAIN


def mailboxes_of(context: Context, keys: Sequence[str]) -> dict[str, Mailbox]:
    """The mailboxes as they are now."""
    return context.database().run_read(partial(mailboxes.by_key, keys=list(keys)))


def hold_json(result: HoldResult, mailbox: Mailbox | None) -> dict[str, object]:
    hold = mailbox.hold if mailbox is not None else None
    return {
        "mailbox": result.key,
        "hold": result.hold or None,
        "home": mailbox.home if mailbox is not None else None,
        "quiet": result.quiet,
        "quiet_at": moment(hold.quiet_at) if hold else None,
        "opened_at": moment(hold.opened_at) if hold else None,
        "deadline": moment(hold.deadline) if hold else None,
        "reason": hold.reason if hold else None,
        "actor": hold.actor if hold else None,
        "ended": result.ended,
        "error": result.error,
        "source": mailbox.source if mailbox is not None else None,
        "unwritten": result.unwritten,
        "drift": result.drift,
        "waiting_for": [_waiting_json(one) for one in result.waiting_for],
        "in_doubt": [_doubt_json(one) for one in result.in_doubt],
    }


def release_json(result: ReleaseResult) -> dict[str, object]:
    return {
        "mailbox": result.key,
        "released": result.released,
        "home_before": result.home_before,
        "home": result.home,
        "applied": result.applied,
        "waiting_for": [{"cause": "epoch", "worker": one.slot, "pid": one.pid} for one in result.waiting_for],
        "in_doubt": [_doubt_json(one) for one in result.in_doubt],
        "error": result.error,
        "temporary": result.temporary,
        "drift": result.drift,
    }


def tell_hold(out: Output, result: HoldResult, mailbox: Mailbox | None) -> None:
    """One line a mailbox, and a line for each thing it waits for or is in doubt about."""
    if result.error:
        out.line(f"{result.key}: not held: {result.error}")
        return
    hold = mailbox.hold if mailbox is not None else None
    home = mailbox.home if mailbox is not None else ""
    if result.ended:
        out.line(f"{result.key}: hold {result.hold} was ended meanwhile by somebody else; do not copy")
    elif result.quiet:
        until = f", deadline {moment(hold.deadline)}" if hold and hold.deadline else ""
        copy = "; do not copy yet" if result.unwritten else ""
        out.line(f"{result.key}: quiet at Sluice, hold {result.hold}, home {home}{until}{copy}")
    else:
        out.line(f"{result.key}: on hold ({result.hold}), NOT quiet yet; do not copy. It waits for:")
        for waiting in result.waiting_for:
            out.line(f"    {waiting_text(waiting)}")
    for text in beside(result, mailbox):
        out.line(f"    {text}")
    for doubt in result.in_doubt:
        out.line(f"    in doubt: {doubt_text(doubt)}")


def beside(result: HoldResult, mailbox: Mailbox | None) -> list[str]:
    """What the directory has to do with a hold: that it does not say so yet, and what somebody else wrote there."""
    source = f"the directory {mailbox.source}" if mailbox is not None else "the directory"
    found = []
    if result.unwritten:
        found.append(f"NOT written into {source}: {result.unwritten}")
        found.append("its mail is kept here all the same; the same command, repeated, finishes it there")
    if result.drift:
        found.append(f"drift: {result.drift}")
    return found


def tell_release(out: Output, result: ReleaseResult) -> None:
    """One line a mailbox, and what it waits for or will be delivered a second time."""
    if result.error:
        out.line(f"{result.key}: not released: {result.error}")
        if result.temporary:
            out.line("    its mail is still held; the same command, repeated, finishes it")
        return
    flip = f"home {result.home}" if result.home == result.home_before else f"home {result.home_before} -> {result.home}"
    did = "released" if result.released else "was not on hold"
    out.line(f"{result.key}: {did}, {flip}" + ("" if result.applied else "; durable, NOT in force everywhere yet"))
    for member in result.waiting_for:
        out.line(f"    worker {member.slot} (pid {member.pid}) has not applied it")
    if result.drift:
        out.line(f"    drift: {result.drift}")
    for doubt in result.in_doubt:
        out.line(f"    may arrive twice: {doubt_text(doubt)}")


def waiting_text(one: Waiting) -> str:
    """What a hold waits for, with local time."""
    if one.cause != "delivery":
        return str(one)
    who = "a worker that died" if one.pid is None else f"worker {one.slot} (pid {one.pid})"
    what = f"delivery of {one.queue_id} to {one.store}" if one.queue_id else "whatever it had under way"
    until = f", until {moment(one.until)}" if one.until is not None else ""
    return f"{who}: {what}, {one.stage} since {moment(one.since)}{until}"


def doubt_text(one: InDoubt) -> str:
    """A delivery whose reply never came."""
    identity = f" Message-ID {one.message_id}" if one.message_id else ""
    return f"{one.queue_id or 'unknown message'}{identity} to {one.store or 'unknown store'}, {moment(one.time)}"


def _waiting_json(one: Waiting) -> dict[str, object]:
    return {
        "cause": one.cause,
        "worker": one.slot,
        "pid": one.pid,
        "queue_id": one.queue_id,
        "store": one.store,
        "stage": one.stage,
        "since": moment(one.since) if one.since else None,
        "until": moment(one.until),
    }


def _doubt_json(one: InDoubt) -> dict[str, object]:
    return {
        "queue_id": one.queue_id,
        "message_id": one.message_id,
        "store": one.store,
        "time": moment(one.time),
    }
