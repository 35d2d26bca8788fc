"""
The configuration in force, kept beside the state it governs.

The supervisor checks the administrator's file and writes down what it means, under its fingerprint; workers read only
that. So a worker that starts at night runs what was published, whatever has been typed into the file since, and a
file that is being edited can stop nobody.

Guarantees: a kept configuration is whole (temporary name, fsync, rename) and is the one of its fingerprint. On
failure: `OSError` from `keep`; `SluiceError` from `recall`.
"""

import os
from pathlib import Path

from pydantic import ValidationError

from router.errors import SluiceError
from router.settings.schema import Settings

DIRECTORY = "configuration"
_KEPT = 5


def keep(settings: Settings, state_dir: Path, in_force: str = "") -> Path:
    """
    Write the configuration down; older ones are removed but the last few, and the one whose fingerprint is `in_force`:
    reload after reload may fail to be published while workers start by that one. Blocks.
    """
    directory = state_dir / DIRECTORY
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = kept_at(settings, state_dir)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(settings.model_dump_json(by_alias=True))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync(directory)
    for old in sorted(directory.glob("*.json"), key=lambda one: one.stat().st_mtime, reverse=True)[_KEPT:]:
        if old.stem != in_force:
            old.unlink(missing_ok=True)
    return path


def kept_at(settings: Settings, state_dir: Path | None = None) -> Path:
    """Where a configuration is kept."""
    return (state_dir or settings.state_dir) / DIRECTORY / f"{settings.fingerprint}.json"


def recall(state_dir: Path, fingerprint: str) -> Settings:
    """The configuration of that fingerprint. Raises `SluiceError` when it was never kept here or is damaged."""
    path = state_dir / DIRECTORY / f"{fingerprint}.json"
    return recall_file(path)


def recall_file(path: Path) -> Settings:
    """As `recall`, by path."""
    try:
        settings = Settings.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise SluiceError(f"the published configuration is not here: {path}") from error
    except (OSError, ValidationError) as error:
        raise SluiceError(f"the published configuration cannot be read: {path}: {error}") from error
    if settings.fingerprint != path.stem:
        raise SluiceError(f"the published configuration is another one: {path}")
    return settings


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
