"""
From a file to `Settings`: read, validate, check, complete.

Guarantees: either settings that are complete and consistent, or every problem of the file at once. Nothing is
changed anywhere, so a reload that fails leaves the configuration in force as it was.

On failure: `SettingsError`, never anything else.
"""

from pathlib import Path

from pydantic import BaseModel, ValidationError

from router.settings.checks import ALL_CHECKS
from router.settings.draft import draft
from router.settings.effective import effective
from router.settings.file_checks import check_files
from router.settings.findings import NOT_IN_FILE, Findings
from router.settings.problem import Problem, SettingsError
from router.settings.schema import Settings
from router.settings.yaml_loader import Document, Value, read_document


def load(path: Path) -> Settings:
    """The effective configuration of a file, one we can run. Raises `SettingsError` with all that is wrong with it."""
    return settle(read_document(path))


def settle(document: Document) -> Settings:
    """The effective configuration of a document. Raises `SettingsError`."""
    findings = Findings(document)
    raw = _top(document, findings)
    settings = _validate(raw, findings)
    entries = draft(raw)
    for check in ALL_CHECKS:
        check(entries, findings)
    check_files(entries, findings)
    if settings is None or findings.problems:
        raise SettingsError(findings.problems)
    try:
        return effective(settings, entries)
    except OSError as error:  # a file vanished between its check and its digest
        raise SettingsError([Problem(document.file, 0, 0, "", f"a file it names cannot be read: {error}")]) from error


def _top(document: Document, findings: Findings) -> dict[str, Value]:
    """The top-level keys. One with nothing behind it (all its entries commented out) counts as absent."""
    if not isinstance(document.root, dict):
        if not document.problems:
            found = "is empty" if document.root is None else "is no mapping of keys to values"
            findings.add((), f"the file {found}", "start from the sample config/sluice.yaml")
        raise SettingsError(findings.problems)
    for key in NOT_IN_FILE & set(document.root):
        findings.add_unknown_key((key,))
    return {
        key: value
        for key, value in document.root.items()
        if key not in NOT_IN_FILE and not (value is None and _may_be_left_empty(key))
    }


def _may_be_left_empty(key: str) -> bool:
    field = Settings.model_fields.get(key)
    return field is not None and isinstance(field.get_default(call_default_factory=True), tuple | dict | BaseModel)


def _validate(raw: dict[str, Value], findings: Findings) -> Settings | None:
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        findings.add_invalid(error)
        return None
