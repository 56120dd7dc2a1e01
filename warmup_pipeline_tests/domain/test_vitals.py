"""The traps: silence that looks like health, and a command's cycles that look like a dead daemon."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from warmup_pipeline.domain.health import Severity
from warmup_pipeline.domain.vitals import REMEDIES, LastCycle, SchedulerState, Vital, vitals

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def signs(
    *, began: float = 1, state: str = "finished", judged: float = 1, scheduler: SchedulerState | None = None
) -> dict[str, Vital]:
    found = vitals(
        now=NOW,
        verdicts={"a": ago(judged), "b": ago(judged)},
        last_cycles=[LastCycle("default", state, ago(began), "run")],
        scheduler=scheduler,
    )
    return {one.name: one for one in found}


def missing(found: dict[str, Vital]) -> set[str]:
    return {name for name, one in found.items() if not one.passed}


def test_cycles_that_go_on_are_a_sign_of_life() -> None:
    found = signs(scheduler=SchedulerState(daemon_heard_at=ago(0.5)))
    assert missing(found) == set()
    assert set(found) <= set(REMEDIES)


@pytest.mark.parametrize(("began", "severity"), [(7.5, Severity.WARN), (10.5, Severity.ERROR)])
def test_a_late_cycle_warns_and_none_for_ten_minutes_is_an_error(began: float, severity: Severity) -> None:
    found = signs(began=began)
    assert missing(found) == {"cycles_go_on"}
    assert found["cycles_go_on"].severity is severity
    assert "default" in found["cycles_go_on"].text


def test_a_sensor_that_is_off_is_said_at_once() -> None:
    found = signs(scheduler=SchedulerState(sensor_on=False))
    assert missing(found) == {"sensor_is_on"}


def test_a_silent_daemon_is_missed_where_a_cycle_is() -> None:
    silent = SchedulerState(daemon_heard_at=ago(9))
    assert missing(signs(began=8, scheduler=silent)) == {"daemon_is_alive", "cycles_go_on"}
    assert missing(signs(began=1, scheduler=silent)) == set(), "a command's cycles need no daemon"


def test_a_run_that_waits_in_the_queue_is_said() -> None:
    stuck = SchedulerState(waiting=3, waiting_since=ago(4), running=10)
    found = signs(scheduler=stuck)
    assert missing(found) == {"runs_begin"}
    assert "3 runs wait" in found["runs_begin"].text
    assert missing(signs(scheduler=SchedulerState(waiting=1, waiting_since=ago(1)))) == set()


def test_a_failed_last_cycle_names_its_run() -> None:
    found = signs(state="failed")
    assert missing(found) == {"last_cycle_succeeded"}
    assert found["last_cycle_succeeded"].run_id == "run"


def test_old_verdicts_are_none() -> None:
    assert missing(signs(judged=10.5)) == {"verdicts_are_fresh"}
    assert missing(signs(judged=10)) == set()
