"""Versioned migrations of the pool's database (Alembic).

Holds: one module per version under ``versions``. To add one: change ``store.schema``, write the
next version beside the others; a test proves that migrating gives exactly the declared tables.
"""
