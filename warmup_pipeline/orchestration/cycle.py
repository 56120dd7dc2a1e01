"""The cycle's ops, by their fixed names, as graph-backed assets.

Holds: the six ops, the graph that orders them, and :data:`CYCLE_ASSETS`. An op is given nothing but
order: it finds its cycle in the database by the run's root id, so that any failed step can be run
again and nothing is handed over in files. Do not add: what a step does (``warmup``).
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any, Final

import dagster as dg

from warmup_pipeline.domain.values import DEFAULT_POOL
from warmup_pipeline.orchestration.guard import guarded
from warmup_pipeline.orchestration.metadata import (
    definition_metadata,
    materialization_metadata,
    plain_metadata,
    tags_of,
)
from warmup_pipeline.orchestration.names import (
    CYCLE_GRAPH,
    CYCLE_GROUP,
    EVERY_CYCLE,
    EXACT_TAG,
    OWNERS,
    PARTITION_TAG,
    POLICY_TAG,
    POOL_TAG,
    RESOURCE,
    TICK_TAG,
)
from warmup_pipeline.store import cycles
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.warmup import lifecycle
from warmup_pipeline.warmup.claim import claim_due as claim_due_step
from warmup_pipeline.warmup.connections import refresh_connections as refresh_connections_step
from warmup_pipeline.warmup.pair import pair_chips as pair_chips_step
from warmup_pipeline.warmup.plan import plan_day as plan_day_step
from warmup_pipeline.warmup.send import send_messages as send_messages_step
from warmup_pipeline.warmup.validate import validate_sends as validate_sends_step
from warmup_pipeline.warmup.world import StepReport, World

Step = Callable[[World, Cycle], StepReport]

REASONS_TOLD: Final = 5
"""How many of a step's notes stand in the run's log; the asset's page has the others."""

_LAST_ASSET: Final = dg.AssetKey("daily_summary")
"""What ends a cycle; a run without it would leave the cycle unfinished."""


def root_run_id(run: dg.DagsterRun) -> str:
    """Return the id that a run and its re-executions share."""
    return run.root_run_id or run.run_id


def own_cycle(context: dg.OpExecutionContext | dg.AssetExecutionContext, world: World) -> Cycle:
    """Return the cycle that this run belongs to.

    In a run executed again, the first step that asks takes the cycle up; later ones do not, so that a
    cycle that fails again stays failed though steps beside the failed one go on.

    Raises:
        CycleRefused: it has none, or may not be run again.
    """
    access = context.resources.warmup
    again = context.run.parent_run_id is not None and not access.taken_up
    access.taken_up = True
    find = lifecycle.take_up_cycle if again else lifecycle.cycle_of_run
    cycle = find(world, root_run_id(context.run))
    access.cycle = cycle
    return cycle


def _has_cycle(context: dg.OpExecutionContext, world: World) -> bool:
    with world.store.read() as tx:
        return cycles.of_run(tx, root_run_id(context.run)) is not None


def _begin(context: dg.OpExecutionContext, world: World) -> Cycle:
    tags = context.run.tags
    asked_day = tags.get(PARTITION_TAG)
    asked_tick = tags.get(TICK_TAG)
    if asked_day is None:
        raise lifecycle.CycleRefused(
            f"this run has no partition: start it for the local day, "
            f"{lifecycle.pool_day(world, tags.get(POOL_TAG, DEFAULT_POOL))}"
        )
    selected = context.run.asset_selection
    if selected and _LAST_ASSET not in selected:
        raise lifecycle.CycleRefused(
            "a cycle is whole: start it with all assets of the job warmup_cycle, not with some of them"
        )
    try:
        tick = datetime.fromisoformat(asked_tick) if asked_tick else None
        day = date.fromisoformat(asked_day)
    except ValueError:
        tick, day = None, None
    if day is None or (tick is not None and tick.tzinfo is None):
        raise lifecycle.CycleRefused(
            f"write the tag {TICK_TAG} like 2026-02-20T11:00:00+00:00, with its zone, "
            "and the partition like 2026-02-20"
        )
    cycle, reconciled = lifecycle.begin_cycle(
        world,
        tags.get(POOL_TAG, DEFAULT_POOL),
        root_run_id=root_run_id(context.run),
        asked_tick=tick,
        asked_day=day,
        exact=EXACT_TAG in tags,
    )
    # A run started by hand is found under the same tags as the sensor's.
    said = {TICK_TAG: cycle.tick.isoformat(), POOL_TAG: cycle.pool, POLICY_TAG: cycle.policy}
    if any(tags.get(name) != value for name, value in said.items()):
        context.instance.add_run_tags(context.run_id, said)
    put_right = {name: count for name, count in reconciled.numbers().items() if count}
    if put_right:
        world.log.warning(f"Earlier cycles left something behind, now put right: {put_right}")
    local = cycle.tick.astimezone(world.policy.zone)
    world.log.info(
        f"Cycle of pool {cycle.pool}, {local:%Y-%m-%d %H:%M} local, {cycle.mode}, policy {cycle.policy}"
    )
    return cycle


