"""The derived assets: what the log says of each chip, and the daily summary.

Holds: one asset per derived table. Each is part of a cycle's run; ``daily_summary`` can also be
materialized alone for any day (a backfill), which sends nothing.
"""

from datetime import date
from typing import Any, Final

import dagster as dg

from warmup_pipeline.orchestration.cycle import Step, own_cycle, root_run_id
from warmup_pipeline.orchestration.guard import guarded
from warmup_pipeline.orchestration.metadata import definition_metadata, materialization_metadata, tags_of
from warmup_pipeline.orchestration.names import CYCLE_GROUP, EVERY_CYCLE, OWNERS, RESOURCE, STORY_TAG
from warmup_pipeline.orchestration.partitions import LOCAL_DAYS
from warmup_pipeline.store import cycles
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.warmup import lifecycle
from warmup_pipeline.warmup.cycle_story import cycle_story
from warmup_pipeline.warmup.derive.age import derive_warming_day
from warmup_pipeline.warmup.derive.eligibility import derive_phase_eligibility
from warmup_pipeline.warmup.derive.metrics import derive_chip_metrics
from warmup_pipeline.warmup.derive.transitions import derive_phase_transitions
from warmup_pipeline.warmup.derive.trust import derive_trust_scores
from warmup_pipeline.warmup.forecast import derive_phase_forecast
from warmup_pipeline.warmup.summary import summarise_cycle, summarise_day
from warmup_pipeline.warmup.world import StepReport, World


def _derived(name: str, step: Step, deps: list[str], description: str) -> dg.AssetsDefinition:
    @dg.asset(
        name=name,
        deps=deps,
        description=description,
        group_name=CYCLE_GROUP,
        owners=OWNERS,
        kinds={"table"},
        tags=tags_of(name),
        freshness_policy=EVERY_CYCLE,
        metadata=definition_metadata(name),
        required_resource_keys={RESOURCE},
    )
    def derived(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        mine: list[Cycle] = []
        with guarded(context.resources.warmup, context.log, mine) as world:
            cycle = own_cycle(context, world)
            mine.append(cycle)
            report = step(world, cycle)
            lifecycle.add_counts(world, cycle, {step.__name__: dict(report.numbers)})
            return dg.MaterializeResult(metadata=materialization_metadata(name, world, cycle, report))

    return derived


@dg.asset(
    name="daily_summary",
    deps=["messages", "phase_transitions", "phase_forecast"],
    description=(
        "What happened on each local day, for everything, each pool and each chip. Materialize it for any past "
        "day to compute that day again from the log: nothing is sent."
    ),
    group_name=CYCLE_GROUP,
    owners=OWNERS,
    kinds={"table"},
    tags=tags_of("daily_summary"),
    freshness_policy=EVERY_CYCLE,
    partitions_def=LOCAL_DAYS,
    metadata={**definition_metadata("daily_summary"), "partition_expr": "day"},
    required_resource_keys={RESOURCE},
)
def daily_summary(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
    """Summarise the cycle's day and end the cycle, or compute past days again."""
    mine: list[Cycle] = []
    with guarded(context.resources.warmup, context.log, mine) as world:
        with world.store.read() as tx:
            cycle = cycles.of_run(tx, root_run_id(context.run))
        if cycle is None:
            report = _again(world, [date.fromisoformat(key) for key in context.partition_keys])
        else:
            cycle = own_cycle(context, world)
            mine.append(cycle)
            report = summarise_cycle(world, cycle)
            cycle = lifecycle.end_cycle(world, cycle)
            _tell(context, world, cycle)
            report = StepReport({**report.numbers, "cycle_seconds": cycle.duration_s}, report.notes)
        return dg.MaterializeResult(metadata=materialization_metadata("daily_summary", world, cycle, report))


def _tell(context: dg.AssetExecutionContext, world: World, cycle: Cycle) -> None:
    """Say what the cycle came to, in the run's log and as a tag in the list of runs."""
    story = cycle_story(cycle)
    local = cycle.tick.astimezone(world.policy.zone)
    world.log.info(f"Cycle of {local:%Y-%m-%d %H:%M} done in {cycle.duration_s or 0:.1f} s: {story}")
    context.instance.add_run_tags(context.run.run_id, {STORY_TAG: story})


def _again(world: World, days: list[date]) -> StepReport:
    now = lifecycle.latest_time(world)
    reports = [summarise_day(world, day, now=now) for day in sorted(days)]
    return StepReport({"days": len(reports), **(reports[-1].numbers if reports else {})})


DERIVED_ASSETS: Final = [
    _derived(
        "chip_metrics",
        derive_chip_metrics,
        ["messages"],
        "What each chip has sent, received and got through, computed anew from the message log by every cycle: "
        "nothing is counted by hand.",
    ),
    _derived(
        "trust_scores",
        derive_trust_scores,
        ["chip_metrics"],
        "Trust score 0-100 of each chip, its level, and the parts it is made of. The level sets how much of a "
        "phase's limits the chip may use.",
    ),
    _derived(
        "warming_day",
        derive_warming_day,
        ["messages"],
        "How many local days each chip has been warming; derived on every cycle from its age reference.",
    ),
    _derived(
        "phase_eligibility",
        derive_phase_eligibility,
        ["chip_metrics", "trust_scores", "warming_day"],
        "Each criterion for the next phase of each chip: its value, what is needed, whether it holds, and the earliest "
        "day it can; and why and until when the phase is held.",
    ),
    _derived(
        "phase_transitions",
        derive_phase_transitions,
        ["phase_eligibility"],
        "Every phase change, with the metrics that justified it. The picture shows how many chips stand on which step.",
    ),
    _derived(
        "phase_forecast",
        derive_phase_forecast,
        ["phase_eligibility", "phase_transitions"],
        "When each chip is expected in its next phase and what limits it: forecast in a day's first cycle, and kept.",
    ),
    daily_summary,
]
