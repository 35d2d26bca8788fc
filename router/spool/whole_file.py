"""
Writing a small file whole or not at all.

Guarantees: under its name is the former content or the new one, never a part; 0600. Its name is durable when the
caller has synced the directory. On failure: `OSError`, and the former content is still there.
"""

import os
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """The whole file under its name, or nothing; synced, for its owner only."""
    temporary = path.with_name(f".{path.name}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
