"""The trap: a query per chip. The number of SQL statements of a cycle must not follow the chips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from warmup_pipeline.store.engine import ROWS_PER_STATEMENT, Store
from warmup_pipeline.warmup import noting
from warmup_pipeline_tests.support import Lab, chip_row, due_openings, open_lab


@contextmanager
def counted(store: Store) -> Iterator[Counter[str]]:
    """Count statements: bulk writes (one per 500 rows) apart from all others."""
    seen: Counter[str] = Counter()

    def note(
        connection: sa.Connection,
        cursor: object,
        statement: str,
        parameters: object,
        context: object,
        many: bool,
    ) -> None:
        # SQLite is in this process: many sets of parameters for one prepared statement cost no round trip.
        assert not many or store.is_sqlite, f"a statement was run once per row: {statement[:80]}"
        text = statement.lstrip().upper()
        if text.startswith("BEGIN"):
            return
        # One row left over for the last bulk statement is written by a plain one.
        one_row = store.is_sqlite and text.startswith("UPDATE")
        bulk = many or one_row or text.startswith(("INSERT INTO", "WITH NEW", 'WITH "NEW"'))
        seen["bulk" if bulk else "other"] += 1

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(store.engine, "before_cursor_execute", note)


def one_busy_cycle(lab: Lab, pool: str, numbers: range) -> tuple[Counter[str], int]:
    """Run a cycle in which every chip has an opening due, two hours after another one; returns (statements, sent).

    So the counted cycle has everything to do that a cycle can find: openings, replies, receipts of what was
    accepted before.
    """
    rows = [chip_row(number, pool=pool, ddd=11, at=lab.now) for number in numbers]
    lab.pool = pool
    lab.add(rows)
    due_openings(lab, [row["id"] for row in rows])
    lab.cycle()
    lab.move_to(lab.now + timedelta(hours=2))
    due_openings(lab, [row["id"] for row in rows])
    with counted(lab.store) as seen:
        reports = lab.cycle()
    return seen, reports["send_messages"].numbers["sent"]


def test_the_number_of_statements_of_a_cycle_does_not_depend_on_the_number_of_chips(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How often outcomes are noted meanwhile depends on the machine: here once, at the end.
    monkeypatch.setattr(noting, "NOTE_EVERY_S", 3600.0)
    monkeypatch.setattr(noting, "NOTE_AT", 1_000_000)
    with open_lab(store) as lab:
        few, few_sent = one_busy_cycle(lab, "few", range(1, 11))
        many, many_sent = one_busy_cycle(lab, "many", range(1001, 2001))
    assert few_sent >= 5
    # A chip whose reply fell due sends that instead of its opening, and its partner opens elsewhere.
    assert many_sent >= 495
    # Around each batch of 500 sends: is it switched off; as it is written down: the pool's lock, does this cycle
    # hold it, is any log rolled up. On PostgreSQL whoever asks that shares the log's lock first.
    around = 4 if store.is_sqlite else 5
    batches = -(-many_sent // ROWS_PER_STATEMENT)
    # Of derived rows, those of a table that all changed need no stamp, and some may be gone: a statement each.
    assert many["other"] - few["other"] - around * (batches - 1) in (0, 1, 2)
    # Every table written with a row or more per chip takes two statements of 500 rows instead of
    # one; eligibility has seven rows a chip, and outcomes are flushed every second at the latest.
    assert many["bulk"] <= 3 * few["bulk"] + 7 * 1000 // ROWS_PER_STATEMENT


def test_every_chip_with_an_opening_due_gets_a_partner_when_all_are_free(sqlite_store: Store) -> None:
    with open_lab(sqlite_store) as lab:
        rows = [chip_row(number, pool="default", ddd=11, at=lab.now) for number in range(1, 41)]
        lab.add(rows)
        lab.cycle()
        due_openings(lab, [row["id"] for row in rows])
        assert lab.cycle()["send_messages"].numbers["sent"] == 20
