"""Alembic's entry point: runs the migrations on the connection, and in the transaction, that it is handed."""

from alembic import context

from router.control import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
