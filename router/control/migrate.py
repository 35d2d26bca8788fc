"""
Creates the control database and brings an older one up to date, from the migrations inside this package.

Guarantees: all of it happens in the caller's one write transaction, so a database is either complete or untouched;
two processes that create at the same time end with one site. Works from a source tree and from an installed wheel.
"""

import secrets
import time
import uuid
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert, inspect, select, text

from router.control import schema
from router.errors import ControlUnavailable

_SCRIPTS = Path(__file__).parent / "migrations"
MARK_KEYS = 2
"""Two keys of the loop marks are valid at a time, so that one can be changed while marked mail is under way."""


def migrate(connection: Connection) -> None:
    """Run all migrations that are missing, then fill what a new site starts with. Raises `ControlUnavailable`."""
    config = configuration(connection)
    if inspect(connection).has_table("alembic_version"):
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if found is not None and found not in known:
            raise ControlUnavailable(f"the control database was written by a newer version (schema {found})")
    command.upgrade(config, "head")
    if connection.execute(select(schema.site.c.id)).first() is None:
        _fill(connection, time.time())


def configuration(connection: Connection) -> Config:
    """Alembic's configuration, without any file of its own."""
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _fill(connection: Connection, now: float) -> None:
    connection.execute(insert(schema.site).values(id=1, uuid=str(uuid.uuid4()), created_at=now))
    connection.execute(insert(schema.counter), [{"name": name, "value": 0} for name in (schema.EPOCH, schema.FLOOR)])
    connection.execute(insert(schema.configuration).values(id=1, fingerprint="", epoch=0, at=now))
    keys = [{"secret": secrets.token_bytes(32), "created_at": now} for _ in range(MARK_KEYS)]
    connection.execute(insert(schema.mark_keys), keys)
