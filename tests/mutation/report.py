"""
The table at the end: killed and total by kind, the survivors, and the equivalent mutants with their reasons.

Guarantees: equivalent mutants count neither as killed nor in the total; the last line is `killed/total`.
"""

from collections.abc import Mapping, Sequence

from mutation.finder import KINDS
from mutation.records import KILLED, Verdict
from mutation.source import Mutant


def table(mutants: Sequence[Mutant], verdicts: Mapping[str, Verdict], equivalent: Mapping[str, str]) -> str:
    counted = [one for one in mutants if one.name not in equivalent]
    lines = [f"{'kind':10} {'killed':>7} {'total':>6} {'equivalent':>11}  what"]
    for kind, what in KINDS.items():
        mine = [one for one in counted if one.kind == kind]
        others = sum(one.kind == kind and one.name in equivalent for one in mutants)
        if mine or others:
            lines.append(f"{kind:10} {_killed(mine, verdicts):7} {len(mine):6} {others:11}  {what}")
    lines += [f"equivalent  {one.name}: {equivalent[one.name]}" for one in mutants if one.name in equivalent]
    for one in counted:
        verdict = verdicts.get(one.name)
        if verdict is None or verdict.outcome != KILLED:
            why = verdict.by if verdict is not None else "not tried"
            lines.append(f"survived    {one.name} (line {one.lines[0]}): {one.what}; {why}")
    killed = _killed(counted, verdicts)
    seconds = sum(verdicts[one.name].seconds for one in counted if one.name in verdicts)
    return "\n".join([*lines, f"tests took {seconds:.0f} s in all", f"{killed}/{len(counted)}"])


def _killed(mutants: Sequence[Mutant], verdicts: Mapping[str, Verdict]) -> int:
    return sum(one.name in verdicts and verdicts[one.name].outcome == KILLED for one in mutants)
