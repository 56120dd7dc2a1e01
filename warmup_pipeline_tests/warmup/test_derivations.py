"""The trap: a chip that is left out because nothing about it seems to have changed.

One random life happens in two databases. In one of them the pool's log is rolled up, and a cycle derives
only what may have changed; in the other everything is derived anew each time. After every cycle both must
say the same of every chip. Lives are of sends and what becomes of them, late receipts and failures, chips
that are paused, edited and braked, nights and days between, and cycles that break off in the middle.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from warmup_pipeline.domain.health import Verdict
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.trust import TrustInputs, days_until_more, trust_score
from warmup_pipeline.domain.values import ChipStatus, FailureClass, MessageState, Phase
from warmup_pipeline.store import (
    activities,
    chips,
    conversations,
    message_writes,
    migrate,
    pools,
    rollups,
    schema,
    validations,
)
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup import lifecycle
from warmup_pipeline.warmup.activities.registry import default_registry
from warmup_pipeline.warmup.checks.metrics import metrics_match_log
from warmup_pipeline.warmup.checks.phases import warming_day_is_current
from warmup_pipeline.warmup.derive.age import derive_warming_day
from warmup_pipeline.warmup.derive.eligibility import derive_phase_eligibility
from warmup_pipeline.warmup.derive.metrics import derive_chip_metrics
from warmup_pipeline.warmup.derive.transitions import derive_phase_transitions
from warmup_pipeline.warmup.derive.trust import derive_trust_scores
from warmup_pipeline.warmup.forecast import derive_phase_forecast
from warmup_pipeline.warmup.policies import load_policy
from warmup_pipeline.warmup.summary import summarise_cycle
from warmup_pipeline.warmup.world import World
from warmup_pipeline_tests.benchmarks.longlog import POOL, LongLog
from warmup_pipeline_tests.support import MORNING, chip_row, open_lab, rows_of, run_sql

STEPS = (
    derive_chip_metrics,
    derive_trust_scores,
    derive_warming_day,
    derive_phase_eligibility,
    derive_phase_transitions,
    derive_phase_forecast,
    summarise_cycle,
)

AS_OF_ITS_TICK = {
    "chip_metrics": {"computed_at", "days_without_error"},
    "trust_scores": {"computed_at", "parts"},
    "phase_eligibility": {"computed_at", "earliest_day"},
    "warming_day": {"computed_at"},
}
"""What goes on with every second: each row has it as of its own tick."""

COMPARED = (
    *AS_OF_ITS_TICK,
    "phase_transitions",
    "phase_forecast",
    "chip_days",
    "daily_summary",
    "chips",
    "brake_signals",
)

_CHIPS = [
    chip_row(number, phase=phase, days=days, status=status)
    for number, (phase, days, status) in enumerate(
        [
            (Phase.REPOUSO, 0.6, ChipStatus.WARMING),
            (Phase.SETUP, 2.9, ChipStatus.WARMING),
            (Phase.PRIMEIROS_CONTATOS, 6.4, ChipStatus.WARMING),
            (Phase.EXPANSAO, 13.2, ChipStatus.WARMING),
            (Phase.TESTE_GRADUACAO, 27.7, ChipStatus.WARMING),
            (Phase.OPERACAO, 60.3, ChipStatus.READY),
            (Phase.SETUP, 2.1, ChipStatus.DEGRADED),
            (Phase.SETUP, 0, ChipStatus.PENDING),
        ],
        start=1,
    )
]


_POLICIES = {name: load_policy(name) for name in ("default", "conservative")}


@cache
def _a_world() -> World:
    return LongLog(Store("sqlite://"), [], 0, 0, MORNING).world(MORNING)


@dataclass
class Life:
    """A pool to which the same things happen as to its twin."""

    store: Store
    now: datetime = MORNING
    policy: str = "default"
    message_ids: list[str] = field(default_factory=list)

    def begin(self, *, rolled_up: bool) -> None:
        with self.store.write() as tx:
            pools.ensure(tx, POOL, at=self.now)
            activities.know_types(tx, default_registry().types())
            chips.insert(tx, _CHIPS, [])
            if rolled_up:
                rollups.begin(tx, POOL, at=self.now)
                assert rollups.go_on(tx, POOL)

    def world(self) -> World:
        return replace(_a_world(), store=self.store, policy=_POLICIES[self.policy])

    def cycle(self, sends: list[tuple[int, str, bool, bool]], steps: int) -> None:
        """Begin a cycle, send, and do so many of the steps that derive."""
        log = LongLog(self.store, [*_CHIPS], 0, 0, self.now)
        cycle, talks, approvals, messages = log.make(self.now, len(sends))
        day = local_day(self.now, self.world().policy.zone)
        cycle = replace(cycle, day=day, policy=self.world().policy_name)
        kept, replies = [], []
        for talk, approval, message, (opener, becomes, confirmable, answered) in zip(
            talks, approvals, messages, sends, strict=True
        ):
            one, other = _CHIPS[opener]["id"], _CHIPS[(opener + 1) % len(_CHIPS)]["id"]
            talk |= {"opener_chip_id": one, "responder_chip_id": other, "opened_day": day}
            talk |= {"state": "closed", "reason": "completed", "next_due_at": None}
            approval |= {"sender_chip_id": one, "recipient_chip_id": other, "day": day}
            message |= {"sender_chip_id": one, "recipient_chip_id": other, "sent_day": day}
            message["confirmable"] = confirmable
            kept.append((message, becomes))
            if answered:
                second = {"sender_chip_id": other, "recipient_chip_id": one, "turn": 2}
                replies.append(approval | second | {"id": f"{approval['id'][:-1]}r", "subject": "reply"})
                reply = message | second | {"approval_id": replies[-1]["id"]}
                kept.append((reply | {"id": f"{message['id'][:-1]}r"}, becomes))
        with self.store.write() as tx:
            cycles_row = sa.update(schema.cycles).where(schema.cycles.c.id == cycle.id)
            tx.connection.execute(cycles_row.values(day=day, policy=cycle.policy))
            conversations.insert(tx, talks)
            validations.insert(tx, [*approvals, *replies])
            message_writes.insert(tx, [message for message, _ in kept])
        for message, becomes in kept:
            self.change(message["id"], becomes)
            self.message_ids.append(message["id"])
        for step in STEPS[:steps]:
            step(self.world(), cycle)
        if steps == len(STEPS):
            lifecycle.end_cycle(self.world(), cycle)
        else:
            run_sql(self.store, "UPDATE cycles SET state = 'failed' WHERE id = :id", id=cycle.id)

    def change(self, message_id: str, becomes: str) -> None:
        state = MessageState.FAILED if becomes in list(FailureClass) else MessageState(becomes)
        arrived = state in (MessageState.DELIVERED, MessageState.READ)
        row = {
            "id": message_id,
            "state": state,
            "failure_class": FailureClass(becomes) if state is MessageState.FAILED else None,
            "confirmed_at": self.now if arrived else None,
            "http_attempts": 1,
        }
        with self.store.write() as tx:
            message_writes.change(tx, [row])

    def edit(self, which: int, values: dict[str, Any]) -> None:
        with self.store.write() as tx:
            chips.change(tx, [{"id": _CHIPS[which]["id"], **values}])

    def brake(self, which: int, kind: str) -> None:
        with self.store.write() as tx:
            chips.add_brake_signals(tx, [(_CHIPS[which]["id"], kind, self.now)])

    def says(self) -> dict[str, list[dict[str, Any]]]:
        found = {}
        for name in COMPARED:
            table = schema.metadata.tables[name]
            left_out = AS_OF_ITS_TICK.get(name, set())
            with self.store.read() as tx:
                rows = [dict(row) for row in tx.connection.execute(sa.select(table)).mappings()]
            for row in rows:
                if row.get("criterion") == "hours_since_start":
                    row.pop("value")
            cleaned = [{k: v for k, v in row.items() if k not in left_out} for row in rows]
            found[name] = sorted(cleaned, key=repr)
        return found


BECOMES = ["accepted", "accepted", "delivered", "unknown", "transient", "restriction", "recipient"]


def one_life(seed: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield what happens, in words that both lives are told."""
    chance = random.Random(seed)
    for _ in range(30):
        if chance.random() < 0.3:
            yield "edit", (chance.randrange(8), _edited(chance))
        if chance.random() < 0.15:
            yield "brake", (chance.randrange(8), chance.choice(["restriction", "circuit_opened"]))
        if chance.random() < 0.05:
            yield "policy", (chance.choice(["default", "conservative"]),)
        for _ in range(chance.randrange(3)):
            yield "late", (chance.randrange(1000), chance.choice(BECOMES))
        # Nobody sends twice in a cycle.
        openers = chance.sample(range(chance.randrange(2), 8, 2), chance.randrange(5))
        sends = [
            (opener, chance.choice(BECOMES), chance.random() < 0.6, chance.random() < 0.5)
            for opener in openers
        ]
        whole = chance.random() < 0.8
        yield "cycle", (sends, len(STEPS) if whole else chance.randrange(len(STEPS)))
        yield "wait", (chance.choice([5, 5, 5, 5, 30, 60, 65, 60 * 6, 60 * 25]),)


