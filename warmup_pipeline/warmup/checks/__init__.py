"""The health checks: what must hold, and how it is judged.

Holds: :data:`CHECKS`, one :class:`CheckSpec` per asset check of the project. Each judges one pool, or the
whole database, from the rows themselves; what they say of several pools is put together in ``pooled``. Add
here: a check goes to the module of its asset, as a judge and its line in that module's ``CHECKS``; this
file changes for a new module only. Do not add: how Dagster runs a check (orchestration.checks), SQL
(store.audit).
"""

from __future__ import annotations

from typing import Final

from warmup_pipeline.warmup.checks import connections, forecasts, messages, metrics, phases, planning, summary
from warmup_pipeline.warmup.checks.pooled import cannot_judge, judge_each_pool, judge_together
from warmup_pipeline.warmup.checks.spec import CheckSpec, note_verdicts

CHECKS: Final[tuple[CheckSpec, ...]] = (
    *connections.CHECKS,
    *planning.CHECKS,
    *messages.CHECKS,
    *metrics.CHECKS,
    *phases.CHECKS,
    *forecasts.CHECKS,
    *summary.CHECKS,
)
"""Every asset check of the project, in the order of the assets."""

__all__ = ["CHECKS", "CheckSpec", "cannot_judge", "judge_each_pool", "judge_together", "note_verdicts"]
