"""Bringing a database to the schema this program knows.

Holds: :func:`upgrade` and :func:`check`. A database that is newer than this program is refused:
an older program would not know what it writes.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError, OperationalError

from warmup_pipeline.store.engine import Store

_FOLDER = Path(__file__).parent / "migrations"
_LOCK_KEY = 7_205_301
"""Advisory lock on PostgreSQL: two processes starting at once must not both create the tables."""


class StoreError(RuntimeError):
    """The database cannot be used; the text is one line that says what to do."""


class StoreVersionError(StoreError):
    """The database has a schema that this program does not know."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    return config


def newest() -> str:
    """Return the newest version this program knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise StoreError("this installation has no migrations: install the package again")
    return head


def _unreachable(store: Store, error: Exception) -> StoreError:
    cause = str(getattr(error, "orig", None) or error)
    first = next((line for line in cause.splitlines() if line.strip()), "no reason given")
    return StoreError(
        f"the database {store.shown_url} cannot be used ({first.strip()}); check WARMUP_DATABASE_URL, "
        "and that the server runs or the folder can be written"
    )


def current(store: Store) -> str | None:
    """Return the version of a database, ``None`` for an empty one.

    Raises:
        StoreError: it cannot be reached.
    """
    try:
        with store.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except DBAPIError as error:
        raise _unreachable(store, error) from None


def check(store: Store) -> None:
    """Make sure that a database has the schema this program knows.

    Raises:
        StoreVersionError: it is older (migrate it) or newer (upgrade the program).
        StoreError: it cannot be reached.
    """
    version = current(store)
    if version == newest():
        return
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if version is not None and version not in known:
        raise StoreVersionError(
            f"the database {store.shown_url} has schema version {version}, which is newer than this program "
            f"({newest()}); upgrade warmup_pipeline, or point WARMUP_DATABASE_URL elsewhere"
        )
    raise StoreVersionError(
        f"the database {store.shown_url} has schema version {version or 'none'}, this program needs {newest()}; "
        "any `warmup` command migrates it"
    )


def upgrade(store: Store) -> None:
    """Create or migrate the schema. Doing it again changes nothing.

    Raises:
        StoreVersionError: the database is newer than this program.
        StoreError: it cannot be reached, or a migration failed (nothing of it was kept).
    """
    try:
        check(store)
    except StoreVersionError as error:
        if "newer than this program" in str(error):
            raise
    else:
        return
    config = _config()
    try:
        with store.write() as tx:
            if not store.is_sqlite:
                tx.connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})")
            config.attributes["connection"] = tx.connection
            command.upgrade(config, "head")
    except OperationalError as error:
        raise _unreachable(store, error) from None
    except DBAPIError as error:
        first = str(error.orig).splitlines()[0]
        raise StoreError(
            f"migrating {store.shown_url} to {newest()} failed ({first}); nothing was changed, restore the "
            "tables it names or start from an empty database"
        ) from None
