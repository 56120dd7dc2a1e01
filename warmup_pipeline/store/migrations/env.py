"""How Alembic runs here: always on a connection that ``store.migrate`` opened."""

from __future__ import annotations

from alembic import context

from warmup_pipeline.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite cannot alter a constraint in place: a changed table is copied.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
