"""
The tables of the control database, for SQLite and PostgreSQL alike.

Guarantees: `REVISION` names the migration that produces exactly these tables (a test compares the two). Times are
wall-clock seconds (float), keys are folded addresses, numbers of holds, spools, requests and audit rows are never
reused. Nothing here talks to a database.
"""

from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

REVISION = "0001"
"""The newest migration; an older database is migrated by `serve`, a newer one is refused."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

EPOCH, FLOOR = "epoch", "floor"
"""Rows of `counter`: the last epoch taken, and the highest epoch whose change rows were pruned."""


def _word(name: str, default: str = "") -> Column[str]:
    return Column(name, Text, nullable=False, server_default=default)


def _number(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default="0")


def _time(name: str) -> Column[float]:
    return Column(name, Float, nullable=False)


def _maybe_time(name: str) -> Column[float]:
    return Column(name, Float)


site = Table(
    "site",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    _word("uuid"),
    _time("created_at"),
    _number("last_import"),
    _number("staging_import"),
    _number("visible_import"),
)
counter = Table("counter", metadata, Column("name", Text, primary_key=True), _number("value"))
changes = Table(
    "changes",
    metadata,
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    _time("at"),
)


def _mailbox_values() -> list[Column[str] | Column[float] | Column[int]]:
    return [
        _word("home"),
        _word("status", "active"),
        _maybe_time("moved_at"),
        _word("target"),
        _word("division"),
        Column("size_bytes", Integer),
    ]


mailboxes = Table(
    "mailboxes", metadata, Column("key", Text, primary_key=True), *_mailbox_values(), Index("ix_mailboxes_home", "home")
)
addresses = Table(
    "addresses",
    metadata,
    Column("address", Text, primary_key=True),
    Column("mailbox", Text, ForeignKey("mailboxes.key"), nullable=False, index=True),
    Column("domain", Text, nullable=False, index=True),
)
staged_mailboxes = Table(
    "staged_mailboxes",
    metadata,
    Column("import_number", Integer, primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    *_mailbox_values(),
)
staged_addresses = Table(
    "staged_addresses",
    metadata,
    Column("import_number", Integer, primary_key=True, autoincrement=False),
    Column("address", Text, primary_key=True),
    Column("mailbox", Text),  # NULL: the address is taken away
    Column("row_key", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Index("ix_staged_addresses_row", "import_number", "row_key"),
    Index("ix_staged_addresses_domain", "import_number", "domain"),
)
holds = Table(
    "holds",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("mailbox", Text, ForeignKey("mailboxes.key"), nullable=False, index=True),
    _time("opened_at"),
    Column("opened_epoch", Integer, nullable=False),
    _word("reason"),
    _word("actor"),
    _word("batch"),
    _maybe_time("deadline"),
    _word("target"),
    _maybe_time("quiet_at"),
    _word("origin", "command"),
    _word("home_before"),
    _word("status_before"),
    _maybe_time("closed_at"),
    Column("closed_epoch", Integer),
    _word("closed_by"),
    _word("released_to"),
    _word("in_doubt", "[]"),
    Index(
        "uq_holds_open",
        "mailbox",
        unique=True,
        sqlite_where=text("closed_at IS NULL"),
        postgresql_where=text("closed_at IS NULL"),
    ),
    sqlite_autoincrement=True,
)
members = Table(
    "members",
    metadata,
    Column("incarnation", Text, primary_key=True),
    Column("node", Text, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("spool", Integer, nullable=False),
    _number("applied"),
    _word("fingerprint"),
    _time("joined_at"),
    Index("uq_members_slot", "node", "slot", unique=True),
)
blocking = Table(
    "blocking",
    metadata,
    Column("incarnation", Text, primary_key=True),
    Column("entry", Integer, primary_key=True, autoincrement=False),
    Column("mailbox", Text, primary_key=True, index=True),
    _number("hold"),
    _word("store"),
    _word("queue_id"),
    _word("message_id"),
    _word("stage"),
    _time("since"),
    _maybe_time("until"),
)
stores = Table(
    "stores", metadata, Column("name", Text, primary_key=True), _number("paused"), _word("reason"), _word("actor"),
    _time("at"),
)  # fmt: skip
requests = Table(
    "requests",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("spool", Integer, nullable=False),
    _word("kind"),
    _word("payload", "{}"),
    _word("state", "new"),
    _time("created_at"),
    _word("created_by"),
    _maybe_time("answered_at"),
    _word("answer"),
    Index("ix_requests_spool_state", "spool", "state"),
    sqlite_autoincrement=True,
)
audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True),
    _time("at"),
    _word("actor"),
    _word("verb"),
    _word("key"),
    _word("reason"),
    _word("before"),
    _word("after"),
    Index("ix_audit_key", "key", "number"),
    sqlite_autoincrement=True,
)
alarms = Table(
    "alarms",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    _word("text"),
    _time("first"),
    _time("last"),
    _number("count"),
    _maybe_time("cleared_at"),
)
spools = Table(
    "spools",
    metadata,
    Column("number", Integer, primary_key=True),
    _word("node"),
    _word("path"),
    _time("created_at"),
    Index("uq_spools_place", "node", "path", unique=True),
    sqlite_autoincrement=True,
)
mark_keys = Table(
    "mark_keys",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("secret", LargeBinary, nullable=False),
    _time("created_at"),
    sqlite_autoincrement=True,
)
configuration = Table(
    "configuration",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    _word("fingerprint"),
    _number("epoch"),
    _time("at"),
)
