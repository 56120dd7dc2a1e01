"""The trap: a figure that is always 0 because nobody looked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from warmup_pipeline_tests.benchmarks.simulate import growth_mb, run

BEGINS = datetime(2026, 2, 20, 11, 0, tzinfo=UTC)


def test_growth_is_what_memory_gained_since_a_third_of_the_time_was_over() -> None:
    # Cycles come when they come: no hour of a day is one that surely has one.
    days = [0.0, 2.9, 3.1, 6.0, 9.0]
    seen = [(BEGINS + timedelta(days=day), 100.0 + day) for day in days]
    assert growth_mb(seen) == 5.9
    assert growth_mb(seen[:1]) == 0.0


def test_the_benchmark_of_a_simulation_runs_to_its_end() -> None:
    measured = run(4, 3)
    assert measured.cycles_run > 0
    assert measured.messages > 0
    assert measured.peak_mb > 0
