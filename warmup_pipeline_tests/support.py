"""Building pools and worlds for tests.

Holds: :func:`add_chips`, :class:`Lab` (a store, a simulator and a world, with a stepped clock).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.domain.privacy import Redactor
from warmup_pipeline.domain.values import CONVERSA_PAR, ActivityState, ChipStatus, Phase, Provider, RowSource
from warmup_pipeline.gateways.credentials import GatewaySettings
from warmup_pipeline.gateways.simulator.core import SimulatorCore
from warmup_pipeline.gateways.simulator.server import run_in_thread
from warmup_pipeline.gateways.simulator.settings import SimulatedInstance, SimulatorSettings
from warmup_pipeline.store import activities, chips, pools
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup import (
    claim,
    connections,
    forecast,
    lifecycle,
    pair,
    plan,
    send,
    summary,
    validate,
)
from warmup_pipeline.warmup.activities.registry import ActivityRegistry, default_registry
from warmup_pipeline.warmup.derive.age import derive_warming_day
from warmup_pipeline.warmup.derive.eligibility import derive_phase_eligibility
from warmup_pipeline.warmup.derive.metrics import derive_chip_metrics
from warmup_pipeline.warmup.derive.standing import derive_standing
from warmup_pipeline.warmup.derive.transitions import derive_phase_transitions
from warmup_pipeline.warmup.derive.trust import derive_trust_scores
from warmup_pipeline.warmup.ids import derived_id
from warmup_pipeline.warmup.library import Library, load_library
from warmup_pipeline.warmup.policies import load_policy
from warmup_pipeline.warmup.world import StepReport, World

MORNING = datetime(2026, 3, 2, 11, 0, tzinfo=UTC)
"""08:00 in America/Sao_Paulo on a Monday: the sending window opens."""

EVOLUTION_KEY = "evolution-global-key-for-tests"
ZAPI_CLIENT_TOKEN = "zapi-client-token-for-tests"

_LIBRARY = load_library()
_DDDS = (11, 21, 31, 41, 51, 71, 81, 91)


@dataclass
class RecordingLog:
    """Keeps what steps say."""

    entries: list[tuple[str, str]]

    def info(self, text: str) -> None:
        self.entries.append(("info", text))

    def warning(self, text: str) -> None:
        self.entries.append(("warning", text))

    def failure(self, title: str, traceback: str) -> None:
        self.entries.append(("failure", f"{title}\n{traceback}"))

    @property
    def failures(self) -> list[str]:
        return [text for kind, text in self.entries if kind == "failure"]


def chip_row(
    number: int,
    *,
    pool: str = "default",
    at: datetime = MORNING,
    status: ChipStatus = ChipStatus.WARMING,
    phase: Phase = Phase.PRIMEIROS_CONTATOS,
    provider: Provider = Provider.EVOLUTION,
    days: float = 5,
    ddd: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return a row for ``chips``: number 7 of a pool, warming for ``days`` at ``at``."""
    area = ddd if ddd is not None else _DDDS[number % len(_DDDS)]
    phone = f"55{area}9{number:08d}"
    started = at - timedelta(days=days)
    return {
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "pool": pool,
        "phone": phone,
        "last4": phone[-4:],
        "provider": provider,
        "instance": f"{pool}-{number}",
        "label": f"chip {number}",
        "role": "julia",
        "status": status,
        "status_since": started,
        "phase": phase,
        "phase_started_at": started,
        "warming_started_at": started,
        "created_at": started,
    } | more


def token_of(row: dict[str, Any]) -> str:
    """Return the simulator's token of a chip."""
    return f"token-of-{row['instance']}"


