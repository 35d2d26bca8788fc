"""
`sluice check`: every error of the configuration at once, and what is hazardous about a good one; `--live` asks DNS,
stores, certificates, disk, database and directories.

Exit status: 0 nothing is wrong, 78 the configuration is faulty, 1 the configuration is good and `--live` found an
error (warnings do not count), 75 `--accept-restored` or `--accept-loss` is durable but not applied by every worker yet.

JSON: `{"file", "problems": [{file, line, column, key, message, remedy}], "findings": [{level, area, subject, text,
remedy}], "fingerprint", "exit"}`.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from router.admin.cli import check_loss
from router.admin.cli.check_certificates import check_listeners
from router.admin.cli.check_certificates import check_stores as check_store_certificates
from router.admin.cli.check_dns import check_dns
from router.admin.cli.check_finding import Finding, Level
from router.admin.cli.check_hazards import check_hazards
from router.admin.cli.check_local import check_local
from router.admin.cli.check_restored import accept
from router.admin.cli.check_stores import check_stores
from router.admin.cli.context import Context, require_readable
from router.admin.cli.exits import CommandFailed, Exit
from router.admin.cli.hold_options import TIMEOUT, Timeout, duration, reason_text
from router.classify.rules import load_rules
from router.control.members import Member
from router.deliver.names import Dns
from router.settings.loader import load
from router.settings.problem import Problem, SettingsError
from router.settings.schema import Settings

app = typer.Typer()


@app.command()
def check(
    ctx: typer.Context,
    live: Annotated[
        bool, typer.Option("--live", help="Also ask DNS, stores, certificates, disk, database and directories.")
    ] = False,
    step: Annotated[
        float, typer.Option("--step", parser=duration, metavar="TIME", help="Longest wait for one reply, with --live.")
    ] = 10.0,
    accept_restored: Annotated[
        bool, typer.Option("--accept-restored", help="Take this restored control database as the truth; see the docs.")
    ] = False,
    accept_loss: Annotated[
        str,
        typer.Option("--accept-loss", metavar="DOMAIN", help="The people that a directory has lost there are gone."),
    ] = "",
    reason: Annotated[
        str | None,
        typer.Option("--reason", "-r", parser=reason_text, metavar="TEXT", help="Why, with --accept-…."),
    ] = None,
    timeout: Timeout = TIMEOUT,
) -> int:
    """
    Find every error of the configuration at once; with --live also what is wrong around it.

    Exit 0: nothing. 78: the configuration is faulty. 1: --live found an error.
    """
    context = Context.of(ctx)
    require_readable(context.config)
    problems, settings = _problems(context)
    if problems or settings is None:
        return _tell_problems(context, problems)
    if accept_restored:
        return _accept(context, reason, timeout)
    if accept_loss:
        return _accept_loss(context, accept_loss, reason, timeout)
    findings = check_hazards(context)
    if live:
        findings += asyncio.run(_ask(context, settings, step))
    return _tell_findings(context, findings, settings.fingerprint)


def _problems(context: Context) -> tuple[Sequence[Problem], Settings | None]:
    try:
        settings = load(context.config)
    except SettingsError as error:
        return error.problems, None
    try:
        load_rules(settings)
    except ValueError as error:
        return [Problem(str(context.config), 0, 0, "lists", str(error))], None
    return [], settings


def _tell_problems(context: Context, problems: Sequence[Problem]) -> int:
    out = context.out
    for one in problems:
        out.line(str(one))
        if one.remedy:
            out.line(f"    {one.remedy}")
    listed = [
        {
            "file": one.file,
            "line": one.line,
            "column": one.column,
            "key": one.key,
            "message": one.message,
            "remedy": one.remedy,
        }
        for one in problems
    ]
    out.document({"file": str(context.config), "problems": listed, "findings": [], "exit": int(Exit.CONFIG)})
    out.note(f"sluice: {context.config}: {len(problems)} problem{'' if len(problems) == 1 else 's'}")
    return Exit.CONFIG


async def _ask(context: Context, settings: Settings, step: float) -> list[Finding]:
    now = time.time()
    with context.out.progress("asking", total=6) as advance:
        found = await asyncio.to_thread(check_local, context)
        advance(1)
        found += check_listeners(settings, now)
        advance(1)
        found += await check_dns(settings, Dns(settings.outbound.nameservers))
        advance(1)
        found += await check_stores(settings, step)
        advance(1)
        found += await check_store_certificates(settings, step, now)
        advance(1)
        found += await _ask_directories(settings)
        advance(1)
    return found


async def _ask_directories(settings: Settings) -> list[Finding]:
    if not settings.ldaps:
        return []
    from router.admin.cli.check_directory import check_directories  # noqa: PLC0415 - a site without needs no LDAP

    return await asyncio.to_thread(check_directories, settings)


def _tell_findings(context: Context, findings: Sequence[Finding], fingerprint: str) -> int:
    out = context.out
    status = Exit.FAILED if any(one.level is Level.ERROR for one in findings) else Exit.OK
    out.line(f"{context.config}: no errors")
    if findings:
        out.table(
            ["", "area", "subject", "found", "do"],
            [(one.level.value, one.area, one.subject, one.text, one.remedy) for one in findings],
        )
    out.document(
        {
            "file": str(context.config),
            "problems": [],
            "findings": [one.json() for one in findings],
            "fingerprint": fingerprint,
            "exit": int(status),
        }
    )
    return status


def _accept(context: Context, reason: str | None, timeout: float) -> int:
    if reason is None:
        raise CommandFailed(Exit.USAGE, "--accept-restored needs --reason", "it stands in the audit")
    done = accept(context, reason, timeout)
    out = context.out
    out.line(f"accepted at epoch {done.epoch}; delivery goes on")
    status = _tell_lagging(context, done.lagging)
    out.document(
        {
            "accepted": {"epoch": done.epoch, "told": list(done.told), "owned": list(done.owned)},
            "waiting_for": [{"worker": one.slot, "pid": one.pid} for one in done.lagging],
            "exit": int(status),
        }
    )
    return status


def _accept_loss(context: Context, domain: str, reason: str | None, timeout: float) -> int:
    if reason is None:
        raise CommandFailed(Exit.USAGE, "--accept-loss needs --reason", "it stands in the audit")
    done = check_loss.accept(context, domain, reason, timeout)
    for one in done.losses:
        context.out.line(f"accepted: {one}; the next complete sweep removes them")
    status = _tell_lagging(context, done.lagging)
    listed = [
        {"directory": one.source, "domain": one.domain, "missing": one.missing, "known": one.known}
        for one in done.losses
    ]
    waiting = [{"worker": one.slot, "pid": one.pid} for one in done.lagging]
    context.out.document({"accepted_losses": listed, "waiting_for": waiting, "exit": int(status)})
    return status


def _tell_lagging(context: Context, lagging: Sequence[Member]) -> Exit:
    for member in lagging:
        context.out.line(f"durable, NOT in force yet: worker {member.slot} (pid {member.pid}) has not applied it")
    return Exit.TRY_AGAIN if lagging else Exit.OK
