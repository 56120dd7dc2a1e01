"""The trap: a statement made ready once that is not the statement any more, or a transaction half kept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from warmup_pipeline.store import pools
from warmup_pipeline.store.engine import Store
from warmup_pipeline.store.schema import cycles
from warmup_pipeline.store.scratch import scratch_store

AT = datetime(2026, 3, 2, 11, 0, tzinfo=UTC)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Store]:
    store = scratch_store(tmp_path / "scratch.db")
    with store.write() as tx:
        pools.ensure(tx, "default", at=AT)
    yield store
    store.close()


def a_cycle(number: int) -> dict[str, object]:
    at = AT + number * timedelta(minutes=5)
    return {
        "id": f"cycle-{number}",
        "pool": "default",
        "tick": at,
        "day": at.date(),
        "policy": "default@1",
        "mode": "simulated",
        "state": "finished",
        "began_at": at,
        "lease_until": at,
        "duration_s": number / 8,
        "counts": {"sent": number, "by": [1, None]},
    }


INSERT = sa.insert(cycles)
SOME = (
    sa.select(cycles.c.id, cycles.c.tick, cycles.c.day, cycles.c.duration_s, cycles.c.counts)
    .where(
        cycles.c.id.in_(sa.bindparam("ids", expanding=True)),
        cycles.c.state.in_(["finished", "failed"]),
        cycles.c.tick <= sa.bindparam("until"),
    )
    .order_by(cycles.c.tick)
)


def test_a_statement_seen_before_takes_and_gives_the_same_values(scratch: Store) -> None:
    rows = [a_cycle(n) for n in range(6)]
    with scratch.write() as tx:
        for row in rows:
            tx.connection.execute(INSERT, [row])
    wanted = [["cycle-1"], ["cycle-1", "cycle-4"], ["cycle-5"], ["cycle-2", "cycle-3"], []]
    names = ("id", "tick", "day", "duration_s", "counts")
    for ids in [*wanted, *wanted]:
        asked = {"ids": ids, "until": AT + timedelta(minutes=20)}
        expected = [row for row in rows if row["id"] in ids and row["id"] != "cycle-5"]
        with scratch.read() as tx:
            found = [dict(row) for row in tx.connection.execute(SOME, asked).mappings()]
        with scratch.engine.connect() as plain:
            assert found == [dict(row) for row in plain.execute(SOME, asked).mappings()]
        assert found == [{name: row[name] for name in names} for row in expected]


def test_a_refused_statement_is_refused_as_sqlalchemy_refuses_it_and_nothing_of_it_is_kept(
    scratch: Store,
) -> None:
    with scratch.write() as tx:
        tx.connection.execute(INSERT, [a_cycle(0)])
        tx.connection.execute(INSERT, [a_cycle(1)])

    def insert_again() -> None:
        with scratch.write() as tx:
            tx.connection.execute(INSERT, [a_cycle(2)])
            tx.connection.execute(INSERT, [a_cycle(1)])

    with pytest.raises(IntegrityError):
        insert_again()
    count = sa.select(sa.func.count()).select_from(cycles)
    with scratch.read() as tx:
        assert tx.connection.execute(count).scalar_one() == 2
    with scratch.write() as tx:
        tx.connection.execute(INSERT, [a_cycle(2)])
    with scratch.read() as tx:
        assert tx.connection.execute(count).scalar_one() == 3


def test_a_transaction_inside_another_sees_what_was_committed_before(scratch: Store) -> None:
    count = sa.select(sa.func.count()).select_from(cycles)
    with scratch.write() as tx:
        tx.connection.execute(INSERT, [a_cycle(0)])
        with scratch.read() as inner:
            assert inner.connection.execute(count).scalar_one() == 0
        assert tx.connection.execute(count).scalar_one() == 1
