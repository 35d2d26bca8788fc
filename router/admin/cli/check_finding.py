"""What a check found: one value per question asked, good or bad."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """`WARNING` is worth a look and fails nothing; `ERROR` makes `sluice check` exit with 1."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """`area` is configuration, dns, store, tls, disk, database, spool or directory; `subject` is what was looked at."""

    level: Level
    area: str
    subject: str
    text: str
    remedy: str = ""

    def json(self) -> dict[str, str]:
        return {
            "level": self.level.value,
            "area": self.area,
            "subject": self.subject,
            "text": self.text,
            "remedy": self.remedy,
        }


def ok(area: str, subject: str, text: str) -> Finding:
    return Finding(Level.OK, area, subject, text)


def warning(area: str, subject: str, text: str, remedy: str = "") -> Finding:
    return Finding(Level.WARNING, area, subject, text, remedy)


def error(area: str, subject: str, text: str, remedy: str = "") -> Finding:
    return Finding(Level.ERROR, area, subject, text, remedy)
