"""The partitions: local days.

Holds: :data:`LOCAL_DAYS`. Today's key is there while the day runs, and tomorrow's.
"""

from __future__ import annotations

from typing import Final

import dagster as dg

LOCAL_DAYS: Final = dg.DailyPartitionsDefinition(
    start_date="2026-01-01", timezone="America/Sao_Paulo", end_offset=2
)
"""Local calendar days of the default policy's zone. The last is tomorrow: a policy's zone may be ahead of it."""
