"""
Copies of removed mail: before an operator's removal commits, the message and its envelope are in `removed/`.

Guarantees: `QUEUEID.eml` holds the body as it was received (or as much of it as can be read, which the envelope then
says), `QUEUEID-NUMBER.json` the envelope, the recipients removed together, actor, time and reason; both synced, with
their names, before the rows go.

On failure: `OSError`, and nothing is removed.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from router.model.envelope import Work
from router.spool.schema import sync_directory

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Removal:
    """Who removed what and why; `damage` says what is wrong with the copy, or is empty."""

    actor: str
    reason: str
    at: float
    damage: str = ""


class RemovedCopy:
    """Writes one message's copy block by block. Methods block: run them in a pool."""

    def __init__(self, directory: Path, queue_id: str) -> None:
        self._directory = directory
        self._path = directory / f"{queue_id}.eml"
        self._temporary = directory / f"tmp-{queue_id}.eml"
        self._descriptor = os.open(self._temporary, _FLAGS, 0o600)

    def write(self, block: bytes) -> None:
        view = memoryview(block)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def finish(self, work: Work, removal: Removal) -> None:
        """Sync both files and their names."""
        os.fsync(self._descriptor)
        self.close()
        self._temporary.rename(self._path)
        _write_envelope(self._directory, work, removal)
        sync_directory(self._directory)

    def close(self) -> None:
        """Give it up; idempotent."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def _write_envelope(directory: Path, work: Work, removal: Removal) -> None:
    message = work.message
    facts = {
        "queue_id": message.queue_id,
        "received_at": message.received_at,
        "size": message.size,
        "sha256": message.digest.hex(),
        "envelope": asdict(message.envelope),
        "header": asdict(message.header),
        "recipients": [asdict(one) for one in work.recipients],
        "removed": asdict(removal),
    }
    path = directory / f"{message.queue_id}-{work.recipients[0].number}.json"
    with os.fdopen(os.open(path, _FLAGS, 0o600), "w", encoding="ascii") as file:
        json.dump(facts, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
