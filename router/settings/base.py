"""
What the sections of the configuration are built of: a mapping that knows its keys, and values with units.

Guarantees: an unknown key is an error, an instance never changes. On failure: `BadValue` with the remedy.
"""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

from router.settings.values import parse_count, parse_duration, parse_flag, parse_number, parse_size

Octets = Annotated[int, BeforeValidator(parse_size)]
"""Octets; text may carry a unit: `100 MiB`."""
Seconds = Annotated[float, BeforeValidator(parse_duration)]
"""Seconds; text may carry units: `90s`, `1h30m`."""
Count = Annotated[int, BeforeValidator(parse_count)]
Number = Annotated[float, BeforeValidator(parse_number)]
Flag = Annotated[bool, BeforeValidator(parse_flag)]


class Section(BaseModel):
    """A mapping of the file: unknown keys are errors, instances never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
