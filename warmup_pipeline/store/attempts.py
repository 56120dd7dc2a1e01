"""What a CONVERSA_PAR attempt is, in SQL: the one definition that checks, health and summaries share.

Holds: the conditions under which a message, or an imported activity, is an attempt that succeeded or
failed. Do not add: sums (``audit``, ``summaries``), a chip's delivery rate (``counts``: it
leaves out what was the recipient's fault).

Source: domain.md, "Metrics, trust, phases": attempts are openings and reply turns whose HTTP call
began; succeeded is accepted and not failed since; failed is certainly not accepted; unknown is in
neither. A row of ``messages`` is there only if its call began (what was never begun is withdrawn, and
a turn that our own code could not make leaves no row), so its state alone decides: a bug of ours
after the call began leaves ``unknown``, and one that is known not to have been accepted would be
``failed`` whoever was to blame.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from warmup_pipeline.domain.values import (
    ACCEPTED_STATES,
    CONVERSA_PAR,
    ActivityState,
    FailureClass,
    MessageState,
    RowSource,
)
from warmup_pipeline.store.schema import activities, messages

succeeded: Final = messages.c.state.in_(sorted(ACCEPTED_STATES))
"""A message that was accepted and has not failed since."""

failed: Final = sa.and_(
    messages.c.state == MessageState.FAILED,
    sa.or_(
        messages.c.http_attempts > 0,
        messages.c.accepted_at.is_not(None),
        sa.func.coalesce(messages.c.failure_class, "") != FailureClass.BUG,
    ),
)
"""A message that was certainly not accepted, or failed later. One whose process ended before its call
began is none: nothing that was not attempted counts as a failure (domain.md, "The cycle", step 5)."""

is_history: Final = sa.and_(
    # Spelled out, so that the index on just these rows is seen to answer.
    activities.c.source == sa.literal_column(f"'{RowSource.IMPORT.value}'"),
    activities.c.cycle_id.is_(None),
    activities.c.state.in_([ActivityState.EXECUTED, ActivityState.FAILED]),
)
"""An imported activity that the old system had ended, not one of our cycles."""

old_attempt: Final = sa.and_(is_history, activities.c.type == CONVERSA_PAR)
"""An attempt of the old system: it counts in the 24-hour look-back and in its own day's summary."""

old_succeeded: Final = activities.c.state == ActivityState.EXECUTED
old_failed: Final = activities.c.state == ActivityState.FAILED


def count_of(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    """Return how many rows of a query hold a condition, 0 without any row."""
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)