def _edited(chance: random.Random) -> dict[str, Any]:
    return chance.choice(
        [
            {"status": ChipStatus.PAUSED, "status_reason": "an operator said so"},
            {"status": ChipStatus.WARMING, "status_reason": None},
            {"phase": Phase.SETUP, "phase_started_at": MORNING},
            {"warming_started_at": MORNING - timedelta(days=chance.randrange(40))},
            {"role": chance.choice(["listener", "julia"])},
        ]
    )


def live(told: tuple[Life, Life], seed: int) -> int:
    """Let both lives happen; returns how often they were compared."""
    looks = 0
    for what, how in one_life(seed):
        for one in told:
            match what:
                case "edit":
                    one.edit(*how)
                case "brake":
                    one.brake(*how)
                case "policy":
                    (one.policy,) = how
                case "late":
                    if one.message_ids:
                        one.change(one.message_ids[how[0] % len(one.message_ids)], how[1])
                case "wait":
                    one.now += timedelta(minutes=how[0])
                case _:
                    one.cycle(*how)
        if what == "cycle" and how[1] == len(STEPS):
            by_change, anew = told[0].says(), told[1].says()
            for name in COMPARED:
                assert by_change[name] == anew[name], f"{name} at {told[0].now} of seed {seed}"
            looks += 1
    return looks


