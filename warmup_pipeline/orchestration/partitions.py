"""The partitions: local days.

Holds: :data:`LOCAL_DAYS`. Today's key is there while the day runs.
"""

from __future__ import annotations

from typing import Final

import dagster as dg

LOCAL_DAYS: Final = dg.DailyPartitionsDefinition(
    start_date="2026-01-01", timezone="America/Sao_Paulo", end_offset=1
)
"""Local calendar days of the default policy's zone; the last one is the day that is running."""
