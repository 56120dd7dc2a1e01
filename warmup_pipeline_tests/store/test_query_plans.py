"""The trap: a question that goes through the whole log in every cycle. It is fast until the log is long.

What an ordinary cycle and its checks ask of a long log is explained by the database itself: no table that
grows with time may be gone through, by itself or pool by pool.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from warmup_pipeline.domain.degrade import JUDGED_DELIVERIES, SIGNALS_FROM_MISSING
from warmup_pipeline.orchestration.metadata import materialization_metadata
from warmup_pipeline.orchestration.previews import PREVIEWS
from warmup_pipeline.store import cycles, derived, migrate, rollups
from warmup_pipeline.store import rows as row_counts
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.checks import CHECKS
from warmup_pipeline.warmup.derive.transitions import RECENT_DELIVERIES_DAYS
from warmup_pipeline.warmup.world import StepReport
from warmup_pipeline_tests.benchmarks.longlog import POOL, fill
from warmup_pipeline_tests.support import Lab, chip_row, due_openings, open_lab, run_sql

GROW: frozenset[str] = frozenset(
    {
        "messages",
        "presend_validations",
        "conversations",
        "activities",
        "pairings",
        "deferrals",
        "connection_history",
        "cycles",
        "daily_summary",
        "chip_days",
        "chip_message_days",
        "phase_forecast",
    }
)
"""Tables with more rows every day."""

Asked = dict[str, Any]


@contextmanager
def what_is_asked(store: Store) -> Iterator[Asked]:
    """Gather statements, each once, with parameters that it was run with."""
    asked: Asked = {}

    def note(_: Any, __: Any, statement: str, parameters: Any, ___: Any, many: bool) -> None:
        if re.match(r"\s*(SELECT|WITH|UPDATE|DELETE|INSERT)", statement):
            asked.setdefault(statement, parameters[0] if many else parameters)

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(store.engine, "before_cursor_execute", note)


LOOKING_BACK = (
    "every_send_was_approved",
    "phase_limits_respected",
    "no_duplicate_sends",
    "failures_carry_traceback",
    "recipients_in_pool",
)


def an_ordinary_cycle(lab: Lab, chip_ids: Sequence[str]) -> Asked:
    """Return what a cycle of a long log asks, with its checks and what its assets' pages show."""
    with lab.store.write() as tx:
        rollups.begin(tx, lab.pool, at=lab.now)
        assert rollups.go_on(tx, lab.pool)
    # The first looks of a day are at the whole.
    lab.cycles(2)
    for spec in CHECKS:
        verdict = spec.judge(lab.world)
        assert verdict.passed or spec.name not in LOOKING_BACK, verdict.summary
    show_pages(lab)
    due_openings(lab, chip_ids)
    with what_is_asked(lab.store) as asked:
        lab.cycle()
        for spec in CHECKS:
            spec.judge(lab.world)
        show_pages(lab)
    assert len(asked) > 100
    return asked


def show_pages(lab: Lab) -> None:
    with lab.store.read() as tx:
        cycle = cycles.latest_of_each_pool(tx)[lab.pool]
    for name in PREVIEWS:
        materialization_metadata(name, lab.world, cycle, StepReport())


def aliases(statement: str) -> dict[str, str]:
    """Return what a statement calls the tables that grow."""
    aliased = re.findall(r"\b(\w+) AS (\w+)", statement)
    return {name: name for name in GROW} | {alias: table for table, alias in aliased if table in GROW}


SHORT_INDEXES = ("_unused", "_unconfirmed", "_failed", "_imported", "_running", "_one_open_per_pair")
"""Indexes on a condition that few rows hold, however many there are."""


def is_through(statement: str, step: str) -> bool:
    """Whether a step of a plan goes through a whole table, or through all rows of a pool."""
    if any(f"{name} " in step for name in SHORT_INDEXES):
        return False
    if step.startswith("SCAN"):
        return True
    if re.search(r"INDEX \w+ \(pool=\?\)", step) is None:
        return False
    # The first or last rows of a pool by the index's own order.
    return "LIMIT" not in statement and "min(cycles.tick)" not in statement


def gone_through_on_sqlite(store: Store, asked: Asked) -> dict[str, str]:
    found = {}
    with store.read() as tx:
        for statement, parameters in asked.items():
            names = aliases(statement)
            for row in tx.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters):
                step = str(row[3])
                what = re.match(r"(SCAN|SEARCH) (\w+)", step)
                if what is None or what[2] not in names:
                    continue
                if is_through(statement, step):
                    found[f"{step}: {statement}"] = names[what[2]]
    return found


