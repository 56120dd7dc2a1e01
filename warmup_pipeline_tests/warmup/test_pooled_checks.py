"""The trap: hundreds of pools, each judging all, or each hiding what is bad in another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from warmup_pipeline.domain.health import TOLD, Severity, Verdict, together
from warmup_pipeline.store import cycles
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup import lifecycle
from warmup_pipeline.warmup.checks import CHECKS, cannot_judge, judge_each_pool, judge_together
from warmup_pipeline_tests.support import Lab, chip_row, due_openings, open_lab, rows_of, run_sql
from warmup_pipeline_tests.warmup.test_checks import SABOTAGES

CHIPS = 4

OF_ONE_POOL = SABOTAGES | {
    # A pool of which no chip takes part rests; one chip alone is stuck.
    "pool_is_pairable": (
        "UPDATE chips SET status = 'paused' WHERE id <> (SELECT min(id) FROM chips)",
        Severity.ERROR,
    ),
    # The row for everything is made of the pools' anew by every cycle.
    "summary_matches_log": ("UPDATE daily_summary SET sent = sent + 1 WHERE scope = 'pool'", Severity.ERROR),
}


def in_pool(lab: Lab, index: int) -> Lab:
    """Return the lab as it works in pool number ``index``, which has chips of its own."""
    return replace(lab, pool=f"pool-{index:02d}")


def fill(lab: Lab, index: int) -> Lab:
    """Add a pool and let it open conversations."""
    mine = in_pool(lab, index)
    rows = [chip_row(10 * index + n, pool=mine.pool, ddd=11) for n in range(1, CHIPS + 1)]
    mine.add(rows)
    cycle(mine)
    due_openings(mine, [row["id"] for row in rows])
    cycle(mine)
    return mine


def cycle(lab: Lab) -> Cycle:
    """Run a cycle, and move the clock five minutes on."""
    begun = lab.begin()
    lab.steps(begun)
    lifecycle.end_cycle(lab.world, begun)
    lab.clock[0] += timedelta(minutes=5)
    return begun


def judged(lab: Lab, begun: Cycle) -> dict[str, Verdict]:
    """Return what a run of the lab's pool shows."""
    own = {spec.name: spec.judge(lab.world, lab.pool) for spec in CHECKS}
    return judge_together(lab.world, begun, CHECKS, own)


@pytest.fixture
def lab(sqlite_store: Store) -> Iterator[Lab]:
    with open_lab(sqlite_store) as opened:
        yield opened


@pytest.mark.parametrize("name", sorted(OF_ONE_POOL))
def test_a_pool_is_judged_by_its_own_rows_and_no_run_hides_what_is_bad_in_another(
    lab: Lab, name: str
) -> None:
    bad = fill(lab, 1)
    its_cycle = cycle(bad)
    sql, severity = OF_ONE_POOL[name]
    run_sql(
        lab.store, "INSERT INTO pools (name, clock, created_at) VALUES ('elsewhere', 'system', '2026-01-01')"
    )
    run_sql(lab.store, sql.replace("'default'", "'pool-01'"))
    good = fill(lab, 2)
    assert judged(bad, its_cycle)[name].passed is False
    shown = judged(good, cycle(good))
    (spec,) = [spec for spec in CHECKS if spec.name == name]
    if name != "recipients_in_pool":  # what belongs to no pool with chips is everybody's
        assert spec.judge(lab.world, "pool-02").passed
    assert not shown[name].passed
    assert shown[name].severity is severity
    assert "pool-01" in f"{shown[name].summary} {shown[name].concerned}"
    assert {one.check for one in shown.values() if not one.passed} >= {name}


def not_well(verdicts: dict[str, Verdict]) -> dict[str, str]:
    # Their cycles came one after another, each after five minutes: nobody's is on time.
    return {name: v.summary for name, v in verdicts.items() if not v.passed and name != "cycle_is_on_time"}


def test_several_healthy_pools_are_well_each_by_itself_and_all_at_once(lab: Lab) -> None:
    pools = [fill(lab, index) for index in (1, 2, 3)]
    for one in pools:
        assert not_well(judged(one, cycle(one))) == {}
    assert not_well({spec.name: spec.judge(lab.world) for spec in CHECKS}) == {}
    sent = {row["n"] for row in rows_of(lab.store, "SELECT count(*) AS n FROM messages GROUP BY pool")}
    assert min(sent) > 0


def test_a_pool_that_is_well_again_is_well_for_all(lab: Lab) -> None:
    one, two = fill(lab, 1), fill(lab, 2)
    cycle(one)
    run_sql(lab.store, "UPDATE chip_metrics SET sent_total = 99 WHERE pool = 'pool-01'")
    assert not judged(one, cycle_of(one))["metrics_match_log"].passed
    shown = judged(two, cycle(two))["metrics_match_log"]
    assert not shown.passed
    assert shown.summary.startswith("pool-01: the metrics of 4 chips are not what the message log says")
    assert "pool-02: the metrics of all 4 chips are what" in shown.summary
    assert judged(one, cycle(one))["metrics_match_log"].passed
    shown = judged(two, cycle(two))["metrics_match_log"]
    assert shown.passed
    assert shown.summary.endswith("; 1 other pool is well")


def cycle_of(lab: Lab) -> Cycle:
    """Return the pool's last cycle."""
    with lab.store.read() as tx:
        return cycles.latest_of_each_pool(tx, lab.pool)[lab.pool]


