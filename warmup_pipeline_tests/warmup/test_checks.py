"""The trap: a check that is always green. Each one is made to fail, and says why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest

from warmup_pipeline.domain.health import Severity, Verdict
from warmup_pipeline.store import rollups
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.checks import CHECKS
from warmup_pipeline_tests.support import MORNING, Lab, chip_row, due_openings, open_lab, run_sql

JUDGES = {spec.name: spec.judge for spec in CHECKS}


@pytest.fixture
def lab(sqlite_store: Store) -> Iterator[Lab]:
    """A healthy pool of six that has just opened three conversations."""
    with open_lab(sqlite_store) as opened:
        rows = [chip_row(number, ddd=11) for number in range(1, 7)]
        opened.add(rows)
        opened.cycle()
        due_openings(opened, [row["id"] for row in rows])
        opened.cycle()
        opened.cycles(2)
        yield opened


def test_every_check_passes_on_a_healthy_pool(lab: Lab) -> None:
    verdicts = {name: judge(lab.world) for name, judge in JUDGES.items()}
    assert {name for name, verdict in verdicts.items() if not verdict.passed} == set()
    assert verdicts["conversa_par_success_rate"].numbers["succeeded"]


ONE = "(SELECT min(id) FROM chips)"
SABOTAGES: dict[str, tuple[str, Severity]] = {
    "providers_connected": (
        (
            "UPDATE chip_connections SET state = 'closed', since = '2026-03-01 00:00:00.000000' "
            f"WHERE chip_id = {ONE}"
        ),
        Severity.WARN,
    ),
    "gateway_credentials_valid": (
        (
            "UPDATE chip_connections SET gateway_error = 'HTTP 401', gateway_error_cycle_id = "
            "(SELECT id FROM cycles ORDER BY tick DESC LIMIT 1)"
        ),
        Severity.ERROR,
    ),
    "pool_is_pairable": ("UPDATE chips SET status = 'paused'", Severity.ERROR),
    "only_executable_activities_planned": (
        "UPDATE activities SET type = 'MENSAGEM_GRUPO', state = 'planned', reason = NULL, cycle_id = NULL",
        Severity.ERROR,
    ),
    "every_send_was_approved": (
        "UPDATE presend_validations SET decision = 'block', reason = 'kill_switch' WHERE subject = 'opening'",
        Severity.ERROR,
    ),
    "conversa_par_success_rate": (
        "UPDATE messages SET state = 'failed', failure_class = 'permanent', traceback = 't'",
        Severity.ERROR,
    ),
    "phase_limits_respected": ("UPDATE messages SET phase = 'repouso'", Severity.ERROR),
    "no_duplicate_sends": ("UPDATE messages SET gateway_message_id = 'the same'", Severity.ERROR),
    "failures_carry_traceback": (
        "UPDATE messages SET state = 'failed', failure_class = 'permanent', traceback = NULL",
        Severity.ERROR,
    ),
    "recipients_in_pool": (
        "UPDATE messages SET pool = 'elsewhere' WHERE sender_chip_id = (SELECT sender_chip_id FROM messages LIMIT 1)",
        Severity.ERROR,
    ),
    "metrics_match_log": (f"UPDATE chip_metrics SET sent_total = 99 WHERE chip_id = {ONE}", Severity.ERROR),
    "metrics_are_moving": ("UPDATE chip_metrics SET attempted = 0", Severity.ERROR),
    "warming_day_is_current": (
        f"UPDATE warming_day SET warming_day = 0 WHERE chip_id = {ONE}",
        Severity.ERROR,
    ),
    "phase_progress": (f"UPDATE warming_day SET warming_day = 40 WHERE chip_id = {ONE}", Severity.WARN),
    "transitions_were_earned": (
        (
            "INSERT INTO phase_transitions (id, pool, cycle_id, chip_id, from_phase, to_phase, at, day, criteria) "
            f"SELECT 't', 'default', (SELECT id FROM cycles LIMIT 1), {ONE}, 'setup', 'operacao', "
            "'2026-03-02 11:00:00.000000', '2026-03-02', '{}'"
        ),
        Severity.ERROR,
    ),
    "forecasts_were_close": (
        (
            "INSERT INTO phase_forecast (day, chip_id, pool, computed_at, phase, next_phase, earliest_date) "
            "SELECT '2026-03-01', chip_id, pool, '2026-03-01 11:00:00.000000', phase, next_phase, '2026-03-31' "
            "FROM phase_forecast"
        ),
        Severity.WARN,
    ),
    "summary_matches_log": ("UPDATE daily_summary SET sent = sent + 1 WHERE scope = 'all'", Severity.ERROR),
    "cycle_is_on_time": ("UPDATE cycles SET began_at = '2026-03-02 09:00:00.000000'", Severity.WARN),
}


def sabotaged(lab: Lab, name: str) -> Verdict:
    sql, _ = SABOTAGES[name]
    if "elsewhere" in sql:
        run_sql(
            lab.store,
            "INSERT INTO pools (name, clock, created_at) VALUES ('elsewhere', 'system', '2026-01-01')",
        )
    run_sql(lab.store, sql)
    return JUDGES[name](lab.world)


def test_every_check_has_a_sabotage() -> None:
    # That one needs twenty messages of an hour ago: test_messages_confirmed.py makes them.
    assert {*SABOTAGES, "messages_confirmed"} == set(JUDGES)


@pytest.mark.parametrize("name", sorted(SABOTAGES))
def test_each_check_fails_with_its_severity_and_names_no_full_number(lab: Lab, name: str) -> None:
    verdict = sabotaged(lab, name)
    assert not verdict.passed
    assert verdict.severity is SABOTAGES[name][1]
    assert verdict.summary
    told = f"{verdict.summary} {verdict.concerned} {dict(verdict.numbers)}"
    assert not re.search(r"\d{10,}", told)


def test_chips_concerned_are_named_by_their_last_digits(lab: Lab) -> None:
    assert sabotaged(lab, "metrics_match_log").concerned == ("…0001 (default)",)


def test_a_failed_last_cycle_is_critical(lab: Lab) -> None:
    run_sql(lab.store, "UPDATE cycles SET state = 'failed'")
    verdict = JUDGES["cycle_is_on_time"](lab.world)
    assert (verdict.passed, verdict.severity) == (False, Severity.ERROR)
    assert "failed" in verdict.summary


def test_a_pool_without_chips_taking_part_is_not_pairable(sqlite_store: Store) -> None:
    with open_lab(sqlite_store) as empty:
        verdict = JUDGES["pool_is_pairable"](empty.world)
    assert not verdict.passed
    assert "no chip takes part" in verdict.summary


def begin_a_roll_up(lab: Lab) -> None:
    with lab.store.write() as tx:
        rollups.begin(tx, lab.pool, at=lab.now)
        assert rollups.go_on(tx, lab.pool)
    lab.cycle()


def test_of_a_long_log_a_row_edited_behind_it_is_found_the_next_day_at_the_latest_and_put_right(
    lab: Lab,
) -> None:
    begin_a_roll_up(lab)
    judge = JUDGES["metrics_match_log"]
    assert judge(lab.world).numbers["pools_summed_wholly"] == 1
    # In the evening nothing happens any more that would have those days looked at again.
    lab.move_to(MORNING + timedelta(hours=14))
    lab.cycles(3)
    run_sql(lab.store, "UPDATE messages SET kind = 'audio' WHERE turn = 1")
    verdict = judge(lab.world)
    assert (verdict.passed, verdict.numbers["pools_summed_wholly"]) == (True, 0)
    lab.move_to(MORNING + timedelta(days=1))
    lab.cycle()
    verdict = judge(lab.world)
    assert (verdict.passed, verdict.severity) == (False, Severity.ERROR)
    assert verdict.numbers["pools_summed_wholly"] == 1
    # It is summed wholly in every cycle until it agrees, which it does after the next one.
    lab.cycle()
    verdict = judge(lab.world)
    assert (verdict.passed, verdict.numbers["pools_summed_wholly"]) == (True, 1)
    assert judge(lab.world).numbers["pools_summed_wholly"] == 0


@pytest.mark.parametrize(
    "sabotage",
    [
        f"UPDATE chip_metrics SET sent_total = 99 WHERE chip_id = {ONE}",
        "UPDATE chip_message_totals SET sent = sent + 1",
        "UPDATE chip_message_days SET sent = sent + 1",
    ],
)
def test_of_a_long_log_what_was_edited_of_metrics_or_their_roll_up_is_found_at_once(
    lab: Lab, sabotage: str
) -> None:
    begin_a_roll_up(lab)
    judge = JUDGES["metrics_match_log"]
    assert judge(lab.world).passed
    lab.cycle()
    run_sql(lab.store, sabotage)
    assert not judge(lab.world).passed