@contextmanager
def twins(store: Store, folder: Path) -> Iterator[tuple[Life, Life]]:
    other = Store(f"sqlite:///{folder / 'anew.db'}")
    migrate.upgrade(other)
    try:
        pair = (Life(store), Life(other))
        pair[0].begin(rolled_up=True)
        pair[1].begin(rolled_up=False)
        yield pair
    finally:
        other.close()


# Each way for a chip to be noted was taken away once: these are lives that then come out different.
@pytest.mark.parametrize("seed", [0, 1, 7, 10])
def test_what_is_derived_of_changes_alone_is_what_is_derived_of_everything(
    sqlite_store: Store, tmp_path: Path, seed: int
) -> None:
    with twins(sqlite_store, tmp_path) as told:
        assert live(told, seed) > 10
        # It is by changes that it was derived, not by all chips after all.
        ticks = rows_of(sqlite_store, "SELECT DISTINCT computed_at FROM chip_derivations")
        assert len(ticks) > 1 or seed != 0


def test_so_it_is_on_postgresql(postgres_url: str, tmp_path: Path) -> None:
    store = Store(postgres_url)
    migrate.upgrade(store)
    try:
        with twins(store, tmp_path) as told:
            assert live(told, 7) > 10
    finally:
        store.close()


@pytest.mark.parametrize(
    ("edit", "check"),
    [
        ("UPDATE chip_metrics SET sent_total = 77", metrics_match_log),
        (
            "UPDATE warming_day SET warming_day = 77 WHERE warming_day IS NOT NULL",
            warming_day_is_current,
        ),
    ],
    ids=["metrics", "warming day"],
)
def test_a_chip_whose_row_was_edited_is_derived_anew_though_nothing_happens_to_it(
    sqlite_store: Store, tmp_path: Path, edit: str, check: Callable[[World], Verdict]
) -> None:
    with twins(sqlite_store, tmp_path) as told:
        for one in told:
            one.cycle([], len(STEPS))
            one.now += timedelta(minutes=5)
        run_sql(sqlite_store, edit)
        assert not check(told[0].world()).passed
        for one in told:
            one.cycle([], len(STEPS))
        assert told[0].says() == told[1].says()
        assert check(told[0].world()).passed


def test_a_days_first_cycle_that_broke_off_makes_no_right_warming_day_look_wrong(sqlite_store: Store) -> None:
    before_midnight = datetime(2026, 3, 11, 2, 55, tzinfo=UTC)
    with open_lab(sqlite_store, at=before_midnight) as lab:
        lab.add([chip_row(number, days=5 + number) for number in range(1, 5)])
        with sqlite_store.write() as tx:
            rollups.begin(tx, lab.pool, at=lab.now)
            assert rollups.go_on(tx, lab.pool)
        lab.cycle()
        for step in (*range(3), None):
            lab.move_to(lab.now + timedelta(minutes=5))
            cycle = lab.begin()
            assert warming_day_is_current(lab.world, lab.pool).passed, (
                "yesterday's are right until it has come to them"
            )
            derive_chip_metrics(lab.world, cycle)
            derive_warming_day(lab.world, cycle)
            assert warming_day_is_current(lab.world, lab.pool).passed, step
        run_sql(sqlite_store, "UPDATE warming_day SET warming_day = warming_day - 1")
        assert not warming_day_is_current(lab.world, lab.pool).passed, "yesterday's are wrong then"


@pytest.mark.parametrize("age_days", [0.0, 3.3, 29.99, 31])
@pytest.mark.parametrize("calm_days", [0.0, 2.2, 6.999, 8])
@pytest.mark.parametrize("responds", [0.0, 0.21, 0.5])
def test_time_alone_raises_no_score_before_the_time_that_is_told(
    age_days: float, calm_days: float, responds: float
) -> None:
    policy = _POLICIES["default"]

    def of(days: float) -> TrustInputs:
        return TrustInputs(
            age_days=age_days + days,
            response_rate=responds,
            delivery_rate=0.9,
            has_sent=True,
            attempted=20,
            restriction_failures=1,
            media_kinds=1,
            errors_24h=1,
            bidirectional=7,
            days_without_error=calm_days + days,
            phase=Phase.EXPANSAO,
        )

    score = trust_score(of(0), policy)
    days = days_until_more(of(0), score)
    for minutes in range(0, 60 * 24 * 40, 60):
        later = minutes / (60 * 24)
        if days is None or later < days:
            assert trust_score(of(later), policy).score == score.score
