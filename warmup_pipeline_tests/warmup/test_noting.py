"""The traps: one outcome that keeps hundreds from being noted; a log that fails once, and the rest is told nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup import noting, send
from warmup_pipeline.warmup.outcomes import record_outcomes
from warmup_pipeline_tests.support import Lab, chip_row, open_lab, rows_of
from warmup_pipeline_tests.warmup.test_sending_aside import ready_to_send
from warmup_pipeline_tests.warmup.test_troubles import assert_nothing_lost


@pytest.fixture
def lab(store: Store) -> Iterator[Lab]:
    """Eight chips that know each other, on both databases."""
    with open_lab(store) as opened:
        opened.add([chip_row(n, ddd=11) for n in range(1, 9)])
        opened.cycle()
        yield opened


def states(lab: Lab) -> list[str]:
    return sorted(row["state"] for row in rows_of(lab.store, "SELECT state FROM messages"))


def test_an_outcome_that_cannot_be_noted_keeps_no_other_from_it_and_is_told(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycle = ready_to_send(lab)
    poisoned: list[str] = []

    def record(world: Any, of: Any, outcomes: Any, standing: Any) -> None:
        poisoned.append(outcomes[0].approval.id)
        if poisoned[0] in {outcome.approval.id for outcome in outcomes}:
            raise KeyError("of this one outcome")
        record_outcomes(world, of, outcomes, standing)

    monkeypatch.setattr(noting, "record_outcomes", record)
    with pytest.raises(ExceptionGroup, match="1 outcomes of sends could not be noted") as raised:
        send.send_messages(lab.world, cycle)
    assert [str(error) for error in raised.value.exceptions] == ["'of this one outcome'"]
    assert states(lab) == ["accepted", "accepted", "accepted", "sending"]
    assert any("could not be noted" in failure for failure in lab.log.failures)


def test_an_outcome_that_can_be_noted_in_the_end_was_only_late(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycle = ready_to_send(lab)
    monkeypatch.setattr(noting, "NOTE_AT", 1)
    first: list[str] = []

    def record(world: Any, of: Any, outcomes: Any, standing: Any) -> None:
        if not first:
            first.append(outcomes[0].approval.id)
            raise KeyError("only this once")
        record_outcomes(world, of, outcomes, standing)

    monkeypatch.setattr(noting, "record_outcomes", record)
    assert send.send_messages(lab.world, cycle).numbers["sent"] == 4
    assert_nothing_lost(lab)


def test_where_the_log_fails_once_the_other_failures_are_told_all_the_same(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycle = ready_to_send(lab)
    refusals = {"rules": [{"match": {"route": "any-send"}, "kind": "status", "code": 400}]}
    httpx.post(f"{lab.base_url}/_sim/faults", json=refusals, trust_env=False).raise_for_status()
    real, asked = lab.log.failure, []

    def failure(title: str, traceback: str) -> None:
        asked.append(title)
        if len(asked) == 1:
            raise OSError("the run's log is locked")
        real(title, traceback)

    monkeypatch.setattr(lab.log, "failure", failure)
    with pytest.raises(ExceptionGroup) as raised:
        send.send_messages(lab.world, cycle)
    assert [str(error) for error in raised.value.exceptions] == ["the run's log is locked"]
    assert len(asked) == 4
    assert len(lab.log.failures) == 3
    assert states(lab) == ["failed"] * 4
