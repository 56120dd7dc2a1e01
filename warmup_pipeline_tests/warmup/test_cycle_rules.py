"""Cycles' rules: which may be taken up again, which were missed, which days are summed anew, and silence.

Guards against: an old cycle that sends by rules of an hour ago, a gap nobody sees, a day that is never final.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta

import pytest

from warmup_pipeline.domain.health import Severity, Verdict
from warmup_pipeline.domain.values import FailureClass, MessageState
from warmup_pipeline.store import schema, summaries
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup import claim, connections, lifecycle, pair, plan, send, validate
from warmup_pipeline.warmup.checks.summary import cycle_is_on_time
from warmup_pipeline.warmup.confirm import Receipt, apply_receipts
from warmup_pipeline_tests.support import MORNING, Lab, chip_row, due_openings, open_lab
from warmup_pipeline_tests.warmup.given import at_gateway, chip, found, quiet_lab, the

NOON = MORNING + timedelta(hours=6)
CHIPS = [chip_row(number, ddd=11) for number in (1, 2)]
FIVE_MINUTES = timedelta(minutes=5)


@pytest.fixture
def lab(clean_store: Store) -> Iterator[Lab]:
    """Two chips that can talk, at 14:00 local, on both databases."""
    with quiet_lab(clean_store, CHIPS, at=NOON) as quiet:
        yield quiet


@pytest.fixture
def one_database(clean_sqlite: Store) -> Iterator[Lab]:
    """The same on SQLite."""
    with quiet_lab(clean_sqlite, CHIPS, at=NOON) as quiet:
        yield quiet


def approve(lab: Lab, cycle: Cycle) -> None:
    """Run a cycle's steps up to its approvals."""
    for step in (
        connections.refresh_connections,
        plan.plan_day,
        claim.claim_due,
        pair.pair_chips,
        validate.validate_sends,
    ):
        step(lab.world, cycle)


def failed_before_sending(lab: Lab) -> Cycle:
    """Let a cycle of run ``one`` approve an opening and fail before it was sent."""
    due_openings(lab, [chip(1)])
    cycle = lab.begin(run="one")
    approve(lab, cycle)
    lifecycle.fail_cycle(lab.world, cycle)
    return cycle


@pytest.mark.parametrize(
    ("later", "sent"), [(timedelta(minutes=1), 1), (lifecycle.LEASE, 0)], ids=["1 min", "290 s"]
)
def test_a_failed_cycle_that_is_run_again_sends_only_until_290_s_after_its_tick(
    lab: Lab, later: timedelta, sent: int
) -> None:
    failed = failed_before_sending(lab)
    lab.move_to(failed.tick + later)
    cycle = lifecycle.take_up_cycle(lab.world, "one")
    assert (cycle.id, cycle.tick, cycle.state) == (failed.id, failed.tick, "running")
    assert cycle.lease_until == failed.tick + timedelta(seconds=290)
    send.send_messages(lab.world, cycle)
    assert len(at_gateway(lab)) == sent


def test_a_cycle_is_not_run_again_once_a_later_one_has_begun(lab: Lab) -> None:
    failed_before_sending(lab)
    lab.move_to(lab.now + FIVE_MINUTES)
    lab.begin(run="two")
    with pytest.raises(lifecycle.CycleRefused, match="has gone on to the cycle of"):
        lifecycle.take_up_cycle(lab.world, "one")
    assert at_gateway(lab) == []


def test_a_run_that_never_began_a_cycle_has_none_to_take_up(one_database: Lab) -> None:
    with pytest.raises(lifecycle.CycleRefused, match="this run has no cycle"):
        lifecycle.take_up_cycle(one_database.world, "never")


def test_a_cycle_that_finished_is_not_reopened(one_database: Lab) -> None:
    cycle = one_database.begin(run="one")
    lifecycle.end_cycle(one_database.world, cycle)
    assert lifecycle.take_up_cycle(one_database.world, "one").state == "finished"


DAY = date(2026, 3, 2)


def summary(lab: Lab, day: date = DAY, scope: str = "pool") -> dict[str, object]:
    return the(lab, schema.daily_summary, day=day, scope=scope)


def run_at(lab: Lab, *at: datetime) -> None:
    for tick in at:
        lab.move_to(tick)
        lab.cycle()


def test_every_slot_since_the_first_cycle_without_a_finished_one_is_missed(clean_store: Store) -> None:
    with open_lab(clean_store) as lab:
        lab.add(CHIPS)
        run_at(lab, MORNING, MORNING + FIVE_MINUTES)
        lab.move_to(MORNING + 2 * FIVE_MINUTES)
        lifecycle.fail_cycle(lab.world, lab.begin())
        run_at(lab, MORNING + 4 * FIVE_MINUTES)
        # Of 08:00, :05, :10 and :15 the third failed and the fourth never was; 08:20 is still running.
        assert (summary(lab)["cycles_run"], summary(lab)["cycles_missed"]) == (2, 2)
        run_at(lab, MORNING + timedelta(days=1))
        # 16 hours to midnight are 192 slots, three of which had a finished cycle.
        for scope in ("pool", "all"):
            row = summary(lab, scope=scope)
            assert (row["cycles_run"], row["cycles_missed"], row["final"]) == (3, 189, True)
        # The next day's count from midnight on.
        tomorrow = summary(lab, DAY + timedelta(days=1))
        assert (tomorrow["cycles_run"], tomorrow["cycles_missed"]) == (0, 8 * 12)


