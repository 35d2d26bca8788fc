"""
The tables of the control database, for SQLite and PostgreSQL alike; those of the directories stand in
`schema_directory`.

Guarantees: `REVISION` names the migration that produces exactly these tables (a test compares the two). Times are
wall-clock seconds (float), keys are folded addresses, numbers of holds, spools, requests and audit rows are never
reused. Nothing here talks to a database.
"""

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)

from router.control import columns, schema_directory
from router.control.columns import maybe_time, number, time, word

metadata = columns.metadata

REVISION = "0002"
"""The newest migration; an older database is migrated by `serve`, a newer one is refused."""

EPOCH, FLOOR = "epoch", "floor"
"""Rows of `counter`: the last epoch taken, and the highest epoch whose change rows were pruned."""

DATABASE, DIRECTORY = "database", "directory"
"""`addresses.source`: put there by an import or by hand, or claimed by an entry of a directory."""

directories = schema_directory.directories
directory_entries = schema_directory.entries
directory_claims = schema_directory.claims
directory_domains = schema_directory.domains
directory_losses = schema_directory.losses
directory_writes = schema_directory.writes
directory_stands = schema_directory.stands

site = Table(
    "site",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    word("uuid"),
    time("created_at"),
    number("last_import"),
    number("staging_import"),
    number("visible_import"),
)
counter = Table("counter", metadata, Column("name", Text, primary_key=True), number("value"))
changes = Table(
    "changes",
    metadata,
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    time("at"),
)


def _mailbox_values() -> list[Column[str] | Column[float] | Column[int]]:
    return [
        word("home"),
        word("status", "active"),
        maybe_time("moved_at"),
        word("target"),
        word("division"),
        Column("size_bytes", Integer),
        word("source", "database"),
        word("kind", "mailbox"),
        word("forwards", "[]"),
        number("keeps", 1),
        word("route"),
        word("problem"),
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
    word("source", "database"),
    word("disputed"),
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
    time("opened_at"),
    Column("opened_epoch", Integer, nullable=False),
    word("reason"),
    word("actor"),
    word("batch"),
    maybe_time("deadline"),
    word("target"),
    maybe_time("quiet_at"),
    word("origin", "command"),
    word("home_before"),
    word("status_before"),
    maybe_time("closed_at"),
    Column("closed_epoch", Integer),
    word("closed_by"),
    word("released_to"),
    word("in_doubt", "[]"),
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
    number("applied"),
    word("fingerprint"),
    time("joined_at"),
    Index("uq_members_slot", "node", "slot", unique=True),
)
blocking = Table(
    "blocking",
    metadata,
    Column("incarnation", Text, primary_key=True),
    Column("entry", Integer, primary_key=True, autoincrement=False),
    Column("mailbox", Text, primary_key=True, index=True),
    number("hold"),
    word("store"),
    word("queue_id"),
    word("message_id"),
    word("stage"),
    time("since"),
    maybe_time("until"),
)
stores = Table(
    "stores", metadata, Column("name", Text, primary_key=True), number("paused"), word("reason"), word("actor"),
    time("at"),
)  # fmt: skip
requests = Table(
    "requests",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("spool", Integer, nullable=False),
    word("kind"),
    word("payload", "{}"),
    word("state", "new"),
    time("created_at"),
    word("created_by"),
    maybe_time("answered_at"),
    word("answer"),
    Index("ix_requests_spool_state", "spool", "state"),
    sqlite_autoincrement=True,
)
audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True),
    time("at"),
    word("actor"),
    word("verb"),
    word("key"),
    word("reason"),
    word("before"),
    word("after"),
    Index("ix_audit_key", "key", "number"),
    sqlite_autoincrement=True,
)
alarms = Table(
    "alarms",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    word("text"),
    time("first"),
    time("last"),
    number("count"),
    maybe_time("cleared_at"),
)
spools = Table(
    "spools",
    metadata,
    Column("number", Integer, primary_key=True),
    word("node"),
    word("path"),
    time("created_at"),
    Index("uq_spools_place", "node", "path", unique=True),
    sqlite_autoincrement=True,
)
mark_keys = Table(
    "mark_keys",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("secret", LargeBinary, nullable=False),
    time("created_at"),
    sqlite_autoincrement=True,
)
configuration = Table(
    "configuration",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    word("fingerprint"),
    number("epoch"),
    time("at"),
)
