"""What must hold of a pool at every moment, whatever happened to it.

Holds: :class:`Invariants`, which looks at a pool in virtual time through the gateways' own log and
through the database. Add here: a sentence that must always hold, as a method that asserts it. Do not
add: what happens to the pool (``test_invariants``).

Source: issue 3, "Invariants as properties".
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final, NoReturn

import sqlalchemy as sa

from warmup_pipeline.domain.localtime import in_window, local_day
from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.domain.values import OPEN_ACTIVITY_STATES, ChipStatus, Phase
from warmup_pipeline.store import chips
from warmup_pipeline.store import timelapse as timelapse_store
from warmup_pipeline.store.schema import (
    chip_metrics,
    daily_summary,
    phase_eligibility,
    trust_scores,
    warming_day,
)
from warmup_pipeline.warmup.checks import CHECKS
from warmup_pipeline.warmup.demo import measure
from warmup_pipeline.warmup.derive.standing import derive_standing
from warmup_pipeline.warmup.summary import compute_day
from warmup_pipeline.warmup.timelapse import Timelapse
from warmup_pipeline.warmup.timelapse.result import seen_in_process
from warmup_pipeline_tests.support import rows_of

SHORTEST_GAP: Final = timedelta(seconds=45)
"""The smallest minimum gap of any trust level of any policy that tests use."""

_JUDGES: Final = {spec.name: spec.judge for spec in CHECKS}


class _Undo(Exception):
    """Rolls a recomputation back."""


def _undo() -> NoReturn:
    raise _Undo


class Invariants:
    """Looks at a pool after every step.

    Args:
        timelapse: the pool.
        widest: the policy whose phase limits no other may exceed.
    """

    def __init__(self, timelapse: Timelapse, widest: Policy) -> None:
        self._timelapse = timelapse
        self._widest = widest
        self._started: dict[str, Any] = {}
        self._silenced: dict[str, int] = {}
        self._all_silenced: int | None = None
        self.sends = 0
        """Messages the gateways have accepted so far."""

    # -- what operators forbade ----------------------------------------------------------------

    def paused(self, chip_id: str) -> None:
        """From now on nothing may be sent by or to a chip."""
        self._silenced[chip_id] = self._sends_with(chip_id)

    def resumed(self, chip_id: str) -> None:
        """A chip may send again."""
        self._silenced.pop(chip_id, None)

    def switched_off(self) -> None:
        """From now on nothing may be sent at all."""
        if self._all_silenced is None:
            self._all_silenced = len(seen_in_process(self._timelapse.core))

    def switched_on(self) -> None:
        """Sending is allowed again."""
        self._all_silenced = None

    def _sends_with(self, chip_id: str) -> int:
        (found,) = rows_of(
            self._timelapse.world.store,
            "SELECT count(*) AS n FROM messages WHERE sender_chip_id = :chip OR recipient_chip_id = :chip",
            chip=chip_id,
        )
        return int(found["n"])

    # -- what must always hold -----------------------------------------------------------------

    def hold(self) -> None:
        """Assert everything that holds at every moment."""
        self._no_limit_window_or_gap_is_broken_and_nothing_is_early()
        self._nothing_is_sent_outside_the_pool()
        self._what_was_forbidden_does_not_happen()
        self._past_days_have_only_final_activities()
        self._phases_are_earned_one_at_a_time()
        self._warming_never_starts_anew()

    def hold_after_a_cycle(self) -> None:
        """Assert, beside that, what cycles derive: operators' actions show there with the next one."""
        self.hold()
        self._trust_is_a_score()
        self._derived_tables_are_what_the_log_says()

    def _no_limit_window_or_gap_is_broken_and_nothing_is_early(self) -> None:
        world = replace(self._timelapse.world, policy=self._widest)
        with world.store.read() as tx:
            ran = timelapse_store.cycles_of(tx, self._timelapse.pool)
        seen = seen_in_process(self._timelapse.core)
        self.sends = len(seen)
        figures = measure(world, ran, seen=seen)
        assert figures.limit_violations == 0
        assert figures.sends_outside_window == 0
        assert figures.early_executions == 0
        assert figures.duplicate_sends == 0
        assert figures.sends_not_in_log == 0
        assert figures.unimplemented_planned == 0
        assert all(in_window(one.at, self._widest) for one in seen)
        by_sender: dict[tuple[str, str], list[datetime]] = {}
        for one in seen:
            by_sender.setdefault(one.instance, []).append(one.at)
        for times in by_sender.values():
            assert all(b - a >= SHORTEST_GAP for a, b in pairwise(sorted(times)))
        crowded = rows_of(
            world.store,
            "SELECT cycle_id FROM messages GROUP BY cycle_id, sender_chip_id HAVING count(*) > 1",
        )
        assert crowded == []

    def _nothing_is_sent_outside_the_pool(self) -> None:
        world = self._timelapse.world
        with world.store.read() as tx:
            ours = {(c.provider.value, c.instance) for c in chips.of_pool(tx, self._timelapse.pool)}
        for one in seen_in_process(self._timelapse.core):
            assert one.recipient_instance in ours
        never = rows_of(
            world.store,
            "SELECT m.id FROM messages m JOIN chips s ON s.id = m.sender_chip_id JOIN chips r"
            " ON r.id = m.recipient_chip_id WHERE s.role = 'listener' OR r.role = 'listener'"
            " OR s.pool <> m.pool OR r.pool <> m.pool",
        )
        assert never == []
        assert _JUDGES["every_send_was_approved"](world).passed

    def _what_was_forbidden_does_not_happen(self) -> None:
        for chip_id, before in self._silenced.items():
            assert self._sends_with(chip_id) == before
        if self._all_silenced is not None:
            assert self.sends == self._all_silenced

    def _past_days_have_only_final_activities(self) -> None:
        last = self._last_tick()
        if last is None:
            return
        day = local_day(last, self._widest.zone)
        states = ", ".join(f"'{state.value}'" for state in OPEN_ACTIVITY_STATES)
        left = rows_of(
            self._timelapse.world.store,
            f"SELECT id, state FROM activities WHERE day < :day AND state IN ({states})",
            day=day.isoformat(),
        )
        assert left == []
        unexplained = rows_of(
            self._timelapse.world.store,
            f"SELECT id, state FROM activities WHERE state NOT IN ({states})"
            " AND source <> 'import' AND (reason IS NULL OR reason = '')",
        )
        assert unexplained == []

    def _phases_are_earned_one_at_a_time(self) -> None:
        verdict = _JUDGES["transitions_were_earned"](self._timelapse.world)
        assert verdict.passed, verdict.summary
        moves = rows_of(self._timelapse.world.store, "SELECT * FROM phase_transitions ORDER BY chip_id, at")
        for move in moves:
            assert Phase(move["from_phase"]).next == move["to_phase"]
        for one, other in pairwise(moves):
            assert (one["chip_id"], one["at"]) != (other["chip_id"], other["at"])

    def _warming_never_starts_anew(self) -> None:
        for row in rows_of(
            self._timelapse.world.store,
            "SELECT id, warming_started_at FROM chips WHERE warming_started_at IS NOT NULL",
        ):
            assert self._started.setdefault(row["id"], row["warming_started_at"]) == row["warming_started_at"]

    def _trust_is_a_score(self) -> None:
        scores = rows_of(self._timelapse.world.store, "SELECT score FROM trust_scores")
        assert all(0 <= row["score"] <= 100 for row in scores)

    def _derived_tables_are_what_the_log_says(self) -> None:
        world, pool = self._timelapse.world, self._timelapse.pool
        (computed,) = rows_of(world.store, "SELECT max(computed_at) AS at FROM chip_metrics")
        at = self._last_tick()
        assert at is not None
        assert str(computed["at"]).startswith(f"{at:%Y-%m-%d %H:%M:%S}")
        day = local_day(at, world.policy.zone)
        # Trust knows a chip's phase, so the next cycle scores those anew that have just moved.
        moved = {
            row["chip_id"]
            for row in rows_of(
                world.store,
                "SELECT chip_id FROM phase_transitions WHERE at = (SELECT max(at) FROM phase_transitions)"
                " AND cycle_id = (SELECT cycle_id FROM phase_transitions ORDER BY at DESC LIMIT 1)",
            )
        }

        def contents(tx: Any) -> dict[str, list[Any]]:
            found = {}
            for table in (chip_metrics, trust_scores, warming_day, phase_eligibility):
                rows = [dict(row) for row in tx.connection.execute(sa.select(table)).mappings()]
                if table in (trust_scores, phase_eligibility):
                    rows = [row for row in rows if row["chip_id"] not in moved]
                found[table.name] = sorted(map(repr, rows))
            return found

        with world.store.read() as tx:
            before = contents(tx)
            summary = sorted(
                repr(dict(row))
                for row in tx.connection.execute(
                    sa.select(daily_summary).where(daily_summary.c.day == day)
                ).mappings()
            )
            again = sorted(repr(row) for row in compute_day(tx, world, day, as_of=at))
        with suppress(_Undo), world.store.write() as tx:
            derive_standing(tx, world, pool, at)
            after = contents(tx)
            _undo()
        assert before == after
        assert summary == again

    def _last_tick(self) -> datetime | None:
        """Return the last tick whose cycle ran."""
        with self._timelapse.world.store.read() as tx:
            ran = timelapse_store.cycles_of(tx, self._timelapse.pool)
        # What was looked ahead at took no time and had no begin of its own; the clock stands at the last run.
        ticks = [cycle.tick for cycle in ran if cycle.tick <= self._timelapse.clock.now()]
        return max(ticks, default=None)


PARTICIPATES: Final = (ChipStatus.WARMING, ChipStatus.READY, ChipStatus.ACTIVE)
