"""Databases that many short tests share, emptied before each of them.

Making and migrating a PostgreSQL database takes longer than a cycle in it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from warmup_pipeline.store import migrate, schema
from warmup_pipeline.store.engine import Store
from warmup_pipeline_tests.conftest import new_postgres_database
from warmup_pipeline_tests.support import Lab, chip_row, open_lab


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def migrated_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """One migrated store of each kind."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('shared') / 'warmup.db'}"
        yield from _opened(url)
    else:
        with new_postgres_database(request.getfixturevalue("postgres_server")) as url:
            yield from _opened(url)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One migrated store on SQLite."""
    yield from _opened(f"sqlite:///{tmp_path_factory.mktemp('shared') / 'warmup.db'}")


@pytest.fixture
def clean_store(migrated_store: Store) -> Store:
    """An empty store, once on SQLite and once on PostgreSQL."""
    return _emptied(migrated_store)


@pytest.fixture
def clean_sqlite(migrated_sqlite: Store) -> Store:
    """An empty store on SQLite."""
    return _emptied(migrated_sqlite)


def _opened(url: str) -> Iterator[Store]:
    store = Store(url)
    migrate.upgrade(store)
    yield store
    store.close()


def _emptied(store: Store) -> Store:
    with store.write() as tx:
        for table in reversed(schema.metadata.sorted_tables):
            tx.connection.execute(table.delete())
    return store


@pytest.fixture
def lab(store: Store) -> Iterator[Lab]:
    """Eight chips that know each other, on both databases."""
    with open_lab(store) as opened:
        opened.add([chip_row(n, ddd=11) for n in range(1, 9)])
        opened.cycle()
        yield opened