def gone_through_on_postgresql(store: Store, asked: Asked) -> dict[str, str]:
    found = {}

    def look(statement: str, node: dict[str, Any]) -> None:
        for further in node.get("Plans", ()):
            look(statement, further)
        index = str(node.get("Index Name", ""))
        table = node.get("Relation Name") or next((t for t in GROW if index.startswith(f"ix_{t}_")), None)
        if table not in GROW or node["Node Type"] == "Bitmap Heap Scan" or "Scan" not in node["Node Type"]:
            return
        condition = str(node.get("Index Cond", ""))
        by_pool = re.fullmatch(r"\(?\(pool\)::text = [^()]+\)?", condition.removeprefix("(")) is not None
        step = f"{'SEARCH' if condition else 'SCAN'} {table} INDEX {index} {'(pool=?)' if by_pool else ''}"
        if is_through(statement, step):
            found[f"{step}: {statement}"] = str(table)

    with store.read() as tx:
        # Some tables are short even so, and quickest read whole: what is asked is whether indexes can answer.
        for choice in ("seqscan", "hashjoin", "mergejoin"):
            tx.connection.exec_driver_sql(f"SET LOCAL enable_{choice} = off")
        for statement, parameters in asked.items():
            plan = tx.connection.exec_driver_sql(
                f"EXPLAIN (FORMAT JSON) {statement}", parameters
            ).scalar_one()
            look(statement, plan[0]["Plan"])
    return found


def changed_by_something_else_than_their_keys(store: Store, asked: Asked) -> list[str]:
    """Return statements that change given rows and find them by what else is asked of each."""
    found = []

    def look(statement: str, node: dict[str, Any]) -> None:
        for further in node.get("Plans", ()):
            look(statement, further)
        changed = re.match(r"UPDATE (\w+) ", statement)
        is_theirs = changed is not None and node.get("Relation Name") == changed[1]
        read = is_theirs and "Scan" in node["Node Type"]
        if read and not str(node.get("Index Name", "")).startswith("pk_"):
            found.append(f"{node['Node Type']} {node.get('Index Name', '')}: {statement}")

    with store.read() as tx:
        for choice in ("seqscan", "hashjoin", "mergejoin", "bitmapscan"):
            tx.connection.exec_driver_sql(f"SET LOCAL enable_{choice} = off")
        for statement, parameters in asked.items():
            if re.match(r"UPDATE \w+ .* FROM unnest\(", statement, re.DOTALL):
                plan = tx.connection.exec_driver_sql(
                    f"EXPLAIN (FORMAT JSON) {statement}", parameters
                ).scalar_one()
                look(statement, plan[0]["Plan"])
    return found


def planned_anew_on_sqlite(asked: Asked) -> set[str]:
    """Return questions that SQLite plans anew each time: a value given to what an index is conditional on.

    What is only counted by (CASE) decides about no index.
    """
    questions = {statement: re.sub(r"CASE .*? END", "", statement, flags=re.DOTALL) for statement in asked}
    return {
        statement
        for statement, chosen in questions.items()
        if re.match(r"\s*(SELECT|WITH)", chosen) and re.search(r"\bmessages\.state = \?", chosen)
    }


@pytest.fixture
def tables_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_counts, "LONG_TABLE", 1)


WHOLE = "SELECT count(*) FROM messages WHERE pool = 'default' AND kind = 'text'"


@pytest.mark.usefixtures("tables_are_long")
def test_on_sqlite_no_table_that_grows_is_gone_through_in_an_ordinary_cycle(sqlite_store: Store) -> None:
    # Nothing analyses an operator's tables either: SQLite plans by the indexes alone.
    with open_lab(sqlite_store) as lab:
        rows = [chip_row(number, ddd=11) for number in range(1, 9)]
        lab.add(rows)
        lab.cycle()
        due_openings(lab, [row["id"] for row in rows])
        lab.cycles(2)
        asked = an_ordinary_cycle(lab, [row["id"] for row in rows])
        assert gone_through_on_sqlite(sqlite_store, asked) == {}
        assert planned_anew_on_sqlite(asked) == set()
        assert set(gone_through_on_sqlite(sqlite_store, {WHOLE: ()}).values()) == {"messages"}


