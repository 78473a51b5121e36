"""Run by Alembic. The store hands in its own connection: migrations are applied inside its transaction."""  # noqa: INP001 - data for Alembic, not a package

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], target_metadata=None)
context.run_migrations()