def run_step(
    context: dg.OpExecutionContext,
    step: Step,
    *,
    begins: bool = False,
    ends: bool = False,
    table: str | None = None,
) -> None:
    """Run one step of the cycle that this run belongs to, and attach its numbers to the op's output.

    Raises:
        ExceptionGroup: in the step that ``ends`` the sends, what our own code raised in an earlier one, which
            had gone on with everybody else.
    """
    bugs = context.resources.warmup.bugs
    mine: list[Cycle] = []
    with guarded(context.resources.warmup, context.log, mine) as world:
        begins = begins and not _has_cycle(context, world)
        cycle = _begin(context, world) if begins else own_cycle(context, world)
        mine.append(cycle)
        report = step(world, cycle)
        lifecycle.add_counts(world, cycle, {step.__name__: dict(report.numbers)})
        told = ", ".join(
            f"{name} {value}" for name, value in report.numbers.items() if value not in (0, None, {})
        )
        world.log.info(f"{step.__name__}: {told or 'nothing to do'}")
        if report.notes:
            # The first reasons, so that the run's page tells them.
            world.log.info(f"{step.__name__}: {'; '.join(report.notes[:REASONS_TOLD])}")
        context.add_output_metadata(
            plain_metadata(report.numbers)
            if table is None
            else materialization_metadata(table, world, cycle, report)
        )
        bugs += report.bugs
        if ends and bugs:
            raise ExceptionGroup("our own code failed for some chips; the others were dealt with", bugs)


_AFTER: Final = {"start": dg.In(dg.Nothing)}
_NOTHING: Final = dg.Out(dg.Nothing)
_NEEDS: Final = {RESOURCE}


@dg.op(
    out=_NOTHING,
    required_resource_keys=_NEEDS,
    description="Begins the cycle; asks each chip's gateway for its state, recovers what is down, confirms deliveries.",
)
def refresh_connections(context: dg.OpExecutionContext) -> None:
    """Begin the cycle and refresh connections."""
    run_step(context, refresh_connections_step, begins=True, table="chip_connections")


@dg.op(
    ins=_AFTER,
    out=_NOTHING,
    required_resource_keys=_NEEDS,
    description="Plans the local day of every participating chip that has no plan for it yet.",
)
def plan_day(context: dg.OpExecutionContext) -> None:
    """Plan the day."""
    run_step(context, plan_day_step)


@dg.op(
    ins=_AFTER,
    out=_NOTHING,
    required_resource_keys=_NEEDS,
    description="Gives this cycle what is due: openings, markings, reply turns; expires what is too late.",
)
def claim_due(context: dg.OpExecutionContext) -> None:
    """Claim what is due."""
    run_step(context, claim_due_step)


@dg.op(
    ins=_AFTER,
    out=_NOTHING,
    required_resource_keys=_NEEDS,
    description="Pairs the chips that have a conversation to open, and chooses a dialogue both can afford.",
)
def pair_chips(context: dg.OpExecutionContext) -> None:
    """Pair chips."""
    run_step(context, pair_chips_step, table="pairings")


@dg.op(
    ins=_AFTER,
    out=_NOTHING,
    required_resource_keys=_NEEDS,
    description="Approves, defers or blocks every send, each with a reason code. Nothing is sent without an approval.",
)
def validate_sends(context: dg.OpExecutionContext) -> None:
    """Validate every send."""
    run_step(context, validate_sends_step, table="presend_validations")


@dg.op(
    ins=_AFTER,
    out=_NOTHING,
    required_resource_keys=_NEEDS,
    description="Sends what was approved, each message once at most, and records what happened.",
)
def send_messages(context: dg.OpExecutionContext) -> None:
    """Send what was approved."""
    run_step(context, send_messages_step, ends=True, table="messages")


@dg.graph(
    name=CYCLE_GRAPH,
    out={name: dg.GraphOut() for name in ("chip_connections", "pairings", "presend_validations", "messages")},
    description="The steps of a warm-up cycle that touch the gateways.",
)
def warmup_cycle_steps() -> Any:
    """Order the ops."""
    connected = refresh_connections()
    paired = pair_chips(start=claim_due(start=plan_day(start=connected)))
    validated = validate_sends(start=paired)
    sent = send_messages(start=validated)
    return {
        "chip_connections": connected,
        "pairings": paired,
        "presend_validations": validated,
        "messages": sent,
    }


_CHAIN: Final[Mapping[str, set[dg.AssetKey]]] = {
    "chip_connections": set(),
    "pairings": {dg.AssetKey("chip_connections")},
    "presend_validations": {dg.AssetKey("pairings")},
    "messages": {dg.AssetKey("presend_validations")},
}

_DESCRIPTIONS: Final[Mapping[str, str]] = {
    "chip_connections": (
        "Connection state of each observed chip, as its gateway last said: since when it is down, when recovery is "
        "tried next, and what a person must do. One row per chip, brought up to date by every cycle."
    ),
    "pairings": (
        "Who was paired with whom in each cycle, with the score and its parts. A cycle appends; the picture shows "
        "who opened conversations with whom in seven days."
    ),
    "presend_validations": (
        "Every decision of pre-send validation, with its reason code: approve, defer (until when) or block. Nothing "
        "is sent without an approval, and each is spent once. A cycle appends."
    ),
    "messages": (
        "The message log: every turn whose HTTP call began, and what became of it, failures with their tracebacks. "
        "Everything else is computed from it. A cycle appends; the picture shows sends against limits."
    ),
}

CYCLE_ASSETS: Final = dg.AssetsDefinition.from_graph(
    warmup_cycle_steps,
    keys_by_output_name={name: dg.AssetKey(name) for name in _CHAIN},
    internal_asset_deps={name: set(deps) for name, deps in _CHAIN.items()},
    group_name=CYCLE_GROUP,
    descriptions_by_output_name=dict(_DESCRIPTIONS),
    metadata_by_output_name={name: definition_metadata(name) for name in _CHAIN},
    tags_by_output_name={name: {"dagster/kind/table": "", **tags_of(name)} for name in _CHAIN},
    owners_by_output_name={name: list(OWNERS) for name in _CHAIN},
).map_asset_specs(lambda spec: spec.replace_attributes(freshness_policy=EVERY_CYCLE))
