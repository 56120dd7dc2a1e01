"""The trap: an answer that was true once. What is remembered must never differ from asking again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from warmup_pipeline.store import operators, pools, summaries
from warmup_pipeline.store.engine import Store, Transaction
from warmup_pipeline.store.rollup_touches import add
from warmup_pipeline.store.schema import conversations
from warmup_pipeline.store.scratch import ScratchStore, scratch_store

AT = datetime(2026, 3, 2, 11, 0, tzinfo=UTC)
SWITCH = {
    "id": "a-switch",
    "scope": "pool",
    "target": "default",
    "reason": "a test",
    "author": "somebody",
    "set_at": AT,
    "expires_at": None,
}


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Store]:
    store = scratch_store(tmp_path / "scratch.db")
    with store.write() as tx:
        pools.ensure(tx, "default", at=AT)
    yield store
    store.close()


@pytest.fixture
def asked(scratch: Store) -> list[str]:
    """Every statement that reaches the database, from now on."""
    seen: list[str] = []
    assert isinstance(scratch, ScratchStore)
    assert scratch._driver is not None
    scratch._driver.set_trace_callback(seen.append)
    return seen


def is_off(store: Store) -> bool:
    with store.read() as tx:
        return operators.kill_switches_at(tx, AT).covers("default", "a-chip")


def test_a_read_is_asked_once_until_its_table_is_written(scratch: Store, asked: list[str]) -> None:
    assert not is_off(scratch)
    assert not is_off(scratch)
    assert sum("kill_switches" in text for text in asked) == 1
    with scratch.write() as tx:
        operators.set_kill_switch(tx, SWITCH)
        assert operators.kill_switches_at(tx, AT).covers("default", "a-chip")
    assert is_off(scratch)


def test_what_was_read_of_a_transaction_that_is_rolled_back_is_forgotten(scratch: Store) -> None:
    with scratch.engine.connect() as connection:
        tx = Transaction(connection, scratch.memory)
        operators.set_kill_switch(tx, SWITCH)
        assert operators.kill_switches_at(tx, AT).covers("default", "a-chip")
        connection.rollback()
    assert not is_off(scratch)


def test_a_reader_that_began_before_a_write_leaves_nothing_behind(scratch: Store) -> None:
    with scratch.read() as reader:
        # SQLite takes its view of the database at the first statement.
        reader.connection.execute(sa.text("SELECT count(*) FROM kill_switches"))
        with scratch.write() as tx:
            operators.set_kill_switch(tx, SWITCH)
        assert not operators.kill_switches_at(reader, AT).covers("default", "a-chip")
    assert is_off(scratch)


def test_a_write_that_finds_no_row_changes_nothing_that_is_known(scratch: Store, asked: list[str]) -> None:
    assert not is_off(scratch)
    with scratch.write() as tx:
        assert operators.lift_kill_switch(tx, "pool", "default", at=AT, author="somebody") == 0
    assert not is_off(scratch)
    assert sum(text.startswith("SELECT") and "kill_switches" in text for text in asked) == 1


def test_adding_the_log_up_leaves_what_is_known_of_everything_else(scratch: Store, asked: list[str]) -> None:
    # What is found is kept in a table of the connection meanwhile: making one changes nothing that was read.
    every = sa.select(conversations.c.id.label("conversation_id")).subquery("chosen")
    with scratch.write() as tx:
        # Statements are made ready when they are seen first.
        add(tx, every)
    assert not is_off(scratch)
    with scratch.write() as tx:
        add(tx, every)
    assert not is_off(scratch)
    assert any("TEMPORARY" in text for text in asked)
    assert sum(text.startswith("SELECT") and "kill_switches" in text for text in asked) == 1


def test_an_answer_may_be_changed_by_whoever_got_it(scratch: Store) -> None:
    with scratch.read() as tx:
        summaries.day_sums(tx, date(2026, 3, 2))["nobody"] = summaries.ChipDay("default")
        assert summaries.day_sums(tx, date(2026, 3, 2)) == {}


def test_a_database_that_others_may_write_to_remembers_nothing(sqlite_store: Store) -> None:
    assert sqlite_store.memory is None
    with sqlite_store.read() as tx:
        assert tx.memory is None
