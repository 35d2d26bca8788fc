"""Journal rows as the encoder of the standard library writes them: what the spool's own spelling is compared with."""

import json
from dataclasses import MISSING, fields

from router.model.outcome import JournalRow


def format_line(row: JournalRow) -> str:
    """One line without its line end; optional fields at their default are left out."""
    facts = {}
    for one in fields(JournalRow):
        value = getattr(row, one.name)
        if one.default is MISSING or value != one.default:
            facts[one.name] = value
    return json.dumps(facts, separators=(",", ":"), allow_nan=False)
