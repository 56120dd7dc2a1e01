"""The traps: a benchmark whose cycles do more than their floor, or less than they say."""

from __future__ import annotations

import pytest

from warmup_pipeline_tests.benchmarks import cycle


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_measured_cycle_sends_for_every_chip_and_makes_no_call_that_its_floor_does_not(
    database: str,
) -> None:
    measured = cycle.run(30, database=database, latency_ms=0, rounds=2, at_connections=(10,))
    assert measured.sent == 30
    assert measured.look_ups == 0
    assert len(measured.cycle_s) == len(measured.floor_s) == 2
    assert set(measured.steps_s) >= {"refresh_connections", "send_messages", "summarise_cycle"}
