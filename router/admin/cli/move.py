"""
`sluice move`: hold, barrier, copy, flip and release, one mailbox after the other.

Guarantees: a mailbox whose copy failed stays on hold, with its mail kept and its home as it was. The first mailbox
that cannot be moved ends the run, unless `--keep-going`: what broke one copy breaks the next, too. Those not begun are
named and untouched. Repeating the command goes on where it ended: a mailbox that is at its target already is passed
over.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated

import typer

from router.admin.cli import hold_ldif, hold_report
from router.admin.cli.context import Context
from router.admin.cli.exits import CommandFailed, Exit
from router.admin.cli.hold_operations import operations
from router.admin.cli.hold_options import TIMEOUT, DryRun, Reason, Timeout, duration, require_store
from router.admin.cli.move_copy import CopyCommand
from router.admin.cli.user_selection import Addresses, AtHome, FromFile, InDomain, Wanted, select
from router.control import mailboxes
from router.control.audit import Act
from router.control.holds import Terms
from router.control.mailboxes import Record
from router.control.operations import HoldResult, MoveResult, Operations
from router.errors import Conflict, LookupFailed, NotFound

app = typer.Typer()


@dataclass(frozen=True, slots=True)
class Moved:
    """How far the move of one mailbox came. `step` names where it ended; `status` is 0 when it is done."""

    key: str
    step: str
    status: Exit
    result: MoveResult | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is the same for every mailbox of the run. `longest` and `timeout` are seconds; `warn` speaks once."""

    target: str
    act: Act
    copy: CopyCommand | None
    longest: float
    timeout: float
    warn: Callable[[], None]


@app.command()
def move(
    ctx: typer.Context,
    to: Annotated[str, typer.Option("--to", metavar="STORE", help="The new home.")],
    reason: Reason,
    addresses: Addresses = None,
    run: Annotated[str, typer.Option("--run", metavar="CMD", help="Copies the mailbox; see below.")] = "",
    file: FromFile = None,
    domain: InDomain = "",
    home: AtHome = "",
    max_: Annotated[
        float | None, typer.Option("--max", parser=duration, metavar="TIME", help="Deadline of each hold.")
    ] = None,
    timeout: Timeout = TIMEOUT,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Go on with the next when one fails.")] = False,
    dry_run: DryRun = False,
) -> int:
    """
    Hold, wait until quiet, copy, change the home and release: one mailbox after the other, in the order given.

    CMD runs without a shell while the mailbox is quiet, with SLUICE_ADDRESS, SLUICE_ALIASES (separated by spaces),
    SLUICE_HOME, SLUICE_TARGET and SLUICE_HOLD in its environment. If it fails, the mailbox stays on hold.

    Exit 0: all are moved. 1: a copy failed, or somebody else ended a hold. 75: not quiet, or not in force, in time, or
    the directory could not be written: what is on hold stays so, and the same command goes on.
    65: a mailbox cannot be moved.
    """
    context = Context.of(ctx)
    context.wait_for_locks(timeout)
    require_store(context.settings().stores, to)
    copy = CopyCommand.parse(run, quiet=context.json) if run else None
    keys = select(context, Wanted(addresses or (), file, domain, home), fetch=True)
    if dry_run:
        return _preview(context, keys, to)
    longest = context.settings().safety.max_hold if max_ is None else max_
    warn = cache(partial(context.out.note, hold_report.OUT_OF_SIGHT))
    plan = Plan(to, context.act(reason), copy, longest, timeout, warn)
    done: list[Moved] = []
    try:
        for one in _each(context, keys, plan):
            done.append(one)
            _tell(context, one)
            if one.status and not keep_going:
                break
    except KeyboardInterrupt as error:
        remedy = "see `sluice user show`; a mailbox whose copy was cut short is still on hold"
        raise CommandFailed(Exit.INTERRUPTED, f"interrupted after {len(done)} of {len(keys)}", remedy) from error
    return _close(context, done, keys)


def _each(context: Context, keys: Sequence[str], plan: Plan) -> Iterator[Moved]:
    works = operations(context)
    for place, key in enumerate(keys, start=1):
        context.out.note(f"[{place}/{len(keys)}] {key}")
        yield _move(context, works, key, plan)


