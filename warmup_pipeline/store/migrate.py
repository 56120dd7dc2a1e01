"""Bringing a database to the schema this program knows.

Holds: :func:`upgrade` and :func:`check`. A database that is newer than this program is refused:
an older program would not know what it writes.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from warmup_pipeline.store.engine import Store
from warmup_pipeline.store.trouble import StoreError

__all__ = [
    "StoreError",
    "StoreNewerError",
    "StoreVersionError",
    "check",
    "current",
    "newest",
    "upgrade",
]

_FOLDER = Path(__file__).parent / "migrations"
_LOCK_KEY = 7_205_301
"""Advisory lock on PostgreSQL: two processes starting at once must not both create the tables."""


class StoreVersionError(StoreError):
    """The database has another schema than this program needs."""


class StoreNewerError(StoreVersionError):
    """The database has a schema that this program does not know."""


def _config(folder: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder))
    return config


def _scripts(folder: Path) -> ScriptDirectory:
    return ScriptDirectory.from_config(_config(folder))


def newest() -> str:
    """Return the newest version this program knows.

    Raises:
        StoreError: the migrations of this installation are missing or broken.
    """
    return _newest_in(_FOLDER)


@lru_cache(maxsize=4)
def _newest_in(folder: Path) -> str:
    # Once per process: every file of the chain is compiled for it, and a cycle asks several times.
    try:
        head = _scripts(folder).get_current_head()
    except (CommandError, SyntaxError, ImportError, KeyError) as error:
        raise _broken(error) from error
    if head is None:
        raise StoreError("this installation has no migrations: install the package again")
    return head


def _broken(error: Exception) -> StoreError:
    words = " ".join(str(error).split())
    return StoreError(
        f"this installation's migrations are broken ({words}): install the package again; the database was "
        "not changed"
    )


def current(store: Store) -> str | None:
    """Return the version of a database, ``None`` for an empty one.

    Raises:
        StoreError: it cannot be used.
    """
    try:
        with store.troubles(), store.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except DBAPIError as error:
        raise _unusable(store, error) from error
    except CommandError as error:
        raise StoreError(
            f"the database {store.shown_url} has several schema versions at once ({error}): it is not this "
            "program's, or was damaged; restore a backup, or correct WARMUP_DATABASE_URL"
        ) from error


def _unusable(store: Store, error: DBAPIError) -> StoreError:
    cause = str(error.orig or error)
    first = next((line for line in cause.splitlines() if line.strip()), "no reason given")
    return StoreError(
        f"the database {store.shown_url} cannot be used ({first.strip()}); check WARMUP_DATABASE_URL, "
        "and that the server runs or the folder can be written"
    )


def check(store: Store) -> None:
    """Make sure that a database has the schema this program knows.

    Raises:
        StoreNewerError: it is newer: upgrade the program.
        StoreVersionError: it is older: migrate it.
        StoreError: it cannot be used, or this installation's migrations cannot.
    """
    version = current(store)
    wanted = newest()
    if version == wanted:
        return
    known = {script.revision for script in _scripts(_FOLDER).walk_revisions()}
    if version is not None and version not in known:
        raise StoreNewerError(
            f"the database {store.shown_url} has schema version {version}, which is newer than this program "
            f"({wanted}); upgrade warmup_pipeline, or point WARMUP_DATABASE_URL elsewhere"
        )
    raise StoreVersionError(
        f"the database {store.shown_url} has schema version {version or 'none'}, this program needs {wanted}; "
        "any `warmup` command migrates it"
    )


def upgrade(store: Store) -> None:
    """Create or migrate the schema. Doing it again changes nothing.

    Raises:
        StoreNewerError: the database is newer than this program.
        StoreError: it cannot be used, or a migration failed (nothing of it was kept).
    """
    try:
        check(store)
    except StoreNewerError:
        raise
    except StoreVersionError:
        pass
    else:
        return
    config = _config(_FOLDER)
    try:
        with store.write() as tx:
            if not store.is_sqlite:
                # Large tables take their time, and so does waiting for another process that migrates.
                for deadline in ("statement_timeout", "lock_timeout"):
                    tx.connection.exec_driver_sql(f"SET LOCAL {deadline} = 0")
                tx.connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})")
            config.attributes["connection"] = tx.connection
            command.upgrade(config, "head")
    except StoreError:
        raise
    except DBAPIError as error:
        first = str(error.orig).splitlines()[0]
        raise StoreError(
            f"migrating {store.shown_url} to {newest()} failed ({first}); nothing was changed, restore the "
            "tables it names or start from an empty database"
        ) from error
    except Exception as error:
        # A migration is code: whatever it raises, its transaction is undone.
        raise _broken(error) from error
