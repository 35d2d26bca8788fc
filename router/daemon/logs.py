"""
The log of the processes themselves (not of mail): standard error, with priorities where journald listens.

Guarantees: the libraries' chatter about every connection stays out (aiosmtpd writes several lines per message).
"""

import logging
from collections.abc import Mapping

from router.report.log_format import under_journal

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_QUIET = ("mail.log", "asyncio", "alembic", "sqlalchemy")


class _JournalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = _PRIORITY.get(record.levelno, 6)
        return "\n".join(f"<{level}>{line}" for line in super().format(record).splitlines())


def log_to_stderr(level: str, environment: Mapping[str, str]) -> None:
    """Configure the root logger of this process; may be called again."""
    handler = logging.StreamHandler()
    if under_journal(environment):
        handler.setFormatter(_JournalFormatter("%(name)s[%(process)d]: %(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s[%(process)d]: %(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
