"""
What a run has found so far, kept on disk so that a run that was stopped goes on where it was.

Guarantees: one line of JSON for each verdict, written when it is known. A verdict `killed` counts again as long as the
product and the file of the killing test are what they were; a survivor is always tried again.

On failure: a line that cannot be read is passed over.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

KILLED, SURVIVED = "killed", "survived"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`by` is the test that failed, or why there is none; `seconds` what it took to know."""

    mutant: str
    outcome: str
    by: str
    seconds: float
    product: str = ""
    test: str = ""


class Records:
    """The verdicts in `directory`."""

    def __init__(self, root: Path, directory: Path) -> None:
        self._root = root
        self._file = directory / "verdicts.jsonl"
        directory.mkdir(parents=True, exist_ok=True)
        self._product = digest(root, "router")

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
        stamped = Verdict(
            verdict.mutant, verdict.outcome, verdict.by, verdict.seconds, self._product, self._test(verdict.by)
        )
        with self._file.open("a") as file:
            file.write(json.dumps(asdict(stamped)) + "\n")

    def _holds(self, verdict: Verdict) -> bool:
        if verdict.outcome != KILLED or verdict.product != self._product:
            return False
        return verdict.test == self._test(verdict.by)

    def _test(self, by: str) -> str:
        file = self._root / by.split("::")[0]
        return hashlib.sha256(file.read_bytes()).hexdigest() if by.startswith("tests/") and file.is_file() else ""


def digest(root: Path, *folders: str) -> str:
    """Of all Python files of these folders: names and contents."""
    whole = hashlib.sha256()
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            whole.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return whole.hexdigest()
