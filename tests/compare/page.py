"""
The page `docs/reliability-comparison.md`, written from what was seen.

Pure. Guarantees: figures come from `Results` alone; a relay or a kind of fault that was not run is a dash or is left
out, and never a zero; no line of Markdown is longer than 120 characters but for rows of tables.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from compare import prose
from compare.figures import Attack, Crashes, Full, Results, Smuggled

NAMES = {"sluice": "Sluice", "postfix": "Postfix", "exim": "Exim", "opensmtpd": "OpenSMTPD"}
MANY = 3
"""Answers named in a cell; the rest are summed up."""
_MIB = 1 << 20


def page(results: Results) -> str:
    """The whole page."""
    parts = [prose.HEAD, _machine(results)]
    for kind, text, table in (
        ("kill", prose.KILL, _crashes),
        ("cut", prose.CUT, _crashes),
        ("full", prose.FULL, _full),
        ("hostile", prose.HOSTILE, _hostile),
        ("smuggling", prose.SMUGGLING, _smuggling),
    ):
        if rows := results.of(kind):
            parts += [text, table({name: rows[name] for name in NAMES if name in rows})]
    return "\n\n".join(part.strip() for part in [*parts, prose.TAIL]) + "\n"


def _machine(results: Results) -> str:
    relays = [f"- {NAMES[name]}: {results.versions[name]}" for name in NAMES if name in results.versions]
    missing = [f"- {NAMES[name]} was not to be had: {why}" for name, why in sorted(results.missing.items())]
    return "\n".join([f"Seen on {results.machine}, shared with other work:", "", *relays, *missing])


def _table(head: list[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _transposed(first: str, columns: Mapping[str, Mapping[str, object]]) -> str:
    """A column for each relay, a row for each figure."""
    labels = list(next(iter(columns.values())))
    return _table([first, *columns], ([label, *(one[label] for one in columns.values())] for label in labels))


def _crashes(rows: Mapping[str, Mapping[str, Any]]) -> str:
    return _transposed("counted are recipients", {NAMES[name]: _crash(cases[""]) for name, cases in rows.items()})


def _crash(row: Crashes) -> dict[str, object]:
    tally = row.tally
    return {
        "rounds": row.rounds,
        "acknowledged": tally.acknowledged,
        "of these in messages of 64 KiB and more": tally.large,
        "**lost**": f"**{tally.lost}**",
        "altered, or at the wrong next hop": tally.altered + tally.misrouted,
        "came twice": tally.twice,
        "of these at no moment of a fault": tally.unexcused,
        "still queued after a minute": tally.left,
        "messages set aside as damaged, or parked": tally.aside,
        "messages refused with 4xx": tally.temporary,
        "messages refused with 5xx": tally.permanent,
    }


def _full(rows: Mapping[str, Mapping[str, Any]]) -> str:
    def column(row: Full) -> dict[str, object]:
        tally = row.tally
        return {
            "acknowledged before the disk was full": row.before,
            "what clients heard from then on": _answers(row.told),
            "delivered while it was full": f"{row.gone} of {row.gone + row.waiting}",
            "takes mail again once there is space, without a restart": _again(row.again),
            "acknowledged in all": tally.acknowledged,
            "**lost**": f"**{tally.lost}**",
            "came twice": tally.twice,
            "still queued a minute after there was space": tally.left,
        }

    return _transposed("counted are recipients", {NAMES[name]: column(cases[""]) for name, cases in rows.items()})


def _again(seconds: float) -> str:
    return "not within a minute" if seconds < 0 else f"after {seconds:.1f} s"


def _answers(found: Mapping[str, int]) -> str:
    """The most frequent ones."""
    most = sorted(found.items(), key=lambda item: -item[1])
    shown = [f"{what} ({count})" for what, count in most[:MANY]]
    rest = sum(count for _, count in most[MANY:])
    return "; ".join([*shown, *([f"other ({rest})"] if rest else [])])


def _hostile(rows: Mapping[str, Mapping[str, Any]]) -> str:
    seen = {case for cases in rows.values() for case in cases}
    names = [NAMES[name] for name in rows]

    def table(first: str, show: Callable[[Attack], str], attacks: Iterable[str] = prose.ATTACKS) -> str:
        shown = (
            [prose.ATTACKS[attack], *(show(cases[attack]) if attack in cases else "-" for cases in rows.values())]
            for attack in attacks
            if attack in seen
        )
        return _table([first, *names], shown)

    return "\n\n".join(
        [
            table("what hostile clients heard", lambda one: _answers(one.answers)),
            prose.TAKEN,
            table("messages taken from them", lambda one: str(one.taken), prose.OUT_OF_TURN),
            prose.ORDINARY,
            table("ordinary client", _ordinary),
            prose.MEMORY,
            table("memory, MiB", lambda one: f"{one.idle / _MIB:.0f} → {one.memory / _MIB:.0f}"),
        ]
    )


def _ordinary(one: Attack) -> str:
    if not one.served:
        return f"**not served**, {one.turned_away} times turned away"
    again = f", {one.turned_away} times turned away" if one.turned_away else ""
    return f"{one.median:.2f} / {one.slowest:.1f} s ({one.served}){again}"


def _smuggling(rows: Mapping[str, Mapping[str, Any]]) -> str:
    found = [
        [f"{NAMES[name]}{f', {_code(setting)}' if setting else ''}", *_smuggled(row)]
        for name, cases in rows.items()
        for setting, row in sorted(cases.items())
    ]
    head = ["", "messages", "look-alikes that became two messages", "refused", "bare CR or LF passed on"]
    split = [
        f"- Two messages at {NAMES[name]}{f' ({_code(setting)})' if setting else ''}: {_listed(row.split)}."
        for name, cases in rows.items()
        for setting, row in sorted(cases.items())
        if row.split
    ]
    return "\n\n".join([_table(head, found), *(["\n".join(split)] if split else [])])


def _smuggled(row: Smuggled) -> list[object]:
    split = f"**{len(row.split)}**" if row.split else "0"
    return [row.cases, split, len(row.refused), len(row.passed_on)]


def _listed(names: tuple[str, ...]) -> str:
    """A list that is broken into lines by itself."""
    lines, line = [], ""
    for name in names:
        word = _code(name)
        if len(line) + len(word) > 60:
            lines.append(line)
            line = ""
        line = f"{line}, {word}" if line else word
    return ",\n  ".join([*lines, line])


def _code(text: str) -> str:
    return f"`{text}`"
