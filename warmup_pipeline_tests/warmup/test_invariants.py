"""The trap: a rule that holds in every test somebody thought of.

A state machine lets chips, faults, operators and time do what they like to the audited pool, through
the real cycle in virtual time, and asserts the invariants after every step. A short form runs with
the tests; the full one is asked for by name:

    WARMUP_INVARIANTS=full python -m pytest warmup_pipeline_tests/warmup/test_invariants.py
"""

from __future__ import annotations

import csv
import os
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.values import (
    CONVERSA_PAR,
    ENVIAR_MIDIA,
    ActivityState,
    ChipStatus,
    Provider,
    RowSource,
)
from warmup_pipeline.gateways.simulator import SimulatedInstance
from warmup_pipeline.store import activities, chips
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.warmup import operating
from warmup_pipeline.warmup.ids import derived_id
from warmup_pipeline.warmup.importing import import_pool
from warmup_pipeline.warmup.policies import load_policy
from warmup_pipeline.warmup.timelapse import FaultProfile, SimulationSettings, load_profile, open_timelapse
from warmup_pipeline.warmup.timelapse.profiles import Strike
from warmup_pipeline_tests.support import rows_of
from warmup_pipeline_tests.warmup.invariants import PARTICIPATES, Invariants

AUDIT: Final = Path(__file__).parents[2] / "warmup_pipeline" / "data" / "audit"
FULL: Final = os.environ.get("WARMUP_INVARIANTS") == "full"
POLICIES: Final = {name: load_policy(name) for name in ("default", "conservative")}
WHO: Final[dict[str, Any]] = {"author": "a state machine", "reason": "to see whether it holds"}

SEND: Final = {"route": "any-send"}
FAULTS: Final[dict[str, dict[str, Any]]] = {
    "server error": {"rules": [{"match": SEND, "kind": "status", "code": 500, "probability": 0.4}]},
    "too busy": {"rules": [{"match": SEND, "kind": "status", "code": 503, "probability": 0.4}]},
    "rate limited": {
        "rules": [{"match": SEND, "kind": "status", "body": "rate_overlimit", "probability": 0.4}]
    },
    "restricted": {
        "rules": [{"match": SEND, "kind": "status", "code": 403, "body": "restriction", "times": 1}],
        "chip": 0,
    },
    "never answers": {"rules": [{"match": SEND, "kind": "hang", "seconds": 30, "probability": 0.5}]},
    "reset after": {"rules": [{"match": SEND, "kind": "reset_after", "probability": 0.5}]},
    "reset before": {"rules": [{"match": SEND, "kind": "reset_before", "probability": 0.5}]},
    "nonsense": {"rules": [{"match": SEND, "kind": "malformed_json", "probability": 0.5}]},
    "lost": {"rules": [{"match": SEND, "kind": "lost", "probability": 0.5}]},
    "asking fails": {"rules": [{"kind": "status", "code": 500, "probability": 0.2}]},
    "credentials refused": {"rules": [{"kind": "status", "body": "unauthorized"}]},
    "down": {"down": True, "chip": 0},
    "zombie": {"zombie": True, "chip": 0},
    "unreachable": {"unreachable": ["evolution"]},
    "the other unreachable": {"unreachable": ["z-api"]},
}

WAITS: Final = st.sampled_from([5, 10, 30, 60, 60, 120, 240])
OPENS, CLOSES = 8, 20
"""The sending window's hours, local."""

WHICH: Final = st.integers(0, 99)


