"""
Values as JSON text, for rows of a fixed form that are written for every message.

Guarantees: the same text as `json.dumps` would write, in ASCII.

On failure: `ValueError` for a number that JSON does not have.
"""

import math
from json.encoder import encode_basestring_ascii as text

__all__ = ["json_number", "text"]


def json_number(value: float) -> str:
    """A number, an integer as one. Raises `ValueError` for infinities and NaN."""
    if not math.isfinite(value):
        raise ValueError("out of range for JSON")
    return repr(value)