def test_a_pool_without_cycles_is_told_by_the_others(lab: Lab) -> None:
    one, two = fill(lab, 1), fill(lab, 2)
    cycle(one)
    assert judged(two, cycle(two))["cycle_is_on_time"].passed
    run_sql(lab.store, "UPDATE cycles SET state = 'failed' WHERE pool = 'pool-01'")
    shown = judged(two, cycle_of(two))["cycle_is_on_time"]
    assert (shown.passed, shown.severity) == (False, Severity.ERROR)
    assert "pool-01: the last cycle failed" in shown.summary
    run_sql(lab.store, "UPDATE cycles SET state = 'finished'")
    lab.clock[0] += timedelta(minutes=5)
    shown = judged(two, cycle(two))["cycle_is_on_time"]
    assert (shown.passed, shown.severity) == (False, Severity.WARN)
    assert "pool-01: no cycle for 10 minutes" in shown.summary


def test_a_pool_that_is_no_longer_judged_though_its_cycles_go_on_is_not_well(lab: Lab) -> None:
    one, two = fill(lab, 1), fill(lab, 2)
    judged(one, cycle_of(one))
    assert judged(two, cycle(two))["no_duplicate_sends"].passed
    for _ in range(3):
        cycle(one)
    shown = judged(two, cycle(two))["no_duplicate_sends"]
    assert (shown.passed, shown.severity) == (False, Severity.ERROR)
    assert "pool-01: not judged since 2026-03-02 08:05, though its cycles went on" in shown.summary


def test_what_a_check_could_not_judge_in_one_pool_no_other_run_calls_well(lab: Lab) -> None:
    one, two = fill(lab, 1), fill(lab, 2)
    judge_together(
        lab.world, cycle_of(one), CHECKS, {"no_duplicate_sends": cannot_judge("no_duplicate_sends")}
    )
    shown = judged(two, cycle(two))["no_duplicate_sends"]
    assert not shown.passed
    assert "pool-01: the check itself failed" in shown.summary


def test_launched_by_hand_a_check_says_what_the_runs_say(lab: Lab) -> None:
    one, two = fill(lab, 1), fill(lab, 2)
    run_sql(lab.store, "UPDATE chip_metrics SET sent_total = 99 WHERE pool = 'pool-01'")
    (spec,) = [spec for spec in CHECKS if spec.name == "metrics_match_log"]
    by_hand = judge_each_pool(lab.world, spec)
    assert not by_hand.passed
    assert "pool-01: the metrics of 4 chips are not" in by_hand.summary
    judged(one, cycle_of(one))
    shown = judged(two, cycle_of(two))["metrics_match_log"]
    assert (shown.passed, shown.severity) == (by_hand.passed, by_hand.severity)
    assert "pool-01: the metrics of 4 chips are not" in shown.summary


def test_a_pool_may_rest_while_another_warms_up_and_nobody_at_all_may_not(lab: Lab) -> None:
    one, two = fill(lab, 1), fill(lab, 2)
    run_sql(lab.store, "UPDATE chips SET status = 'paused' WHERE pool = 'pool-01'")
    assert judged(one, cycle(one))["pool_is_pairable"].passed
    run_sql(lab.store, "UPDATE chips SET status = 'paused'")
    assert not judged(two, cycle(two))["pool_is_pairable"].passed


def test_judging_a_pool_takes_as_many_statements_whatever_other_pools_there_are(lab: Lab) -> None:
    def asked() -> int:
        seen: list[str] = []
        note = lambda *args: seen.append(args[2])  # noqa: E731
        event.listen(lab.store.engine, "before_cursor_execute", note)
        judged(first, begun)
        event.remove(lab.store.engine, "before_cursor_execute", note)
        return len(seen)

    # A window's first twenty minutes have nothing to look back on.
    lab.clock[0] += timedelta(hours=1)
    first = fill(lab, 1)
    fill(lab, 2)
    begun = cycle(first)
    asked()
    of_two = asked()
    for index in range(3, 9):
        other = fill(lab, index)
        judged(other, cycle_of(other))
    begun = cycle(first)
    asked()
    assert asked() == of_two


VERDICTS = st.builds(
    Verdict,
    check=st.just("a_check"),
    passed=st.booleans(),
    severity=st.sampled_from(Severity),
    summary=st.sampled_from(("well", "not well")),
    numbers=st.just({"n": 1}),
    concerned=st.sampled_from(((), ("…0001 (a)",))),
)


@given(VERDICTS, st.dictionaries(st.sampled_from([f"pool-{n}" for n in range(9)]), VERDICTS))
def test_pools_together_pass_only_if_each_does_and_are_as_bad_as_the_worst(
    own: Verdict, others: dict[str, Verdict]
) -> None:
    shown = together("mine", own, others)
    bad = [one for one in (own, *others.values()) if not one.passed]
    assert shown.passed == (not bad)
    if bad:
        assert (shown.severity is Severity.ERROR) == any(one.severity is Severity.ERROR for one in bad)
    told = [
        name for name, one in others.items() if not one.passed and f"{name}: {one.summary}" in shown.summary
    ]
    assert len(told) == min(TOLD, len([one for one in others.values() if not one.passed]))
    assert {name for one in bad for name in one.concerned} <= set(shown.concerned)
    assert shown.summary.startswith("mine:") == (own.passed is False or not bad) or not others, (
        "the worst first"
    )
