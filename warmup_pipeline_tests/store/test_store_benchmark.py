"""The trap: a benchmark that nobody has run since the tables changed."""

from __future__ import annotations

import pytest

from warmup_pipeline_tests.benchmarks import store


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_the_benchmark_of_the_bulk_writes_runs_to_its_end(database: str) -> None:
    measured = store.run(20, database=database, rounds=2)
    writes = {"conversations", "approvals", "messages", "outcomes", "claims", "chip_metrics"}
    assert set(measured.ratio) == set(measured.store_s) == writes
    assert all(ratio > 0 for ratio in measured.ratio.values())
