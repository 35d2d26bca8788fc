"""
The pieces that the tables of the control database are made of: one registry, and columns spelled once.

Guarantees: every table of the control database is registered in `metadata`. Nothing here talks to a database.
"""

from sqlalchemy import Column, Float, Integer, MetaData, Text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def word(name: str, default: str = "") -> Column[str]:
    """Text that is never NULL."""
    return Column(name, Text, nullable=False, server_default=default)


def maybe_word(name: str) -> Column[str]:
    """Text, or NULL where absent means something else than empty."""
    return Column(name, Text)


def number(name: str, default: int = 0) -> Column[int]:
    """An integer that is never NULL; also truth values, as 0 and 1."""
    return Column(name, Integer, nullable=False, server_default=str(default))


def time(name: str) -> Column[float]:
    """Wall-clock seconds."""
    return Column(name, Float, nullable=False)


def maybe_time(name: str) -> Column[float]:
    """Wall-clock seconds, or NULL: never."""
    return Column(name, Float)
