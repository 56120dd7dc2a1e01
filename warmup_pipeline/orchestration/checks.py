"""The asset checks: ``warmup.checks`` as Dagster shows and runs them.

Holds: :data:`ASSET_CHECKS`. A check that does not pass leaves the run green; one that cannot judge
fails the run, with its traceback.
"""

from typing import Final

import dagster as dg

from warmup_pipeline.domain.health import Severity, Verdict
from warmup_pipeline.orchestration.cycle import root_run_id
from warmup_pipeline.orchestration.guard import guarded
from warmup_pipeline.orchestration.metadata import plain_metadata
from warmup_pipeline.orchestration.names import RESOURCE
from warmup_pipeline.store import cycles
from warmup_pipeline.warmup.checks import CHECKS, CheckSpec, note_verdict

_SEVERITY: Final = {
    Severity.WARN: dg.AssetCheckSeverity.WARN,
    Severity.ERROR: dg.AssetCheckSeverity.ERROR,
}

_AFTER_SENDING: Final = frozenset({"every_send_was_approved"})
"""Checks on an asset made before the sends that are about the sends: they wait for them."""


def _cannot_judge(spec: CheckSpec) -> Verdict:
    """Return what a check that raised says of its cycle: what is not known is not well."""
    return Verdict(spec.name, passed=False, severity=Severity.ERROR, summary="the check itself failed")


def _asset_check(spec: CheckSpec) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=dg.AssetKey(spec.asset),
        name=spec.name,
        description=f"{spec.description}\n\n**What to do:** {spec.remedy}",
        additional_deps=["messages"] if spec.name in _AFTER_SENDING else None,
        required_resource_keys={RESOURCE},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with guarded(context.resources.warmup, context.log, []) as world:
            with world.store.read() as tx:
                cycle = cycles.of_run(tx, root_run_id(context.run))
            try:
                verdict = spec.judge(world)
            except Exception:
                if cycle is not None:
                    note_verdict(world, cycle.id, _cannot_judge(spec))
                raise
            if cycle is not None:
                note_verdict(world, cycle.id, verdict)
            metadata = plain_metadata(verdict.numbers)
            if verdict.concerned:
                metadata["concerned"] = dg.MetadataValue.json(list(verdict.concerned))
            return dg.AssetCheckResult(
                passed=verdict.passed,
                severity=_SEVERITY[verdict.severity],
                description=world.redactor.text(verdict.summary),
                metadata=metadata,
            )

    return check


ASSET_CHECKS: Final = [_asset_check(spec) for spec in CHECKS]