def test_on_sqlite_a_part_of_the_first_roll_up_reads_its_own_conversations_alone(sqlite_store: Store) -> None:
    log = fill(sqlite_store, chip_count=20, count=2_000, per_day=20)
    # Both with what is known of the tables, and as on an operator's machine.
    for analysed in (True, False):
        if not analysed:
            run_sql(sqlite_store, "DELETE FROM sqlite_stat1")
            sqlite_store.engine.dispose()
        with sqlite_store.write() as tx:
            rollups.begin(tx, POOL, at=log.at)
        with what_is_asked(sqlite_store) as asked, sqlite_store.write() as tx:
            assert not rollups.go_on(tx, POOL, most=50)
        assert sum("chip_message_days" in statement for statement in asked) == 1
        assert gone_through_on_sqlite(sqlite_store, asked) == {}


@pytest.mark.usefixtures("tables_are_long")
def test_on_postgresql_no_table_that_grows_is_gone_through_in_an_ordinary_cycle(postgres_url: str) -> None:
    # PostgreSQL plans by what is in the tables: a past of some weeks.
    store = Store(postgres_url)
    migrate.upgrade(store)
    log = fill(store, chip_count=20, count=20_000, per_day=20)
    with open_lab(store, at=log.at + timedelta(minutes=5)) as lab:
        lab.declare(log.rows)
        asked = an_ordinary_cycle(lab, [row["id"] for row in log.rows])
        assert gone_through_on_postgresql(store, asked) == {}
        assert set(gone_through_on_postgresql(store, {WHOLE: ()}).values()) == {"messages"}
    store.close()


def planned_for_any_values(store: Store, statement: str) -> str:
    """Return how PostgreSQL answers a statement that it plans once, whatever values it is given afterwards."""
    names: list[str] = []

    def numbered(named: re.Match[str]) -> str:
        if named[1] not in names:
            names.append(named[1])
        return f"${names.index(named[1]) + 1}"

    text = re.sub(r"%\((\w+)\)s", numbered, statement)
    with store.read() as tx:
        plan = tx.connection.exec_driver_sql(f"EXPLAIN (GENERIC_PLAN) {text}").scalars().all()
    return "\n".join(plan)


def test_on_postgresql_a_long_lived_process_asks_no_more_of_the_log_than_a_new_one(postgres_url: str) -> None:
    # A statement that a process has asked some ten times is planned once for all values. Whether any message is later
    # than an instant was then expected of a third of the log, and looked for through all of it.
    store = Store(postgres_url)
    migrate.upgrade(store)
    log = fill(store, chip_count=20, count=20_000, per_day=20)
    with store.read() as tx, what_is_asked(store) as asked:
        rollups.serves(tx, POOL, at=log.at)
    (statement,) = asked
    assert "Seq Scan on messages" not in planned_for_any_values(store, statement)
    store.close()


def test_on_postgresql_the_newest_deliveries_are_read_from_the_newest_on(postgres_url: str) -> None:
    # The planner took a day and an instant that say nearly the same for two conditions, expected fewer messages than
    # are looked at, and read and sorted a week's of every chip that lacks confirmations.
    store = Store(postgres_url)
    migrate.upgrade(store)
    log = fill(store, chip_count=20, count=20_000, per_day=20)
    with store.read() as tx, what_is_asked(store) as asked:
        derived.recent_confirmations(
            tx,
            POOL,
            sent_before=log.at,
            since_day=log.at.date() - timedelta(days=RECENT_DELIVERIES_DAYS),
            last=JUDGED_DELIVERIES,
            missing=SIGNALS_FROM_MISSING,
        )
    ((statement, parameters),) = asked.items()
    with store.read() as tx:
        plan = "\n".join(tx.connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars().all())
    assert plan.count("Backward using ix_messages_sender_chip_id_sent_at") == 2
    assert "Sort" not in plan
    store.close()


def test_on_postgresql_rows_that_are_changed_are_found_by_their_keys(postgres_url: str) -> None:
    # Nothing is known of what a cycle has just written: a condition that no row seemed to meet an hour ago
    # looks quicker than a key, and is gone through once for each batch.
    store = Store(postgres_url)
    migrate.upgrade(store)
    with open_lab(store) as lab:
        rows = [chip_row(number, ddd=11) for number in range(1, 9)]
        lab.add(rows)
        lab.cycle()
        run_sql(store, "ANALYZE")
        due_openings(lab, [row["id"] for row in rows])
        with what_is_asked(store) as asked:
            lab.cycle()
        changing = [statement for statement in asked if "FROM unnest(" in statement]
        assert any(statement.startswith("UPDATE presend_validations SET used_at") for statement in changing)
        assert changed_by_something_else_than_their_keys(store, asked) == []
    store.close()
