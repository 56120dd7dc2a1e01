"""What a small cycle costs beside a Dagster job that does nothing in as many steps.

Holds: :func:`run`. Both are run the same way, as runs that Dagster lists, on one instance, in turn. Do
not add: thresholds for tests (a benchmark is measured, not asserted).
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import dagster as dg

from warmup_pipeline.assembly import open_world
from warmup_pipeline.build import build_defs
from warmup_pipeline.orchestration import launching
from warmup_pipeline.orchestration.assets import DERIVED_ASSETS
from warmup_pipeline.orchestration.checks import ASSET_CHECKS
from warmup_pipeline.orchestration.names import CYCLE_JOB, RESOURCE
from warmup_pipeline.orchestration.resources import WarmupAccess, warmup_resource
from warmup_pipeline.settings import Settings
from warmup_pipeline.warmup.demo import STARTS_AT
from warmup_pipeline.warmup.importing import import_pool
from warmup_pipeline.warmup.world import StandardLog

_ROOT: Final = Path(__file__).resolve().parents[2]
_QUIET: Final = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_AUDIT: Final = _ROOT / "warmup_pipeline" / "data" / "audit"


@dataclass(frozen=True, slots=True)
class Measured:
    """A cycle of the audited pool (six chips take part) beside a job that does nothing.

    Attributes:
        steps: steps of either run.
        events: entries in the log of a cycle's run, and of a run that does nothing.
        cycle_s: seconds of each cycle's run.
        no_op_s: seconds of each run that does nothing.
        no_op_assets_s: seconds of each run that does nothing, but has the cycle's assets and checks for Dagster
            to keep the books of.
        ratio: median of cycle / no-op, round by round.
        ratio_to_assets: median of cycle / no-op assets, round by round.
    """

    steps: int
    events: tuple[int, int]
    cycle_s: Sequence[float]
    no_op_s: Sequence[float]
    no_op_assets_s: Sequence[float]
    ratio: float
    ratio_to_assets: float

    def document(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def run(rounds: int = 9) -> Measured:
    """Run cycles and empty jobs in turn, after one of each that is not counted.

    Args:
        rounds: how many of each are counted.
    """
    cycle_s, no_op_s, no_op_assets_s = [], [], []
    with _home() as (settings, instance):
        access = lambda: WarmupAccess(lambda: settings)  # noqa: E731
        job = build_defs(resource_overrides={RESOURCE: warmup_resource(access)}).resolve_job_def(CYCLE_JOB)
        ran = launching.run_cycle(instance, "default", settings=settings, job=job)
        steps = _steps(instance, ran.run_id)
        empty, empty_assets = _empty_job(steps), _empty_assets_job()
        nothing = empty.execute_in_process(instance=instance, run_config=_QUIET)
        shown = empty_assets.execute_in_process(instance=instance, run_config=_QUIET)
        if _steps(instance, shown.run_id) != steps:
            raise RuntimeError("the job of empty assets has another number of steps than the cycle")
        events = len(instance.all_logs(ran.run_id)), len(instance.all_logs(nothing.run_id))
        for _ in range(rounds):
            before = time.perf_counter()
            ran = launching.run_cycle(instance, "default", settings=settings, job=job)
            between = time.perf_counter()
            empty.execute_in_process(instance=instance, run_config=_QUIET)
            no_op_s.append(time.perf_counter() - between)
            again = time.perf_counter()
            empty_assets.execute_in_process(instance=instance, run_config=_QUIET)
            no_op_assets_s.append(time.perf_counter() - again)
            cycle_s.append(between - before)
            if not ran.succeeded:
                raise RuntimeError(f"the cycle of run {ran.run_id} failed: nothing was measured")
    return Measured(
        steps=steps,
        events=events,
        cycle_s=[round(s, 3) for s in cycle_s],
        no_op_s=[round(s, 3) for s in no_op_s],
        no_op_assets_s=[round(s, 3) for s in no_op_assets_s],
        ratio=_ratio(cycle_s, no_op_s),
        ratio_to_assets=_ratio(cycle_s, no_op_assets_s),
    )


def _ratio(ours: Sequence[float], floor: Sequence[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, floor, strict=True)), 2)


@contextmanager
def _home() -> Iterator[tuple[Settings, dg.DagsterInstance]]:
    """Open a Dagster home of its own with the audited pool in it."""
    before, home = Path.cwd(), os.environ.get("DAGSTER_HOME")
    with ExitStack() as stack:
        root = Path(stack.enter_context(TemporaryDirectory(prefix="warmup-benchmark-")))
        shutil.copy(_ROOT / "dagster.yaml", root / "dagster.yaml")
        os.chdir(root)
        os.environ["DAGSTER_HOME"] = str(root)
        try:
            settings = Settings.from_environment(root, environ={"DAGSTER_HOME": str(root)})
            with open_world(settings, log=StandardLog()) as world:
                import_pool(
                    world,
                    _AUDIT / "chips.csv",
                    _AUDIT / "warmup_schedule.csv",
                    _AUDIT / "chip_interactions.csv",
                    stepped_from=STARTS_AT,
                )
            yield settings, stack.enter_context(dg.DagsterInstance.get())
        finally:
            os.chdir(before)
            if home is None:
                del os.environ["DAGSTER_HOME"]
            else:
                os.environ["DAGSTER_HOME"] = home


def _steps(instance: dg.DagsterInstance, run_id: str) -> int:
    return sum(
        entry.dagster_event is not None and entry.dagster_event.is_step_start
        for entry in instance.all_logs(run_id)
    )


def _empty_job(steps: int) -> dg.JobDefinition:
    @dg.op(ins={"start": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
    def nothing() -> None:
        """Do nothing."""

    return dg.GraphDefinition(
        name="nothing_in_as_many_steps",
        node_defs=[nothing],
        dependencies={
            dg.NodeInvocation("nothing", alias=f"nothing_{n}"): (
                {"start": dg.DependencyDefinition(f"nothing_{n - 1}")} if n else {}
            )
            for n in range(steps)
        },
    ).to_job(executor_def=dg.in_process_executor)


def _empty_assets_job() -> dg.JobDefinition:
    """Return a job with the cycle's assets, checks and steps that does nothing."""

    def empty_op(name: str, *, first: bool = False) -> dg.OpDefinition:
        @dg.op(name=name, ins={} if first else {"start": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
        def nothing() -> None:
            """Do nothing."""

        return nothing

    @dg.graph(
        out={
            key: dg.GraphOut() for key in ("chip_connections", "pairings", "presend_validations", "messages")
        }
    )
    def steps() -> Any:
        connected = empty_op("a", first=True)()
        paired = empty_op("d")(start=empty_op("c")(start=empty_op("b")(start=connected)))
        validated = empty_op("e")(start=paired)
        return {
            "chip_connections": connected,
            "pairings": paired,
            "presend_validations": validated,
            "messages": empty_op("f")(start=validated),
        }

    def empty_asset(real: dg.AssetsDefinition) -> dg.AssetsDefinition:
        @dg.asset(key=real.key, deps=list(real.keys_by_input_name.values()))
        def nothing() -> dg.MaterializeResult[Any]:
            return dg.MaterializeResult(metadata={"rows": 1})

        return nothing

    def empty_checks(real: dg.AssetChecksDefinition) -> dg.AssetChecksDefinition:
        specs = [dg.AssetCheckSpec(name=spec.name, asset=spec.asset_key) for spec in real.check_specs]

        @dg.multi_asset_check(name=f"empty_{real.node_def.name}", specs=specs)
        def nothing() -> Iterator[dg.AssetCheckResult]:
            for spec in specs:
                yield dg.AssetCheckResult(asset_key=spec.asset_key, check_name=spec.name, passed=True)

        return nothing

    keys = ("chip_connections", "pairings", "presend_validations", "messages")
    return dg.Definitions(
        assets=[
            dg.AssetsDefinition.from_graph(
                steps, keys_by_output_name={key: dg.AssetKey(key) for key in keys}
            ),
            *(empty_asset(real) for real in DERIVED_ASSETS),
        ],
        asset_checks=[empty_checks(real) for real in ASSET_CHECKS],
        jobs=[dg.define_asset_job("nothing_of_as_many_assets", executor_def=dg.in_process_executor)],
    ).resolve_job_def("nothing_of_as_many_assets")
