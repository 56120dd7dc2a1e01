"""The brake's rules: which deliveries pull it, what it holds, and until when.

Guards against: a dead session that goes on earning, a brake that compounds or never ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from warmup_pipeline.domain.degrade import CIRCUIT_OPENED, UNCONFIRMED
from warmup_pipeline.domain.limits import scaled
from warmup_pipeline.domain.values import MessageState, Phase
from warmup_pipeline.store import chips, schema
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.standing import explain_chip
from warmup_pipeline_tests.support import MORNING, Lab, chip_row
from warmup_pipeline_tests.warmup.given import SECOND, change, chip, found, logged, quiet_lab, the

NOON = MORNING + timedelta(hours=6)
HOUR = timedelta(minutes=60)
THREE_DAYS = timedelta(days=3)
RESTING = [chip_row(number, ddd=11, phase=Phase.REPOUSO, days=0.75) for number in (1, 2)]
"""Warming for 18 hours at 08:00, so for 24 hours at noon: then both may begin with setup."""


@pytest.fixture
def lab(clean_store: Store) -> Iterator[Lab]:
    """Two chips that have earned their next phase at noon, on both databases."""
    with quiet_lab(clean_store, RESTING, at=NOON) as quiet:
        yield quiet


def sends(lab: Lab, count: int, *, confirmed: bool, before: datetime) -> None:
    """Write so many sends of chip 1 down, one a minute, the newest just before an instant."""
    logged(
        lab,
        1,
        2,
        [before - timedelta(minutes=n) - SECOND for n in range(count)],
        state=MessageState.DELIVERED if confirmed else MessageState.ACCEPTED,
        confirmed=confirmed,
        phase=Phase.REPOUSO,
    )


def signals(lab: Lab) -> list[tuple[str, str]]:
    return [(row["chip_id"], row["kind"]) for row in found(lab, schema.brake_signals)]


def phases(lab: Lab) -> list[str]:
    return [str(the(lab, schema.chips, id=chip(number))["phase"]) for number in (1, 2)]


BRAKED = [(chip(1), UNCONFIRMED)]


@pytest.mark.parametrize("unconfirmed", [4, 5])
def test_under_80_percent_of_the_last_20_confirmed_brakes_the_chip_and_holds_its_phase(
    lab: Lab, unconfirmed: int
) -> None:
    old = lab.now - HOUR
    sends(lab, 20 - unconfirmed, confirmed=True, before=old)
    sends(lab, unconfirmed, confirmed=False, before=old - HOUR)
    lab.cycle()
    if unconfirmed == 4:
        assert (signals(lab), phases(lab)) == ([], ["setup", "setup"])
    else:
        assert (signals(lab), phases(lab)) == (BRAKED, ["repouso", "setup"])
        assert explain_chip(lab.world, "0001").braked_until == NOON + THREE_DAYS


def test_only_the_last_20_are_judged(lab: Lab) -> None:
    old = lab.now - HOUR
    sends(lab, 20, confirmed=True, before=old)
    sends(lab, 20, confirmed=False, before=old - HOUR)
    lab.cycle()
    assert signals(lab) == []


def test_what_is_younger_than_60_minutes_may_still_be_confirmed_and_is_not_judged(lab: Lab) -> None:
    sends(lab, 5, confirmed=False, before=lab.now - timedelta(minutes=30))
    # Newer than those, so that the session is not taken for dead.
    sends(lab, 1, confirmed=True, before=lab.now - timedelta(minutes=10))
    sends(lab, 20, confirmed=True, before=lab.now - HOUR)
    lab.cycle()
    assert signals(lab) == []


def test_fewer_than_20_are_no_signal(lab: Lab) -> None:
    old = lab.now - HOUR
    sends(lab, 1, confirmed=True, before=old)
    sends(lab, 18, confirmed=False, before=old - HOUR)
    lab.cycle()
    assert signals(lab) == []


def test_what_no_gateway_could_confirm_is_not_judged(lab: Lab) -> None:
    old = lab.now - HOUR
    sends(lab, 15, confirmed=True, before=old)
    sends(lab, 5, confirmed=False, before=old - HOUR)
    change(lab, schema.messages, {"confirmable": False}, confirmed_at=None)
    lab.cycle()
    assert signals(lab) == []


def test_brake_and_hold_end_three_days_after_the_last_signal(lab: Lab) -> None:
    began = lab.now
    sends(lab, 20, confirmed=False, before=began - 2 * HOUR)
    sends(lab, 1, confirmed=True, before=began - HOUR)
    lab.cycle()
    assert signals(lab) == BRAKED
    change(lab, schema.messages, {"confirmed_at": began, "state": MessageState.DELIVERED})
    last = began + timedelta(days=1)
    with lab.store.write() as tx:
        chips.add_brake_signals(tx, [(chip(1), CIRCUIT_OPENED, last)])
    for at, phase in (
        (began + THREE_DAYS, "repouso"),
        (last + THREE_DAYS - SECOND, "repouso"),
        (last + THREE_DAYS, "setup"),
    ):
        lab.move_to(at)
        lab.cycle()
        assert phases(lab)[0] == phase, at


def test_a_signal_that_lasts_moves_on_so_that_the_brake_ends_three_days_after_it_was_last_seen(
    lab: Lab,
) -> None:
    sends(lab, 20, confirmed=False, before=lab.now - 2 * HOUR)
    sends(lab, 1, confirmed=True, before=lab.now - HOUR)
    for _ in range(3):
        seen_at = lab.now
        lab.cycle()
        assert signals(lab) == BRAKED, "one signal, not one a cycle"
        assert explain_chip(lab.world, "0001").braked_until == seen_at + THREE_DAYS


def test_the_brake_takes_a_quarter_of_the_limits_once_however_many_signals_there_are(
    clean_sqlite: Store,
) -> None:
    rows = [chip_row(number, ddd=11, phase=Phase.EXPANSAO, days=9) for number in (1, 2)]
    with quiet_lab(clean_sqlite, rows, at=NOON) as lab:
        plan = lab.world.policy.phases[Phase.EXPANSAO]
        free = explain_chip(lab.world, "0001")
        factor = next(f for f in (1.0, 0.8, 0.5, 0.2) if scaled(plan.sends_per_day, f) == free.day.limit)
        for kinds in ([UNCONFIRMED], [UNCONFIRMED, CIRCUIT_OPENED]):
            with lab.store.write() as tx:
                chips.add_brake_signals(tx, [(chip(1), kind, lab.now) for kind in kinds])
            braked = explain_chip(lab.world, "0001")
            assert braked.day.limit == int(plan.sends_per_day * factor * 0.75) < free.day.limit
            assert braked.hour.limit == int(plan.sends_per_hour * factor * 0.75) < free.hour.limit
