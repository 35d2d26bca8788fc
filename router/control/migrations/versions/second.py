"""People who come from directories: the mirror, what was written there, and what a mailbox needs besides."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("mailboxes", "staged_mailboxes"):
        for column in (
            _word("source", "database"),
            _word("kind", "mailbox"),
            _word("forwards", "[]"),
            _number("keeps", "1"),
            _word("route"),
            _word("problem"),
        ):
            op.add_column(table, column)
    op.add_column("addresses", _word("source", "database"))
    op.add_column("addresses", _word("disputed"))
    _directories()
    _entries()
    _domains()
    _written()


def _word(name: str, default: str = "") -> "sa.Column[str]":
    return sa.Column(name, sa.Text(), server_default=default, nullable=False)


def _number(name: str, default: str = "0") -> "sa.Column[int]":
    return sa.Column(name, sa.Integer(), server_default=default, nullable=False)


def _text(name: str) -> "sa.Column[str]":
    return sa.Column(name, sa.Text(), nullable=False)


def _directories() -> None:
    op.create_table(
        "directories",
        _text("name"),
        _number("rank"),
        _word("cookie"),
        sa.Column("followed_at", sa.Float(), nullable=True),
        sa.Column("swept_at", sa.Float(), nullable=True),
        _number("people"),
        _word("fault"),
        sa.Column("fault_at", sa.Float(), nullable=True),
        _number("generation"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_directories")),
    )


def _entries() -> None:
    op.create_table(
        "directory_entries",
        sa.Column("number", sa.Integer(), nullable=False),
        _text("source"),
        _text("name"),
        _word("dn"),
        _text("key"),
        _text("domain"),
        _word("role"),
        _word("version"),
        _word("digest"),
        _word("home"),
        _word("host"),
        _word("standing"),
        _word("forwards", "[]"),
        _number("keeps", "1"),
        _word("route"),
        _word("addresses", "[]"),
        _word("shown", "[]"),
        _word("problem"),
        _word("doubt"),
        _number("generation"),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_directory_entries")),
    )
    with op.batch_alter_table("directory_entries", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_directory_entries_key"), ["key"], unique=False)
        batch_op.create_index("ix_directory_entries_domain", ["source", "domain", "key"], unique=False)
        batch_op.create_index("uq_directory_entries_name", ["source", "name"], unique=True)
    op.create_table(
        "directory_claims",
        _text("address"),
        sa.Column("entry", sa.Integer(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("address", "entry", name=op.f("pk_directory_claims")),
        sqlite_with_rowid=False,
    )


def _domains() -> None:
    op.create_table(
        "directory_domains",
        _text("source"),
        _text("domain"),
        _word("dn"),
        _word("version"),
        _word("digest"),
        _word("home"),
        _word("standing"),
        _word("shown", "[]"),
        _word("problem"),
        _word("doubt"),
        _number("generation"),
        sa.Column("cursor", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("source", "domain", name=op.f("pk_directory_domains")),
    )
    op.create_table(
        "directory_losses",
        _text("source"),
        _text("domain"),
        _number("missing"),
        _number("known"),
        sa.Column("since", sa.Float(), nullable=False),
        _number("accepted"),
        sa.PrimaryKeyConstraint("source", "domain", name=op.f("pk_directory_losses")),
    )


def _written() -> None:
    op.create_table(
        "directory_writes",
        sa.Column("hold", sa.Integer(), autoincrement=False, nullable=False),
        _text("mailbox"),
        _word("source"),
        _word("dn"),
        _word("state"),
        sa.Column("status_before", sa.Text(), nullable=True),
        sa.Column("host_before", sa.Text(), nullable=True),
        _word("home"),
        sa.Column("host", sa.Text(), nullable=True),
        _word("version"),
        _number("seen"),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("hold", name=op.f("pk_directory_writes")),
    )
    with op.batch_alter_table("directory_writes", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_directory_writes_mailbox"), ["mailbox"], unique=False)
    op.create_table(
        "directory_stands",
        _text("mailbox"),
        _word("source"),
        _word("home"),
        _word("standing"),
        _word("version"),
        _number("by_value"),
        _word("base"),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox", name=op.f("pk_directory_stands")),
    )
