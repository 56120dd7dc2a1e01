"""Two jobs that say everything of assets and checks, and what a storage of events made of them.

Holds: :data:`JOB`, :data:`BY_DAY`, :func:`run_them`, :func:`written_to`.
"""

import re
import warnings
from collections.abc import Iterator
from typing import Any

import dagster as dg
import sqlalchemy as sa


@dg.asset
def counted(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
    """Count to three."""
    context.log.info("counting")
    return dg.MaterializeResult(metadata={"rows": 3})


@dg.asset_check(asset=counted)
def is_counted() -> dg.AssetCheckResult:
    """Whether it was counted."""
    return dg.AssetCheckResult(passed=False, metadata={"wrong": 1})


JOB = dg.Definitions(
    assets=[counted], asset_checks=[is_counted], jobs=[dg.define_asset_job("count")]
).resolve_job_def("count")


DAYS = dg.StaticPartitionsDefinition(["mon", "tue"])


@dg.asset
def stated() -> dg.MaterializeResult[Any]:
    """State, with metadata, a data version and a tag."""
    return dg.MaterializeResult(
        metadata={"told": dg.MetadataValue.md("| a |")}, data_version=dg.DataVersion("7"), tags={"a": "b"}
    )


@dg.asset(partitions_def=DAYS, deps=[stated])
def summed(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
    """Sum a day up."""
    context.log.warning("summing")
    return dg.MaterializeResult(metadata={"rows": 2})


with warnings.catch_warnings():
    warnings.simplefilter("ignore", dg.PreviewWarning)
    BY_PARTITION = dg.AssetCheckSpec("is_summed_by_day", asset="summed", partitions_def=DAYS)


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec("is_sound", asset="stated"),
        dg.AssetCheckSpec("is_summed", asset="summed"),
        BY_PARTITION,
        dg.AssetCheckSpec("is_never_said", asset="summed"),
    ],
    can_subset=True,
)
def all_of_them() -> Iterator[dg.AssetCheckResult]:
    """Say something of all but one, and fail."""
    yield dg.AssetCheckResult(asset_key="stated", check_name="is_sound", passed=True)
    yield dg.AssetCheckResult(
        asset_key="summed", check_name="is_summed", passed=False, severity=dg.AssetCheckSeverity.WARN
    )
    yield dg.AssetCheckResult(
        asset_key="summed", check_name="is_summed_by_day", passed=True, description="each", metadata={"n": 1}
    )
    raise ValueError("cannot judge")


BY_DAY = dg.Definitions(
    assets=[stated, summed],
    asset_checks=[all_of_them],
    jobs=[dg.define_asset_job("by_day")],
).resolve_job_def("by_day")

RUN = "11111111-1111-4111-8111-11111111111"
CHANGES = [
    (re.compile(r"\d{10}\.\d+|\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?"), "WHEN"),
    (re.compile(r"\d+(?:\.\d+)?m?s\b"), "LONG"),
    (re.compile(r'("duration_ms": )[\d.]+'), "LONG"),
    (re.compile(r"[0-9a-f]{64}|[0-9a-f]{8}-[0-9a-f-]{27}"), "ID"),
    (re.compile(r'("log_key": )"[a-z]{8}"'), "LOG"),
]


def run_them(instance: dg.DagsterInstance) -> None:
    """Run both, some days twice, and wipe an asset before the last run."""
    runs = [(JOB, None), (BY_DAY, "mon"), (BY_DAY, "mon"), (JOB, None), (BY_DAY, "tue"), (BY_DAY, "tue")]
    for number, (job, day) in enumerate(runs):
        if number == len(runs) - 1:
            instance.wipe_assets([dg.AssetKey("stated")])
        job.execute_in_process(
            instance=instance, run_id=f"{RUN}{number}", partition_key=day, raise_on_error=False
        )


def written_to(connection: sa.Connection) -> dict[str, list[str]]:
    """Return every row of every table of a database, without what differs from run to run."""
    found: dict[str, list[str]] = {}
    for table in sa.inspect(connection).get_table_names():
        rows = [
            " | ".join(map(str, row))
            for row in connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1")
        ]
        for what, instead in CHANGES:
            rows = [what.sub(instead, row) for row in rows]
        found[table] = rows
    return found
