"""The trap: a rule that a clock alone brings about, and that ``timelapse.horizon`` knows nothing of.

Some pools live through random faults and operators twice, once with every tick run and once with ticks
stepped over, and must come to the same rows. A few seeds run with the tests, more by name:

    WARMUP_INVARIANTS=full python -m pytest warmup_pipeline_tests/warmup/test_stepping.py
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from warmup_pipeline.domain.values import OBSERVED_STATUSES, ChipStatus
from warmup_pipeline.store import chips
from warmup_pipeline.store import timelapse as timelapse_store
from warmup_pipeline.warmup import operating
from warmup_pipeline.warmup.timelapse import (
    FaultProfile,
    SimulationSettings,
    Timelapse,
    load_profile,
    open_timelapse,
)
from warmup_pipeline.warmup.timelapse.profiles import Strike
from warmup_pipeline_tests.support import rows_of
from warmup_pipeline_tests.warmup.test_invariants import AUDIT, FAULTS, FULL, POLICIES, WHO

# Thousands of cycles of what other tests cover: traced, they take twice as long.
pytestmark = pytest.mark.no_cover

SEEDS: Final = tuple(range(40)) if FULL else (5, 10, 11)
"""In 5 the gateways begin to fail when asked, just after ticks that were stepped over: the last look was too old."""

HOURS: Final = 40 if FULL else 14

_COMPARED: Final = {
    "chips": "SELECT * FROM chips ORDER BY id",
    "conversations": "SELECT * FROM conversations ORDER BY id",
    "signals": "SELECT chip_id, kind, at FROM brake_signals ORDER BY chip_id, kind, at",
    "breakers": "SELECT * FROM circuits ORDER BY chip_id",
    "connections": "SELECT chip_id, at, source, state, detail FROM connection_history ORDER BY at, chip_id, id",
    "trust": "SELECT chip_id, score, level FROM trust_scores ORDER BY chip_id",
    "refusals": "SELECT at, sender_chip_id, subject, decision, reason, until FROM presend_validations ORDER BY id",
    "cycles": "SELECT tick, state FROM cycles ORDER BY tick",
}


def strike(timelapse: Timelapse, draw: random.Random) -> None:
    name = draw.choice(sorted(FAULTS))
    (episode,) = FaultProfile.model_validate(
        {"name": name, "description": name, "episodes": [FAULTS[name]]}
    ).episodes
    now, hours = timelapse.now, draw.choice([0.3, 1.5, 4])
    chip = None if episode.chip is None else draw.randrange(99)
    timelapse.weather.add([Strike(episode, now, now + timedelta(hours=hours), chip)])


def _one_of(timelapse: Timelapse, draw: random.Random, *statuses: ChipStatus) -> list[str]:
    with timelapse.world.store.read() as tx:
        found = [chip.id for chip in chips.of_pool(tx, timelapse.pool) if chip.status in statuses]
    return [draw.choice(found)] if found else []


def pause(timelapse: Timelapse, draw: random.Random) -> None:
    if which := _one_of(timelapse, draw, *OBSERVED_STATUSES):
        operating.pause_chips(timelapse.world, which, **WHO)


def resume(timelapse: Timelapse, draw: random.Random) -> None:
    if which := _one_of(timelapse, draw, ChipStatus.PAUSED):
        operating.resume_chips(timelapse.world, which, **WHO)


def start(timelapse: Timelapse, draw: random.Random) -> None:
    # Chips of a fresh pool are started when it is their turn.
    which = _one_of(timelapse, draw, ChipStatus.PENDING, ChipStatus.PROVISIONED)
    if which and not timelapse.has_starts:
        operating.start_chips(timelapse.world, which, **WHO)


def switch_off_for_a_while(timelapse: Timelapse, draw: random.Random) -> None:
    until = timelapse.now + timedelta(minutes=draw.choice([7, 50, 130]))
    if which := _one_of(timelapse, draw, *OBSERVED_STATUSES):
        operating.set_kill_switch(timelapse.world, scope="chip", target=which[0], expires_at=until, **WHO)


def reset_a_breaker(timelapse: Timelapse, draw: random.Random) -> None:
    if which := _one_of(timelapse, draw, *OBSERVED_STATUSES):
        operating.reset_circuit(timelapse.world, which, **WHO)


def change_the_policy(timelapse: Timelapse, draw: random.Random) -> None:
    timelapse.world = replace(timelapse.world, policy=POLICIES[draw.choice(sorted(POLICIES))])


EVENTS: Final[tuple[Callable[[Timelapse, random.Random], None], ...]] = (
    *(strike,) * 5,
    pause,
    resume,
    start,
    switch_off_for_a_while,
    reset_a_breaker,
    change_the_policy,
)


def lived(seed: int, *, step_over: bool) -> tuple[dict[str, Any], int]:
    """Return what a pool comes to, and how many ticks were stepped over."""
    draw = random.Random(seed)
    fresh = draw.random() < 0.3
    pool: dict[str, Any] = {"chips": 4} if fresh else {"pool_dir": AUDIT}
    settings = SimulationSettings(
        policy=POLICIES["default"],
        days=4,
        faults=load_profile("none"),
        seed=seed,
        step_over=step_over,
        **pool,
    )
    with open_timelapse(settings) as timelapse:
        if fresh:
            # Nobody says anything before the second day.
            timelapse.run_until(timelapse.now + timedelta(hours=26))
        ends_at = timelapse.now + timedelta(hours=HOURS)
        while timelapse.now < ends_at:
            draw.choice(EVENTS)(timelapse, draw)
            minutes = draw.choice([5, 25, 60, 120, 240])
            timelapse.run_until(min(ends_at, timelapse.now + timedelta(minutes=minutes)))
        # The last tick is run in both: what is derived is of the same moment.
        timelapse.step()
        store = timelapse.world.store
        with store.read() as tx:
            found: dict[str, Any] = {"digest": timelapse_store.digest(tx, timelapse.pool)}
        found |= {name: rows_of(store, query) for name, query in _COMPARED.items()}
        return found, timelapse.cycles_stepped_over


@pytest.mark.parametrize("seed", SEEDS)
def test_random_faults_and_operators_come_to_the_same_rows_with_and_without_every_tick(seed: int) -> None:
    leapt, left_out = lived(seed, step_over=True)
    stepped, none = lived(seed, step_over=False)
    for name, rows in stepped.items():
        assert leapt[name] == rows, name
    assert none == 0
    # Where faults or their chances never rest, nothing can be left out: such seeds are not among the few.
    assert FULL or left_out > 0