@dataclass
class Lab:
    """A store, a simulator and a world; ``cycle()`` runs one cycle and moves the clock five minutes."""

    store: Store
    core: SimulatorCore
    base_url: str
    world: World
    log: RecordingLog
    clock: list[datetime]
    pool: str = "default"

    def with_policy(self, policy: Policy) -> None:
        self.world = replace(self.world, policy=policy)

    def with_registry(self, registry: ActivityRegistry) -> None:
        self.world = replace(self.world, activities=registry)

    def with_library(self, library: Library) -> None:
        self.world = replace(self.world, library=library)

    @property
    def now(self) -> datetime:
        return self.clock[0]

    def move_to(self, at: datetime) -> None:
        self.clock[0] = at

    def begin(self, *, run: str | None = None) -> Cycle:
        cycle, _ = lifecycle.begin_cycle(self.world, self.pool, root_run_id=run, asked_tick=self.now)
        return cycle

    def steps(self, cycle: Cycle) -> dict[str, StepReport]:
        reports = {
            "refresh_connections": connections.refresh_connections(self.world, cycle),
            "plan_day": plan.plan_day(self.world, cycle),
            "claim_due": claim.claim_due(self.world, cycle),
            "pair_chips": pair.pair_chips(self.world, cycle),
            "validate_sends": validate.validate_sends(self.world, cycle),
            "send_messages": send.send_messages(self.world, cycle),
        }
        reports |= {
            "chip_metrics": derive_chip_metrics(self.world, cycle),
            "trust_scores": derive_trust_scores(self.world, cycle),
            "warming_day": derive_warming_day(self.world, cycle),
            "phase_eligibility": derive_phase_eligibility(self.world, cycle),
            "phase_transitions": derive_phase_transitions(self.world, cycle),
            "phase_forecast": forecast.derive_phase_forecast(self.world, cycle),
            "daily_summary": summary.summarise_cycle(self.world, cycle),
        }
        for report in reports.values():
            report.raise_bugs()
        return reports

    def cycle(self) -> dict[str, StepReport]:
        """Run one whole cycle at the lab's time, then move it five minutes on."""
        cycle = self.begin()
        reports = self.steps(cycle)
        lifecycle.end_cycle(self.world, cycle)
        self.clock[0] += timedelta(minutes=5)
        return reports

    def cycles(self, count: int) -> list[dict[str, StepReport]]:
        return [self.cycle() for _ in range(count)]

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add chips to the store and declare their instances to the simulator."""
        with self.store.write() as tx:
            for pool in sorted({row["pool"] for row in rows}):
                pools.ensure(tx, pool, at=self.now)
            chips.insert(tx, rows, [])
            for pool in sorted({row["pool"] for row in rows}):
                derive_standing(tx, self.world, pool, self.now)
        self.declare(rows)

    def declare(self, rows: Sequence[dict[str, Any]]) -> None:
        """Declare chips' instances to the simulator."""
        self.core.declare(
            [
                SimulatedInstance(
                    provider=row["provider"], name=row["instance"], phone=row["phone"], token=token_of(row)
                )
                for row in rows
            ]
        )
        tokens = {row["instance"]: token_of(row) for row in rows if row["provider"] is Provider.Z_API}
        gateways = replace(self.world.gateways, zapi_tokens={**self.world.gateways.zapi_tokens, **tokens})
        self.world.redactor.learn(gateways.secrets())
        self.world = replace(self.world, gateways=gateways)


@contextmanager
def open_lab(
    store: Store, *, at: datetime = MORNING, policy: str = "default", latency_ms: int = 0
) -> Iterator[Lab]:
    """Open a lab on a migrated store."""
    clock = [at]
    log = RecordingLog([])
    core = SimulatorCore(
        SimulatorSettings(
            evolution_key=EVOLUTION_KEY,
            zapi_client_token=ZAPI_CLIENT_TOKEN,
            latency_ms=latency_ms,
            clock=lambda: clock[0],
        )
    )
    with run_in_thread(core) as running:
        gateways = GatewaySettings(
            evolution_url=running.base_url,
            evolution_key=EVOLUTION_KEY,
            zapi_base_url=running.base_url,
            zapi_client_token=ZAPI_CLIENT_TOKEN,
            zapi_tokens={},
        )
        world = World(
            store=store,
            policy=load_policy(policy),
            library=_LIBRARY,
            activities=default_registry(),
            gateways=gateways,
            mode="simulated",
            redactor=Redactor(gateways.secrets()),
            log=log,
            now=lambda: clock[0],
        )
        with store.write() as tx:
            activities.know_types(tx, world.activities.types())
        yield Lab(store, core, running.base_url, world, log, clock)
    core.close()


def due_openings(
    lab: Lab, chip_ids: Sequence[str], *, kind: str = CONVERSA_PAR, at: datetime | None = None
) -> list[str]:
    """Replace what is left of chips' day by one activity each, due at once; returns the activities' ids."""
    due = at or lab.now
    day = local_day(due, lab.world.policy.zone)
    ids = [derived_id("test-activity", chip_id, kind, due.isoformat()) for chip_id in chip_ids]
    with lab.store.write() as tx:
        activities.cancel_rest_of_day(tx, dict.fromkeys(chip_ids, day), at=due, reason="replaced_by_a_test")
        activities.insert_plans(
            tx,
            [],
            [
                {
                    "id": activity_id,
                    "pool": lab.pool,
                    "chip_id": chip_id,
                    "type": kind,
                    "day": day,
                    "planned_at": due,
                    "due_at": due,
                    "state": ActivityState.PLANNED,
                    "source": RowSource.WARMUP,
                }
                for activity_id, chip_id in zip(ids, chip_ids, strict=True)
            ],
        )
    return ids


def rows_of(store: Store, sql: str, **values: Any) -> list[dict[str, Any]]:
    """Return what a query finds, as plain dictionaries."""
    with store.read() as tx:
        return [dict(row) for row in tx.connection.execute(sa.text(sql), values).mappings()]


def run_sql(store: Store, sql: str, **values: Any) -> None:
    """Change the database behind the program's back."""
    with store.write() as tx:
        tx.connection.execute(sa.text(sql), values)
