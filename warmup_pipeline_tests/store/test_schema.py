"""The traps: a migration that does not give the declared tables, and a double that the database allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import IntegrityError

from warmup_pipeline.store import chips, migrate, pools
from warmup_pipeline.store.bulk import ROWS_IN_ARRAYS, Columns, insert_rows, update_rows, write_changed
from warmup_pipeline.store.engine import ROWS_PER_STATEMENT, Store, StoreUrlError, parse_url
from warmup_pipeline.store.schema import chips as chips_table
from warmup_pipeline.store.schema import conversations, cycles, metadata, warming_day
from warmup_pipeline_tests.support import MORNING, chip_row, run_sql


def put_chips(store: Store, count: int) -> list[dict[str, Any]]:
    rows = [chip_row(number) for number in range(1, count + 1)]
    with store.write() as tx:
        pools.ensure(tx, "default", at=MORNING)
        chips.insert(tx, rows, [])
    return rows


def test_migrating_an_empty_database_gives_exactly_the_declared_tables(store: Store) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_migrating_twice_changes_nothing(store: Store) -> None:
    put_chips(store, 1)
    migrate.upgrade(store)
    with store.read() as tx:
        assert len(chips.of_pool(tx)) == 1


def test_a_database_of_a_newer_version_is_refused_in_one_line(store: Store) -> None:
    run_sql(store, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(migrate.StoreVersionError, match="newer than this program") as refused:
        migrate.upgrade(store)
    assert len(str(refused.value).splitlines()) == 1


def test_an_unreachable_database_is_told_in_one_line_without_its_password() -> None:
    away = Store("postgresql://somebody:the-password@127.0.0.1:1/nothing")
    with pytest.raises(migrate.StoreError, match="WARMUP_DATABASE_URL") as refused:
        migrate.upgrade(away)
    assert "the-password" not in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("url", ["nonsense", "mysql://u:p@h/d", ""])
def test_a_url_that_cannot_be_used_says_what_to_use(url: str) -> None:
    with pytest.raises(StoreUrlError, match="sqlite:"):
        parse_url(url)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE chips SET status = 'connected'",
        "UPDATE chips SET phase = 'phase9'",
        "UPDATE chips SET provider = 'telegram'",
        "UPDATE chips SET pool = 'nowhere'",
        "UPDATE chips SET phone = '5511900000001'",
        "UPDATE pools SET clock = 'sundial'",
        "UPDATE pools SET clock = 'stepped'",
    ],
)
def test_the_database_itself_refuses_what_cannot_be(store: Store, change: str) -> None:
    put_chips(store, 2)
    with pytest.raises(IntegrityError):
        run_sql(store, change)


def conversation(number: int, one: str, other: str) -> dict[str, Any]:
    return {
        "id": f"conversation-{number}",
        "pool": "default",
        "opener_chip_id": one,
        "responder_chip_id": other,
        "pair_key": "|".join(sorted((one, other))),
        "dialogue_id": "d",
        "opens_with": "text",
        "turns": 2,
        "state": "opening",
        "created_at": MORNING,
    }


def test_a_pair_has_one_unclosed_conversation_whoever_opens(store: Store) -> None:
    one, other = (row["id"] for row in put_chips(store, 2))
    with store.write() as tx:
        insert_rows(tx, conversations, [conversation(1, one, other)])
    with pytest.raises(IntegrityError), store.write() as tx:
        insert_rows(tx, conversations, [conversation(2, other, one)])
    run_sql(store, "UPDATE conversations SET state = 'closed', reason = 'completed'")
    with store.write() as tx:
        insert_rows(tx, conversations, [conversation(2, other, one)])


def test_a_chip_cannot_talk_to_itself(store: Store) -> None:
    (row,) = put_chips(store, 1)
    with pytest.raises(IntegrityError), store.write() as tx:
        insert_rows(tx, conversations, [conversation(1, row["id"], row["id"])])


def test_a_pool_has_one_cycle_per_tick_and_a_run_one_cycle(store: Store) -> None:
    put_chips(store, 1)
    row = {
        "id": "cycle-1",
        "pool": "default",
        "tick": MORNING,
        "day": MORNING.date(),
        "root_run_id": "run-1",
        "policy": "p",
        "mode": "simulated",
        "state": "running",
        "began_at": MORNING,
        "lease_until": MORNING,
        "counts": {},
    }
    with store.write() as tx:
        insert_rows(tx, cycles, [row])
    for twin in (
        {"id": "cycle-2", "root_run_id": "run-2"},
        {"id": "cycle-3", "tick": MORNING.replace(hour=12)},
    ):
        with pytest.raises(IntegrityError), store.write() as tx:
            insert_rows(tx, cycles, [row | twin])


@pytest.mark.parametrize("count", [0, 1, ROWS_PER_STATEMENT + 1])
def test_many_rows_are_changed_each_to_its_own_values_in_few_statements(store: Store, count: int) -> None:
    rows = put_chips(store, count)
    seen: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        seen.append(statement)

    sa.event.listen(store.engine, "before_cursor_execute", note)
    with store.write() as tx:
        changes = [
            {"id": row["id"], "label": f"new {row['last4']}", "cooldown_until": MORNING if n % 2 else None}
            for n, row in enumerate(rows)
        ]
        update_rows(tx, chips_table, changes)
    sa.event.remove(store.engine, "before_cursor_execute", note)
    most = ROWS_PER_STATEMENT if store.is_sqlite else ROWS_IN_ARRAYS
    assert sum("UPDATE" in statement for statement in seen) == -(-count // most)
    with store.read() as tx:
        found = {chip.id: chip for chip in chips.of_pool(tx)}
    assert {chip.label for chip in found.values()} == {change["label"] for change in changes}
    assert all(found[change["id"]].cooldown_until == change["cooldown_until"] for change in changes)


def test_rows_kept_in_columns_are_the_rows_that_they_were_made_of() -> None:
    rows = [{"chip_id": str(number), "at": MORNING, "score": number} for number in range(5)]
    columns = in_columns(rows)
    assert list(columns) == rows
    assert [columns[place] for place in (0, -1)] == [rows[0], rows[-1]]
    assert list(columns[1:3]) == rows[1:3]
    assert (len(columns), len(Columns({})), list(Columns({})), list(columns[5:])) == (5, 0, [], [])


def test_a_chip_never_shows_its_number_by_itself(sqlite_store: Store, tmp_path: Path) -> None:
    (row,) = put_chips(sqlite_store, 1)
    with sqlite_store.read() as tx:
        (chip,) = chips.of_pool(tx)
    assert row["phone"] not in repr(chip)
    assert row["last4"] in repr(chip)


def in_columns(rows: list[dict[str, Any]]) -> Columns:
    return Columns.of(tuple(rows[0]), [tuple(row.values()) for row in rows])


@pytest.mark.parametrize("shape", [list, in_columns])
def test_what_is_derived_again_and_has_not_changed_is_stamped_and_not_written_again(
    store: Store, shape: Callable[[list[dict[str, Any]]], Sequence[dict[str, Any]]]
) -> None:
    chip_ids = [row["id"] for row in put_chips(store, 3)]

    def row(chip_id: str, days: int | None, at: datetime) -> dict[str, Any]:
        return {
            "chip_id": chip_id,
            "pool": "default",
            "computed_at": at,
            "computed_day": at.date(),
            "age_reference": MORNING,
            "warming_day": days,
        }

    def write(rows: list[dict[str, Any]], at: datetime, *, whole: bool = False) -> int:
        stamps = {"computed_at": at, "computed_day": at.date()}
        with store.write() as tx:
            mine = warming_day.c.pool == "default"
            return write_changed(tx, warming_day, shape(rows), within=mine, stamps=stamps, whole=whole)

    later = MORNING + timedelta(minutes=5)
    assert write([row(chip_id, 1, MORNING) for chip_id in chip_ids], MORNING) == 3
    assert write([row(chip_id, n or 1, later) for n, chip_id in enumerate(chip_ids)], later) == 1
    assert write([row(chip_id, None, later) for chip_id in chip_ids[:1]], later, whole=True) == 1
    with store.read() as tx:
        found = list(tx.connection.execute(sa.select(warming_day)).mappings())
    assert [(one["chip_id"], one["warming_day"], one["computed_at"]) for one in found] == [
        (chip_ids[0], None, later)
    ]
