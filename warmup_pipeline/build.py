"""The one place where the Dagster project is wired.

Holds: :func:`build_defs`. Tests and commands build their own, with other resources; nothing is
patched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from warmup_pipeline.orchestration.alerts import warmup_alert_sensor
from warmup_pipeline.orchestration.assets import DERIVED_ASSETS
from warmup_pipeline.orchestration.checks import ASSET_CHECKS
from warmup_pipeline.orchestration.cycle import CYCLE_ASSETS
from warmup_pipeline.orchestration.exports import (
    EXPORT_JOB_DEFINITION,
    daily_summary_export,
    export_daily_summary_schedule,
)
from warmup_pipeline.orchestration.jobs import CYCLE_JOB_DEFINITION, OPERATOR_JOBS, PURGE_SCHEDULE
from warmup_pipeline.orchestration.names import RESOURCE
from warmup_pipeline.orchestration.resources import warmup_resource
from warmup_pipeline.orchestration.sensors import warmup_cycle_sensor
from warmup_pipeline.orchestration.session_jobs import SESSION_JOBS


def build_defs(*, resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Return the project's definitions.

    Args:
        resource_overrides: resources that replace the project's own, by name.
    """
    return dg.Definitions(
        assets=[CYCLE_ASSETS, *DERIVED_ASSETS, daily_summary_export],
        asset_checks=ASSET_CHECKS,
        jobs=[CYCLE_JOB_DEFINITION, EXPORT_JOB_DEFINITION, *OPERATOR_JOBS, *SESSION_JOBS],
        schedules=[PURGE_SCHEDULE, export_daily_summary_schedule],
        sensors=[warmup_cycle_sensor, warmup_alert_sensor],
        resources={RESOURCE: warmup_resource(), **(resource_overrides or {})},
        # A run's steps share one process: eleven steps took 0.6 s in process and 36 s in processes of their own.
        executor=dg.in_process_executor,
    )
