"""
The tables of the directories: what was read there, and what was written.

Guarantees: `entries`, `claims` and `domains` are the mirror, and nothing but what the directories say; what it means
for a mailbox stands in `mailboxes` and `addresses`. `writes` and `stands` are our own side of barrier.md 12.
"""

from sqlalchemy import Column, Index, Integer, Table, Text

from router.control.columns import maybe_time, maybe_word, metadata, number, time, word

directories = Table(
    "directories",
    metadata,
    Column("name", Text, primary_key=True),
    number("rank"),  # its place in the configuration: for one mailbox known to several, the lowest is believed
    word("cookie"),
    maybe_time("followed_at"),
    maybe_time("swept_at"),
    number("people"),
    word("fault"),
    maybe_time("fault_at"),
    number("generation"),  # grows with each sweep that begins
)
entries = Table(
    "directory_entries",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("source", Text, nullable=False),
    Column("name", Text, nullable=False),  # the DN folded: servers need not agree about its spelling
    word("dn"),
    Column("key", Text, nullable=False, index=True),
    Column("domain", Text, nullable=False),
    word("role"),
    word("version"),
    word("digest"),
    word("home"),
    word("host"),
    word("standing"),
    word("forwards", "[]"),
    number("keeps", 1),
    word("route"),
    word("addresses", "[]"),
    word("shown", "[]"),
    word("problem"),
    word("doubt"),
    number("generation"),
    time("seen_at"),
    Index("uq_directory_entries_name", "source", "name", unique=True),
    Index("ix_directory_entries_domain", "source", "domain", "key"),
)
claims = Table(
    "directory_claims",
    metadata,
    Column("address", Text, primary_key=True),
    Column("entry", Integer, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
domains = Table(
    "directory_domains",
    metadata,
    Column("source", Text, primary_key=True),
    Column("domain", Text, primary_key=True),
    word("dn"),
    word("version"),
    word("digest"),
    word("home"),
    word("standing"),
    word("shown", "[]"),
    word("problem"),
    word("doubt"),
    number("generation"),
    maybe_word("cursor"),  # the last person that its newest state was applied to; NULL: everybody
)
losses = Table(
    "directory_losses",
    metadata,
    Column("source", Text, primary_key=True),
    Column("domain", Text, primary_key=True),
    number("missing"),
    number("known"),
    time("since"),
    number("accepted"),  # how many an operator has accepted to lose
)
writes = Table(
    "directory_writes",
    metadata,
    Column("hold", Integer, primary_key=True, autoincrement=False),
    Column("mailbox", Text, nullable=False, index=True),
    word("source"),
    word("dn"),
    word("state"),
    maybe_word("status_before"),  # raw; NULL: the attribute was absent
    maybe_word("host_before"),
    word("home"),
    maybe_word("host"),
    word("version"),
    number("seen"),
    time("at"),
)
stands = Table(
    "directory_stands",
    metadata,
    Column("mailbox", Text, primary_key=True),
    word("source"),
    word("home"),
    word("standing"),
    word("version"),
    number("by_value"),
    word("base"),
    time("at"),
)