def days_to_finish(lab: Lab, today: date) -> list[date]:
    with lab.store.read() as tx:
        return summaries.days_to_finish(tx, today, lab.pool)


def test_a_day_is_summed_again_until_it_is_final_however_long_ago_it_was(lab: Lab) -> None:
    lab.cycle()
    assert days_to_finish(lab, DAY) == [], "the running day is no earlier one"
    # Nothing ran for three days.
    assert days_to_finish(lab, DAY + timedelta(days=4)) == [DAY]
    run_at(lab, NOON + timedelta(days=4))
    assert summary(lab)["final"]
    assert days_to_finish(lab, DAY + timedelta(days=4)) == []


def fails_late(lab: Lab, message_id: object) -> None:
    """Let a message, as it was accepted and nothing more, be told as failed."""
    of_it = schema.messages.c.id == message_id
    with lab.store.write() as tx:
        tx.lock_pool(lab.pool)
        late = Receipt(str(message_id), MessageState.FAILED, "late", FailureClass.TRANSIENT)
        # As polling finds it: the receipts of a message that was accepted only.
        tx.connection.execute(
            schema.messages.update().where(of_it).values(state="accepted", confirmed_at=None)
        )
        apply_receipts(tx, lab.world, [late], at=lab.now)


def test_yesterday_is_summed_again_when_a_message_of_it_fails_late(lab: Lab) -> None:
    due_openings(lab, [chip(1)])
    lab.cycle()
    (message,) = found(lab, schema.messages)
    run_at(lab, NOON + timedelta(days=1))
    tomorrow = DAY + timedelta(days=1)
    assert (summary(lab)["sent"], summary(lab)["failed"]) == (1, 0)
    assert days_to_finish(lab, tomorrow) == []
    fails_late(lab, message["id"])
    assert days_to_finish(lab, tomorrow) == [DAY]
    lab.cycle()
    assert (summary(lab)["sent"], summary(lab)["failed"]) == (0, 1)
    assert days_to_finish(lab, tomorrow) == []


def test_what_becomes_of_a_send_days_later_is_in_its_days_summary_from_the_next_midnight_on(lab: Lab) -> None:
    due_openings(lab, [chip(1)])
    lab.cycle()
    (message,) = found(lab, schema.messages)
    run_at(lab, *(NOON + timedelta(days=days) for days in (1, 2, 3)))
    fails_late(lab, message["id"])
    assert days_to_finish(lab, DAY + timedelta(days=3)) == [], "the day is begun"
    lab.cycle()
    assert (summary(lab)["sent"], summary(lab)["failed"]) == (1, 0)
    assert days_to_finish(lab, DAY + timedelta(days=4)) == [DAY, DAY + timedelta(days=3)]
    assert DAY not in days_to_finish(lab, DAY + timedelta(days=9)), "longer ago than a week"
    run_at(lab, NOON + timedelta(days=4))
    for scope in ("pool", "all"):
        assert (summary(lab, scope=scope)["sent"], summary(lab, scope=scope)["failed"]) == (0, 1)


def approve_and_never_send(lab: Lab, times: int) -> None:
    """Run so many cycles that approve an opening and end without having sent it."""
    for _ in range(times):
        cycle = lab.begin()
        approve(lab, cycle)
        lifecycle.end_cycle(lab.world, cycle)
        lab.move_to(lab.now + FIVE_MINUTES)


def on_time(lab: Lab) -> Verdict:
    return cycle_is_on_time(lab.world)


def test_sends_that_are_due_with_nothing_sent_for_20_minutes_are_a_warning(lab: Lab) -> None:
    due_openings(lab, [chip(1)])
    approve_and_never_send(lab, 5)
    verdict = on_time(lab)
    assert (verdict.passed, verdict.severity) == (False, Severity.WARN)
    assert verdict.numbers["silent"] == 1
    lab.cycle()
    assert len(at_gateway(lab)) == 1
    assert on_time(lab).passed, "it was sent at last"


def test_silence_with_nothing_due_is_none(one_database: Lab) -> None:
    one_database.cycles(6)
    assert on_time(one_database).passed


def test_silence_outside_the_window_is_none(one_database: Lab) -> None:
    lab = one_database
    lab.move_to(MORNING + timedelta(hours=11, minutes=40))
    due_openings(lab, [chip(1)])
    approve_and_never_send(lab, 6)
    lab.cycle()
    assert on_time(lab).passed