class Pool(RuleBasedStateMachine):
    """The audited pool and everything that can happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._added = 0
        self._talks = 0

    @initialize(hours=st.sampled_from([0, 3, 26]))
    def open(self, hours: int) -> None:
        """Begin at the audit's moment, some hours of quiet warm-up later."""
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.timelapse = self._stack.enter_context(
            open_timelapse(
                SimulationSettings(
                    policy=POLICIES["default"], days=30, faults=load_profile("none"), pool_dir=AUDIT
                )
            )
        )
        self.must = Invariants(self.timelapse, POLICIES["default"])
        self.paused: set[str] = set()
        self.all_off = False
        if hours:
            self.timelapse.run_until(self.timelapse.now + timedelta(hours=hours))
            self.must.hold_after_a_cycle()

    def teardown(self) -> None:
        self._stack.close()

    def _chips(self, *statuses: ChipStatus) -> list[Chip]:
        with self.timelapse.world.store.read() as tx:
            return [chip for chip in chips.of_pool(tx, self.timelapse.pool) if chip.status in statuses]

    def _then(self, minutes: int) -> None:
        """Look at once, let everybody have something to say, let time pass, and look again."""
        self.must.hold()
        self._talk(1)
        self.timelapse.run_until(self.timelapse.now + timedelta(minutes=minutes))
        self.must.hold_after_a_cycle()
        local = self.timelapse.now.astimezone(self.timelapse.world.policy.zone)
        if not OPENS <= local.hour < CLOSES:
            # By night little can happen: what comes next comes by day.
            self._run_to_hour(local + timedelta(days=local.hour >= CLOSES), OPENS + 1)

    def _run_to_hour(self, local: datetime, hour: int) -> None:
        self.timelapse.run_until(local.replace(hour=hour, minute=0))
        self.must.hold_after_a_cycle()

    def _talk(self, each: int) -> None:
        """Give every chip that takes part openings that are due now."""
        now = self.timelapse.now
        day = local_day(now, self.timelapse.world.policy.zone)
        self._talks += 1
        rows = [
            {
                "id": derived_id("talk", chip.id, self._talks, number),
                "pool": chip.pool,
                "chip_id": chip.id,
                "type": ENVIAR_MIDIA if number % 2 else CONVERSA_PAR,
                "day": day,
                "planned_at": now,
                "due_at": now,
                "state": ActivityState.PLANNED,
                "source": RowSource.WARMUP,
            }
            for chip in self._chips(*PARTICIPATES)
            for number in range(each)
        ]
        with self.timelapse.world.store.write() as tx:
            activities.insert_plans(tx, [], rows)

    # -- time

    @rule(minutes=WAITS)
    def wait(self, minutes: int) -> None:
        self._then(minutes)

    @rule(each=st.integers(2, 9), minutes=WAITS)
    def a_backlog_falls_due(self, each: int, minutes: int) -> None:
        """Put far more on every chip's day than any plan would: only the limits are left to stop it."""
        self._talk(each)
        self._then(minutes)

    @rule(hour=st.sampled_from([9, 12, 15]))
    def sleep_over_night(self, hour: int) -> None:
        zone = self.timelapse.world.policy.zone
        self._run_to_hour(self.timelapse.now.astimezone(zone) + timedelta(days=1), hour)

    # -- faults

    @rule(
        fault=st.sampled_from(sorted(FAULTS)), which=WHICH, hours=st.sampled_from([0.5, 2, 12]), minutes=WAITS
    )
    def strike(self, fault: str, which: int, hours: float, minutes: int) -> None:
        (episode,) = FaultProfile.model_validate(
            {"name": fault, "description": fault, "episodes": [FAULTS[fault]]}
        ).episodes
        chip = None if episode.chip is None else which
        now = self.timelapse.now
        self.timelapse.weather.add([Strike(episode, now, now + timedelta(hours=hours), chip)])
        self._then(minutes)

    # -- operators

    @precondition(lambda self: len(self.paused) < 4)
    @rule(which=WHICH, minutes=WAITS)
    def pause(self, which: int, minutes: int) -> None:
        found = self._chips(*PARTICIPATES, ChipStatus.DEGRADED)
        if not found:
            return
        chip = found[which % len(found)]
        operating.pause_chips(self.timelapse.world, [chip.id], **WHO)
        self.paused.add(chip.id)
        self.must.paused(chip.id)
        self._then(minutes)

    @precondition(lambda self: self.paused)
    @rule(which=WHICH, minutes=WAITS)
    def resume(self, which: int, minutes: int) -> None:
        chip_id = sorted(self.paused)[which % len(self.paused)]
        operating.resume_chips(self.timelapse.world, [chip_id], **WHO)
        self.paused.discard(chip_id)
        self.must.resumed(chip_id)
        self._then(minutes)

    @rule(which=WHICH, minutes=WAITS)
    def start(self, which: int, minutes: int) -> None:
        found = self._chips(ChipStatus.PENDING, ChipStatus.PROVISIONED)
        if found:
            operating.start_chips(self.timelapse.world, [found[which % len(found)].id], **WHO)
            self._then(minutes)

    @precondition(lambda self: not self.all_off)
    @rule(minutes=WAITS)
    def switch_everything_off(self, minutes: int) -> None:
        operating.set_kill_switch(self.timelapse.world, scope="all", **WHO)
        self.all_off = True
        self.must.switched_off()
        self._then(minutes)

    @precondition(lambda self: self.all_off)
    @rule(minutes=WAITS)
    def switch_everything_on(self, minutes: int) -> None:
        operating.set_kill_switch(self.timelapse.world, scope="all", lift=True, **WHO)
        self.all_off = False
        self.must.switched_on()
        self._then(minutes)

    @rule(which=WHICH, lasts=st.sampled_from([10, 90]), minutes=WAITS)
    def switch_a_chip_off_for_a_while(self, which: int, lasts: int, minutes: int) -> None:
        found = self._chips(*PARTICIPATES)
        if found:
            operating.set_kill_switch(
                self.timelapse.world,
                scope="chip",
                target=found[which % len(found)].id,
                expires_at=self.timelapse.now + timedelta(minutes=lasts),
                **WHO,
            )
            self._then(minutes)

    @rule(which=WHICH, minutes=WAITS)
    def reset_a_breaker(self, which: int, minutes: int) -> None:
        found = self._chips(*PARTICIPATES, ChipStatus.DEGRADED)
        if found:
            operating.reset_circuit(self.timelapse.world, [found[which % len(found)].id], **WHO)
            self._then(minutes)

    @rule(name=st.sampled_from(sorted(POLICIES)), minutes=WAITS)
    def change_the_policy(self, name: str, minutes: int) -> None:
        self.timelapse.world = replace(self.timelapse.world, policy=POLICIES[name])
        self._then(minutes)

    @rule(minutes=WAITS)
    def import_the_same_again(self, minutes: int) -> None:
        def everything() -> list[Any]:
            return [
                rows_of(self.timelapse.world.store, f"SELECT * FROM {table} ORDER BY id")
                for table in ("chips", "activities", "messages", "conversations")
            ]

        before = everything()
        files = [AUDIT / f"{name}.csv" for name in ("chips", "warmup_schedule", "chip_interactions")]
        import_pool(self.timelapse.world, files[0], files[1], files[2], author=WHO["author"])
        assert everything() == before
        self._then(minutes)

    @precondition(lambda self: self._added < 3)
    @rule(phase=st.sampled_from(["setup", "expansao"]), age=st.integers(1, 12), minutes=WAITS)
    def import_another_chip(self, phase: str, age: int, minutes: int) -> None:
        self._added += 1
        began = self.timelapse.now - timedelta(days=age)
        row = {
            "id": f"00000000-0000-4000-8000-{self._added:012d}",
            "telefone": f"551198{self._added:07d}",
            "instance_name": f"another-{self._added}",
            "provider": "evolution",
            "tipo": "julia",
            "status": "warming",
            "fase_warmup": phase,
            "fase_iniciada_em": began.isoformat(),
            "warming_started_at": began.isoformat(),
            "created_at": began.isoformat(),
        }
        path = self._folder / f"another-{self._added}.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerow(row)
        import_pool(self.timelapse.world, path, author=WHO["author"])
        self.timelapse.core.declare(
            [
                SimulatedInstance(
                    provider=Provider.EVOLUTION,
                    name=row["instance_name"],
                    phone=row["telefone"],
                    token="a-token",
                )
            ]
        )
        self._then(minutes)


TestPool = Pool.TestCase
TestPool.settings = settings(
    max_examples=60 if FULL else 3,
    stateful_step_count=40 if FULL else 12,
    derandomize=not FULL,
    # A step takes real cycles: what fails is told as it was found, and looked at by its blob.
    phases=[Phase.generate],
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
