"""
The log of the processes themselves (not of mail): standard error, with priorities where journald listens.

Guarantees: the libraries' chatter about every connection stays out (aiosmtpd writes several lines per message). A
message is one printable line of bounded length, whatever text from outside an error carries; the lines of a traceback
are indented, so that none of them passes for a message. On failure: as `logging` has it, nothing is raised.
"""

import logging
from collections.abc import Mapping
from types import TracebackType

from router.report.escape import one_line
from router.report.log_format import under_journal

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_QUIET = ("mail.log", "asyncio", "alembic", "sqlalchemy")


_LONGEST = 4000
_INDENT = "    "
_Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class _OneLine(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name of the base class
        record.message = one_line(record.message, _LONGEST)
        return super().formatMessage(record)

    def formatException(self, ei: _Raised) -> str:  # noqa: N802 - as above
        return "\n".join(_INDENT + one_line(line, _LONGEST) for line in super().formatException(ei).splitlines())


class _JournalFormatter(_OneLine):
    def format(self, record: logging.LogRecord) -> str:
        level = _PRIORITY.get(record.levelno, 6)
        return "\n".join(f"<{level}>{line}" for line in super().format(record).splitlines())


def log_to_stderr(level: str, environment: Mapping[str, str]) -> None:
    """Configure the root logger of this process; may be called again."""
    handler = logging.StreamHandler()
    if under_journal(environment):
        handler.setFormatter(_JournalFormatter("%(name)s[%(process)d]: %(message)s"))
    else:
        handler.setFormatter(_OneLine("%(asctime)s %(name)s[%(process)d]: %(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