def _move(context: Context, works: Operations, key: str, plan: Plan) -> Moved:
    record = context.database().run_read(partial(mailboxes.record, key=key))
    if record is None:
        return Moved(key, "find", Exit.DATA, error="the mailbox is gone")
    if record.mailbox.hold is None and record.mailbox.home == plan.target:
        return Moved(key, "there already", Exit.OK)
    copied: list[int] = []

    def copy(held: HoldResult) -> int:
        copied.append(_copy(plan, record, held))
        return copied[-1]

    terms = Terms(deadline=time.time() + plan.longest)
    act = Act(plan.act.actor, plan.act.reason, time.time())
    try:
        result = works.move(key, plan.target, act, run=copy, terms=terms, timeout=plan.timeout)
    except (Conflict, NotFound) as error:
        return Moved(key, "release" if copied else "hold", Exit.FAILED if copied else Exit.DATA, error=error.private)
    except LookupFailed as error:
        return Moved(key, "release" if copied else "hold", Exit.TRY_AGAIN, error=f"{error.private}; run it again")
    return _judge(key, result)


def _copy(plan: Plan, record: Record, held: HoldResult) -> int:
    if plan.copy is None:
        return 0
    plan.warn()
    return plan.copy.run(record, plan.target, held.hold)


def _judge(key: str, result: MoveResult) -> Moved:
    if result.hold.ended:
        return Moved(key, "hold", Exit.FAILED, result, "the hold was ended meanwhile by somebody else")
    if not result.hold.quiet:
        return Moved(key, "hold", Exit.TRY_AGAIN, result, "on hold, but not quiet in time; run it again")
    if result.hold.unwritten:
        text = "on hold here, but the directory could not be told: nothing was copied; run it again"
        return Moved(key, "hold", Exit.TRY_AGAIN, result, text)
    if result.status:
        text = f"the copy command failed with status {result.status}; the mailbox stays on hold"
        return Moved(key, "copy", Exit.FAILED, result, text)
    return _judge_release(key, result)


def _judge_release(key: str, result: MoveResult) -> Moved:
    if result.release is not None and result.release.error:
        text = f"copied and still on hold, for the directory could not be written: {result.release.error}; run it again"
        return Moved(key, "release", Exit.TRY_AGAIN, result, text)
    if result.release is None or not result.release.applied:
        return Moved(key, "release", Exit.TRY_AGAIN, result, "released, but not in force everywhere yet")
    return Moved(key, "moved", Exit.OK, result)


def _preview(context: Context, keys: Sequence[str], to: str) -> int:
    found = hold_report.mailboxes_of(context, keys)
    rows = [(key, found[key].home, to, bool(found[key].hold)) for key in keys if key in found]
    context.out.table(["mailbox", "home", "home after", "on hold"], rows)
    planned = [{"mailbox": key, "home_before": old, "home": new, "held": held} for key, old, new, held in rows]
    going = [key for key, home, _, held in rows if held or home != to]
    written = hold_ldif.planned(context, going, hold=True, release=True, to=to)
    hold_ldif.tell(context, written)
    context.out.document({"dry_run": True, "moves": planned, "directory": [one.json() for one in written]})
    return Exit.OK


def _tell(context: Context, one: Moved) -> None:
    out = context.out
    if one.error:
        out.line(f"{one.key}: {one.step}: {one.error}")
    elif one.result is not None and one.result.release is not None:
        out.line(f"{one.key}: moved, home {one.result.release.home_before} -> {one.result.release.home}")
    else:
        out.line(f"{one.key}: {one.step}")
    if one.result is not None:
        for text in _of_directory(one.result):
            out.line(f"    {text}")
        for waiting in one.result.hold.waiting_for:
            out.line(f"    waits for {hold_report.waiting_text(waiting)}")
        for doubt in one.result.hold.in_doubt:
            out.line(f"    in doubt: {hold_report.doubt_text(doubt)}")


def _of_directory(result: MoveResult) -> list[str]:
    found = hold_report.beside(result.hold, None)
    if result.release is not None and result.release.drift:
        found.append(f"drift: {result.release.drift}")
    return found


def _close(context: Context, done: Sequence[Moved], keys: Sequence[str]) -> int:
    out = context.out
    left = list(keys[len(done) :])
    status = next((one.status for one in done if one.status), Exit.OK)
    if left:
        out.line(f"not begun: {len(left)}: {', '.join(left[:10])}{' …' if len(left) > 10 else ''}")
    out.document(
        {
            "moves": [_json(one) for one in done],
            "not_begun": left,
            "remark": hold_report.OUT_OF_SIGHT if any(one.step == "copy" for one in done) else "",
            "exit": int(status),
        }
    )
    return status


def _json(one: Moved) -> dict[str, object]:
    result = one.result
    return {
        "mailbox": one.key,
        "step": one.step,
        "error": one.error,
        "exit": int(one.status),
        "copy_status": result.status if result is not None else None,
        "hold": hold_report.hold_json(result.hold, None) if result is not None else None,
        "release": hold_report.release_json(result.release) if result is not None and result.release else None,
    }
