"""
Points in time as operators write them.

On failure: `typer.BadParameter`, a usage error (64).
"""

from datetime import datetime, timedelta

import typer

from router.settings.values import BadValue, parse_duration


def parse_moment(text: str, now: float) -> float:
    """Seconds of `22:30` (the next one), of an ISO 8601 date or time (local without an offset), or of `+2h`, `-1d`."""
    if text[:1] in {"+", "-"} and len(text) > 1:
        return now + (1 if text[0] == "+" else -1) * _duration(text[1:])
    try:
        if "-" not in text and ":" in text:
            return _next(text, now)
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{text} is no time; write 22:30, 2026-05-01T08:00 or +2h") from error


def _next(text: str, now: float) -> float:
    clock = datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007 - only the hours and minutes are used
    today = datetime.fromtimestamp(now).astimezone()
    wanted = today.replace(hour=clock.hour, minute=clock.minute, second=0, microsecond=0)
    return (wanted if wanted > today else wanted + timedelta(days=1)).timestamp()


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except BadValue as error:
        raise typer.BadParameter(f"{error}; {error.remedy}") from error
