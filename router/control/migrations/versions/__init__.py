"""Alembic migrations of the control database; `router.control.migrate` runs them."""
