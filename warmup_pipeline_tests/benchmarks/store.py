"""What the store's bulk writes cost beside the driver's own executemany of the same rows.

Holds: :func:`run`: messages are written down and their outcomes recorded, due turns are claimed, derived
rows are replaced; each by the store's own function, and as many rows of another set by a plain statement on
the bare driver, whose values were made ready before. Do not add: thresholds for tests (a benchmark is
measured, not asserted).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final

import sqlalchemy as sa

from warmup_pipeline.domain.metrics import MessageCounts, OpeningBalance, chip_metrics
from warmup_pipeline.domain.values import ConversationState, MessageState
from warmup_pipeline.store import conversations, derived, message_writes, schema, validations
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Store, Transaction
from warmup_pipeline_tests.benchmarks.longlog import POOL, LongLog, long_log
from warmup_pipeline_tests.benchmarks.options import AtLeast, Database

Rows = Sequence[dict[str, Any]]

_PAST: Final = 4_000
"""Messages that are there before: few, so that what is measured is the writing."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Each bulk write beside its floor.

    Attributes:
        database: ``sqlite`` or ``postgresql``.
        rows: rows of each write.
        store_s: median seconds of the store's function, by what is written.
        floor_s: median seconds of executemany on the bare driver.
        ratio: median of one / the other, round by round.
    """

    database: str
    rows: int
    store_s: dict[str, float]
    floor_s: dict[str, float]
    ratio: dict[str, float]

    def document(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def run(
    rows: Annotated[int, AtLeast(2)] = 10_000,
    *,
    database: Database = "sqlite",
    rounds: Annotated[int, AtLeast(1)] = 5,
) -> Measured:
    """Measure the bulk writes of a cycle.

    Args:
        rows: rows of each write; the pool has twice as many chips.
        database: ``sqlite`` or ``postgresql``.
        rounds: how often.
    """
    taken: dict[str, list[tuple[float, float]]] = {}
    # Each chip is at one end of one message of a cycle.
    with long_log(database, chip_count=2 * rows, count=_PAST, per_day=20) as log:
        at = log.at
        for _ in range(rounds):
            at += timedelta(minutes=10)
            by_store, plain = log.make(at, rows), log.make(at + timedelta(minutes=5), rows)
            for name, (ours, floor) in _writes(log, by_store, plain).items():
                with log.store.write() as tx:
                    mine = _seconds(ours, tx)
                with log.store.write() as tx:
                    bare = _seconds(floor, tx)
                taken.setdefault(name, []).append((mine, bare))
    return Measured(
        database=database,
        rows=rows,
        store_s={name: round(statistics.median(m for m, _ in pairs), 3) for name, pairs in taken.items()},
        floor_s={name: round(statistics.median(b for _, b in pairs), 3) for name, pairs in taken.items()},
        ratio={name: round(statistics.median(m / b for m, b in pairs), 2) for name, pairs in taken.items()},
    )


def _seconds(write: Callable[[Transaction], object], tx: Transaction) -> float:
    before = time.perf_counter()
    write(tx)
    return time.perf_counter() - before


Made = tuple[Cycle, Rows, Rows, Rows]


def _writes(
    log: LongLog, by_store: Made, plain: Made
) -> dict[str, tuple[Callable[[Transaction], object], Callable[[Transaction], object]]]:
    """Return the writes by name, in the order in which they can be made: the store's, and its floor."""
    (cycle, talks, approvals, sends), (other, talks_2, approvals_2, sends_2) = by_store, plain
    store = log.store

    def outcomes(rows: Rows) -> Rows:
        return [
            {
                "id": row["id"],
                "state": MessageState.ACCEPTED,
                "accepted_at": cycle.tick,
                "gateway_message_id": f"3EB0{row['id']}",
                "http_attempts": 1,
            }
            for row in rows
        ]

    metrics = {
        row["id"]: chip_metrics(
            MessageCounts(sent_total=cycle.tick.minute, attempted=1, succeeded=1),
            OpeningBalance(),
            at=cycle.tick,
            today=cycle.day,
            age_reference=row["created_at"],
        )
        for row in log.rows[: len(sends)]
    }
    metric_rows = [
        {name: getattr(one, name) for name in derived.metric_columns}
        | {"chip_id": chip_id, "pool": POOL, "computed_at": cycle.tick, "media_kinds": len(one.media_kinds)}
        for chip_id, one in metrics.items()
    ]
    due = [{"id": row["id"], "claimed_cycle_id": other.id} for row in talks_2]
    return {
        "conversations": (
            lambda tx: conversations.insert(tx, talks),
            _insert(store, schema.conversations, talks_2),
        ),
        "approvals": (
            lambda tx: validations.insert(tx, approvals),
            _insert(store, schema.presend_validations, approvals_2),
        ),
        "messages": (lambda tx: message_writes.insert(tx, sends), _insert(store, schema.messages, sends_2)),
        "outcomes": (
            lambda tx: message_writes.record(tx, outcomes(sends)),
            _update(store, schema.messages, outcomes(sends_2), "state", MessageState.SENDING),
        ),
        "claims": (
            lambda tx: conversations.claim(tx, [row["id"] for row in talks], cycle.id),
            _update(store, schema.conversations, due, "state", ConversationState.OPEN),
        ),
        "chip_metrics": (
            lambda tx: derived.store_metrics(tx, POOL, metrics, at=cycle.tick),
            _upsert(store, schema.chip_metrics, metric_rows),
        ),
    }


def _ready(store: Store, table: sa.Table, names: Sequence[str], rows: Rows) -> list[tuple[Any, ...]]:
    """Return rows as the bare driver takes them."""
    dialect = store.engine.dialect
    makers = [table.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names]

    def plain(value: Any) -> Any:
        return str(value) if isinstance(value, str) else value

    return [
        tuple(
            plain(row[name] if make is None else make(row[name]))
            for name, make in zip(names, makers, strict=True)
        )
        for row in rows
    ]


def _many(store: Store, text: str, values: list[tuple[Any, ...]]) -> Callable[[Transaction], object]:
    marked = text if store.is_sqlite else text.replace("?", "%s")

    def write(tx: Transaction) -> None:
        driver = tx.connection.connection.driver_connection
        assert driver is not None
        driver.cursor().executemany(marked, values)

    return write


def _insert(store: Store, table: sa.Table, rows: Rows, more: str = "") -> Callable[[Transaction], object]:
    names = list(rows[0])
    text = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}){more}"
    return _many(store, text, _ready(store, table, names, rows))


def _update(
    store: Store, table: sa.Table, rows: Rows, column: str, value: str
) -> Callable[[Transaction], object]:
    names = [name for name in rows[0] if name != "id"]
    changed = ", ".join(f"{name} = ?" for name in names)
    text = f"UPDATE {table.name} SET {changed} WHERE id = ? AND {column} = '{value}'"
    return _many(store, text, _ready(store, table, [*names, "id"], rows))


def _upsert(store: Store, table: sa.Table, rows: Rows) -> Callable[[Transaction], object]:
    keys = [column.name for column in table.primary_key]
    changed = ", ".join(f"{name} = excluded.{name}" for name in rows[0] if name not in keys)
    return _insert(store, table, rows, f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changed}")
