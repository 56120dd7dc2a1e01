"""The traps: one outcome that keeps hundreds from being noted; a log that fails once, and the rest is told nowhere."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from warmup_pipeline.warmup import noting, operating, send
from warmup_pipeline.warmup.approved import load_approved
from warmup_pipeline.warmup.lifecycle import CycleRefused
from warmup_pipeline.warmup.outcomes import record_outcomes
from warmup_pipeline.warmup.withdrawing import INTERRUPTED, withdraw
from warmup_pipeline_tests.support import Lab, rows_of
from warmup_pipeline_tests.warmup.test_sending_aside import one_at_a_time, ready_to_send, refuse_sends
from warmup_pipeline_tests.warmup.test_troubles import _Interrupting, assert_nothing_lost


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
    refuse_sends(lab)
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


def test_where_the_pool_is_another_cycles_by_now_that_is_told_once_and_not_of_each_outcome(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_at_a_time(lab)
    cycle = ready_to_send(lab)
    monkeypatch.setattr(noting, "NOTE_EVERY_S", 0.01)

    async def taken_over() -> None:
        # The process hung for longer than its lease; the calls that wait are withdrawn by what happens next.
        if not switched:
            switched.append(True)
            lab.move_to(lab.now + timedelta(minutes=5))
            await asyncio.to_thread(lab.begin)
            operating.set_kill_switch(lab.world, scope="all", author="test", reason="stop")
            await asyncio.sleep(0.2)

    switched: list[bool] = []
    lab.log.entries.clear()
    world = replace(lab.world, transport_factory=lambda: _Interrupting(taken_over))
    with pytest.raises(CycleRefused):
        send.send_messages(world, cycle)
    assert lab.log.failures == []


def test_what_is_taken_back_twice_counts_once(lab: Lab) -> None:
    cycle = ready_to_send(lab)
    found = load_approved(lab.world, cycle)
    for _ in range(2):
        withdraw(lab.world, cycle, found, found.sends, INTERRUPTED)
    deferred = rows_of(lab.store, f"SELECT id FROM deferrals WHERE reason = '{INTERRUPTED}'")
    assert len(deferred) == len(found.sends) == 4
    counted = rows_of(lab.store, "SELECT deferrals FROM activities WHERE last_deferral IS NOT NULL")
    assert {row["deferrals"] for row in counted} == {1}
