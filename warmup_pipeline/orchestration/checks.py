"""The asset checks: ``warmup.checks`` as Dagster shows and runs them.

Holds: :data:`ASSET_CHECKS`: one step for the checks of each asset, since a step costs Dagster more than
most checks cost the database. A check that does not pass leaves the run green; one that cannot judge
fails the run, with its traceback, and the others are judged all the same.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import dagster as dg

from warmup_pipeline.domain.health import Severity, Verdict
from warmup_pipeline.orchestration.cycle import root_run_id
from warmup_pipeline.orchestration.guard import guarded
from warmup_pipeline.orchestration.metadata import plain_metadata
from warmup_pipeline.orchestration.names import RESOURCE
from warmup_pipeline.store import cycles
from warmup_pipeline.warmup.checks import (
    CHECKS,
    CheckSpec,
    cannot_judge,
    judge_each_pool,
    judge_together,
)
from warmup_pipeline.warmup.world import World

_SEVERITY: Final = {
    Severity.WARN: dg.AssetCheckSeverity.WARN,
    Severity.ERROR: dg.AssetCheckSeverity.ERROR,
}

_AFTER_SENDING: Final = frozenset({"every_send_was_approved"})
"""Checks on an asset made before the sends that are about the sends: they wait for them."""


def _checks_of(
    asset: str, specs: Sequence[CheckSpec], *, waits_for: str | None = None
) -> dg.AssetChecksDefinition:
    """Return the checks of one asset as one step: each is judged, whatever became of the others."""

    @dg.multi_asset_check(
        name=f"{asset}_{'after_sending' if waits_for else 'checks'}",
        description=f"Judges {', '.join(spec.name for spec in specs)}.",
        specs=[
            dg.AssetCheckSpec(
                name=spec.name,
                asset=dg.AssetKey(spec.asset),
                description=f"{spec.description}\n\n**What to do:** {spec.remedy}",
                additional_deps=[waits_for] if waits_for else None,
            )
            for spec in specs
        ],
        can_subset=True,
        required_resource_keys={RESOURCE},
    )
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        asked = {key.name for key in context.selected_asset_check_keys}
        with guarded(context.resources.warmup, context.log, []) as world:
            cycle = context.resources.warmup.cycle
            if cycle is None:
                with world.store.read() as tx:
                    cycle = cycles.of_run(tx, root_run_id(context.run))
            verdicts: dict[str, Verdict] = {}
            broken: dict[str, Exception] = {}
            for spec in specs:
                if spec.name not in asked:
                    continue
                try:
                    # Launched by hand, outside a cycle, they judge every pool.
                    verdicts[spec.name] = (
                        judge_each_pool(world, spec) if cycle is None else spec.judge(world, cycle.pool)
                    )
                except Exception as error:  # noqa: BLE001 (raised below, with what else could not judge)
                    error.add_note(f"the check {spec.name} cannot judge")
                    broken[spec.name] = error
                    verdicts[spec.name] = cannot_judge(spec.name)
            said = verdicts
            if cycle is not None and verdicts:
                said = judge_together(world, cycle, specs, verdicts)
            for spec in specs:
                # One that raised says so by its traceback.
                if spec.name in said and spec.name not in broken:
                    yield _result(world, spec, said[spec.name])
            if len(broken) == 1:
                raise next(iter(broken.values()))
            if broken:
                raise ExceptionGroup("checks that cannot judge", list(broken.values()))

    return checks


def _result(world: World, spec: CheckSpec, verdict: Verdict) -> dg.AssetCheckResult:
    metadata = plain_metadata(verdict.numbers)
    if verdict.concerned:
        metadata["concerned"] = dg.MetadataValue.json(list(verdict.concerned))
    return dg.AssetCheckResult(
        asset_key=dg.AssetKey(spec.asset),
        check_name=spec.name,
        passed=verdict.passed,
        severity=_SEVERITY[verdict.severity],
        description=world.redactor.text(verdict.summary),
        metadata=metadata,
    )


def _steps() -> Iterator[dg.AssetChecksDefinition]:
    for asset in dict.fromkeys(spec.asset for spec in CHECKS):
        own = [spec for spec in CHECKS if spec.asset == asset]
        at_once = [spec for spec in own if spec.name not in _AFTER_SENDING]
        later = [spec for spec in own if spec.name in _AFTER_SENDING]
        if at_once:
            yield _checks_of(asset, at_once)
        if later:
            yield _checks_of(asset, later, waits_for="messages")


ASSET_CHECKS: Final = list(_steps())
