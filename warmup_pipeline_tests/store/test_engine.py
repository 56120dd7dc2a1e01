"""The traps: a reader that sees two moments, a held pool that stops the webhooks, collisions told as bugs."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

from warmup_pipeline.store import pools, trouble
from warmup_pipeline.store.engine import Store
from warmup_pipeline.store.types import UtcDateTime

AT = datetime(2026, 3, 2, 13, 0, tzinfo=UTC)


def known(tx: object) -> int:
    return int(tx.connection.execute(sa.text("SELECT count(*) FROM pools")).scalar_one())  # type: ignore[attr-defined] # a transaction


def test_a_reader_sees_one_moment_whatever_is_written_meanwhile(store: Store) -> None:
    with store.read() as reader:
        before = known(reader)
        with Store(store.url.render_as_string(hide_password=False)).write() as writer:
            pools.ensure(writer, "another", at=AT)
        assert known(reader) == before
    with store.read() as reader:
        assert known(reader) == before + 1


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_one_transaction_after_the_other_keeps_to_one_connection_and_what_that_has_read(store: Store) -> None:
    with store.read() as one, store.read() as another, store.read() as third:
        opened = {id(tx.connection.connection.driver_connection) for tx in (one, another, third)}
    used = set()
    for _ in range(6):
        with store.read() as tx:
            used.add(id(tx.connection.connection.driver_connection))
    assert len(opened) == 3
    assert len(used) == 1


def hold(store: Store, pool: str) -> None:
    with store.write() as tx:
        tx.connection.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")
        tx.lock_pool(pool)


@pytest.mark.parametrize("store", ["postgresql"], indirect=True)
def test_what_names_a_held_pool_is_written_without_waiting(store: Store) -> None:
    with store.write() as tx:
        pools.ensure(tx, "held", at=AT)
    with store.write() as cycle:
        cycle.lock_pool("held")
        with store.write() as webhooks:
            webhooks.connection.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")
            # What the check of a foreign key to the pool asks for.
            webhooks.connection.exec_driver_sql("SELECT 1 FROM pools WHERE name = 'held' FOR KEY SHARE")
        with pytest.raises(trouble.StoreError):
            hold(store, "held")


@pytest.mark.parametrize("state", ["40P01", "40001"])
def test_a_collision_of_transactions_is_trouble_that_passes_and_no_bug(state: str) -> None:
    class Collided(Exception):
        sqlstate = state

    told = trouble.told(DBAPIError("UPDATE", {}, Collided("deadlock detected")), "postgresql://db")
    assert told is not None
    assert "tried again" in str(told)


def test_both_instants_of_an_hour_that_comes_twice_are_stored_as_they_are() -> None:
    zone = ZoneInfo("America/New_York")
    store_as = UtcDateTime().bind_processor(sqlite.dialect())
    assert store_as is not None
    first = datetime(2026, 11, 1, 1, 30, tzinfo=zone)
    assert store_as(first) == "2026-11-01 05:30:00.000000"
    assert store_as(first.replace(fold=1)) == "2026-11-01 06:30:00.000000"
