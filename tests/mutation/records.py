"""
What a run has found so far, kept on disk so that a run that was stopped goes on where it was.

Guarantees: one line of JSON for each verdict, written when it is known. A verdict `killed` counts again as long as the
mutated module and the file of the killing test are what they were when the run began; a survivor is always tried again.

On failure: a line that cannot be read is passed over.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

KILLED, SURVIVED = "killed", "survived"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`by` is the test that failed, or why there is none; `seconds` what it took to know."""

    mutant: str
    outcome: str
    by: str
    seconds: float
    module: str = ""
    test: str = ""


class Records:
    """The verdicts in `directory`."""

    def __init__(self, root: Path, directory: Path) -> None:
        self._file = directory / "verdicts.jsonl"
        directory.mkdir(parents=True, exist_ok=True)
        files = (path for folder in ("router", "tests") for path in (root / folder).rglob("*.py"))
        self._digests = {path.relative_to(root).as_posix(): _digest(path) for path in files}

    def known(self) -> dict[str, Verdict]:
        """Verdicts that still hold, by mutant."""
        found = {}
        text = self._file.read_text() if self._file.exists() else ""
        for line in text.splitlines():
            try:
                verdict = Verdict(**json.loads(line))
            except (ValueError, TypeError):
                continue
            found[verdict.mutant] = verdict
        return {name: verdict for name, verdict in found.items() if self._holds(verdict)}

    def add(self, verdict: Verdict) -> None:
        stamped = replace(verdict, module=self._module(verdict), test=self._test(verdict))
        with self._file.open("a") as file:
            file.write(json.dumps(asdict(stamped)) + "\n")

    def _holds(self, verdict: Verdict) -> bool:
        known = (verdict.module, verdict.test) == (self._module(verdict), self._test(verdict))
        return verdict.outcome == KILLED and known

    def _module(self, verdict: Verdict) -> str:
        return self._digests.get(verdict.mutant.split(":")[1], "")

    def _test(self, verdict: Verdict) -> str:
        return self._digests.get(verdict.by.split("::")[0], "")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest(root: Path, *folders: str) -> str:
    """Of all Python files of these folders: names and contents."""
    whole = hashlib.sha256()
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            whole.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return whole.hexdigest()
