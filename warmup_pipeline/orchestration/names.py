"""The fixed names of the Dagster project (interface.md, "Dagster")."""

from __future__ import annotations

from typing import Final

CYCLE_JOB: Final = "warmup_cycle"
CYCLE_SENSOR: Final = "warmup_cycle_sensor"
ALERT_SENSOR: Final = "warmup_alert_sensor"
CYCLE_GRAPH: Final = "warmup_cycle_steps"
CYCLE_GROUP: Final = "warmup"

RESOURCE: Final = "warmup"

TICK_TAG: Final = "warmup/tick"
EXACT_TAG: Final = "warmup/exact"
POOL_TAG: Final = "warmup/pool"
POLICY_TAG: Final = "warmup/policy"
PARTITION_TAG: Final = "dagster/partition"
MAX_RUNTIME_TAG: Final = "dagster/max_runtime"

CODE_MODULE: Final = "warmup_pipeline.definitions"

OWNERS: Final = ["team:warmup"]

MAX_RUNTIME_S: Final = 290
"""A cycle's run is ended after this many seconds: the next slot's cycle goes on."""
