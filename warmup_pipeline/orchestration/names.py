"""The fixed names of the Dagster project (interface.md, "Dagster")."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import dagster as dg

CYCLE_JOB: Final = "warmup_cycle"
CYCLE_SENSOR: Final = "warmup_cycle_sensor"
ALERT_SENSOR: Final = "warmup_alert_sensor"
CYCLE_GRAPH: Final = "warmup_cycle_steps"
CYCLE_GROUP: Final = "warmup"
EXPORT_ASSET: Final = "daily_summary_export"
EXPORT_JOB: Final = "export_daily_summary"

RESOURCE: Final = "warmup"

STORY_TAG: Final = "warmup/story"
"""What a cycle came to, on its run: seen in the list of runs without opening one."""

TICK_TAG: Final = "warmup/tick"
EXACT_TAG: Final = "warmup/exact"
POOL_TAG: Final = "warmup/pool"
POLICY_TAG: Final = "warmup/policy"
PARTITION_TAG: Final = "dagster/partition"
MAX_RUNTIME_TAG: Final = "dagster/max_runtime"

CODE_MODULE: Final = "warmup_pipeline.definitions"

OWNERS: Final = ["team:warmup"]

PURGE_MAX_RUNTIME_S: Final = 3 * 60 * 60
"""The purge may take longer than any other run."""

MAX_RUNTIME_S: Final = 280
"""A cycle's run is ended after this many seconds: the next slot's cycle goes on.

Dagster looks every 10 s (``dagster.yaml``), so a hung run ends within 290 s of its start."""

EVERY_CYCLE: Final = dg.FreshnessPolicy.time_window(
    warn_window=timedelta(minutes=7), fail_window=timedelta(minutes=10)
)
"""Every asset of the cycle is made every five minutes; the UI turns it stale by the same ages as health."""
