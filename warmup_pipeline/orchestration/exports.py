"""The daily summary as files: Parquet and CSV, a file of each per local day.

Holds: ``daily_summary_export``, which is no part of a cycle: materialize it for any day, or backfill a
range; and the schedule that does so every night. Add here: another asset that writes files. Do not add:
computing (``daily_summary`` does).

Files go to ``export/daily_summary`` under the Dagster home and are replaced whole: a reader sees the
old file or the new one. What holds several numbers (``activities``, ``deferrals``, ``blocks``) is JSON text.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg

from warmup_pipeline.domain.privacy import Redactor
from warmup_pipeline.orchestration.guard import guarded
from warmup_pipeline.orchestration.metadata import definition_metadata
from warmup_pipeline.orchestration.names import CYCLE_GROUP, EXPORT_ASSET, EXPORT_JOB, OWNERS, RESOURCE
from warmup_pipeline.orchestration.partitions import LOCAL_DAYS
from warmup_pipeline.orchestration.resources import WarmupAccess
from warmup_pipeline.store import summaries
from warmup_pipeline.store.schema import daily_summary as table
from warmup_pipeline.store.trouble import StoreError

_COLUMNS: Final = [column.name for column in table.columns]
_COUNTS: Final = [column.name for column in table.columns if str(column.type) == "INTEGER"]


@dg.asset(
    name=EXPORT_ASSET,
    deps=["daily_summary"],
    description=(
        "`daily_summary` of a local day as Parquet and CSV under `export/daily_summary` of the Dagster home. "
        "Materialize it for a day, or backfill any range; nothing is sent. docs/data-dictionary.md says what each "
        "column means."
    ),
    group_name=CYCLE_GROUP,
    owners=OWNERS,
    kinds={"parquet", "csv"},
    tags={"warmup/table": "export"},
    partitions_def=LOCAL_DAYS,
    metadata={key: value for key, value in definition_metadata("daily_summary").items() if "schema" in key},
    required_resource_keys={RESOURCE},
)
def daily_summary_export(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
    """Write the summary of each day asked for."""
    folder = context.resources.warmup.settings().home / "export" / "daily_summary"
    written = 0
    with guarded(context.resources.warmup, context.log, []) as world:
        for key in context.partition_keys:
            with world.store.read() as tx:
                rows = list(summaries.of_day(tx, date.fromisoformat(key)).values())
            write_day(folder, key, rows)
            written += len(rows)
            if not rows:
                context.log.warning(f"{key} has no summary yet: materialize daily_summary for it first")
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": written,
            "folder": dg.MetadataValue.path(str(folder)),
            "days": len(context.partition_keys),
        }
    )


EXPORT_JOB_DEFINITION: Final = dg.define_asset_job(
    EXPORT_JOB,
    selection=[EXPORT_ASSET],
    description="Write `daily_summary` of a local day as Parquet and CSV. Runs every night for the day before.",
)


@dg.schedule(
    name="export_daily_summary_schedule",
    job=EXPORT_JOB_DEFINITION,
    cron_schedule="30 0 * * *",
    execution_timezone=LOCAL_DAYS.timezone,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every night at 00:30, when the day before has been made final: that day, if it has a summary.",
)
def export_daily_summary_schedule(
    context: dg.ScheduleEvaluationContext, warmup: dg.ResourceParam[WarmupAccess]
) -> dg.RunRequest | dg.SkipReason:
    """Ask for yesterday's files."""
    yesterday = context.scheduled_execution_time.date() - timedelta(days=1)
    access: WarmupAccess = warmup
    try:
        with access.store() as (store, _), store.read() as tx:
            known = bool(summaries.of_day(tx, yesterday))
    except (StoreError, ValueError) as error:
        return dg.SkipReason(Redactor().text(str(error)))
    if not known:
        return dg.SkipReason(f"{yesterday} has no summary: no pool ran on that day")
    return dg.RunRequest(run_key=yesterday.isoformat(), partition_key=yesterday.isoformat())


def write_day(folder: Path, day: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a day's rows as ``daily_summary_<day>.parquet`` and ``.csv``, each replaced whole."""
    # Imported where it is needed: every run of a cycle would pay for it.
    import pandas as pd

    plain = [
        {
            name: json.dumps(row[name], ensure_ascii=False, sort_keys=True)
            if isinstance(row[name], dict)
            else row[name]
            for name in _COLUMNS
        }
        for row in sorted(rows, key=lambda row: (row["scope"], row["scope_id"]))
    ]
    # Counts stay whole numbers where some are empty.
    frame = pd.DataFrame(plain, columns=_COLUMNS).astype(dict.fromkeys(_COUNTS, "Int64"))
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, write in ((".parquet", frame.to_parquet), (".csv", frame.to_csv)):
        path = folder / f"daily_summary_{day}{suffix}"
        part = path.with_name(f".{path.name}.part")
        write(part, index=False)
        part.replace(path)
