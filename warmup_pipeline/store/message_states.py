"""Conditions on a message's state, spelled out.

Holds: :func:`has_state`. Do not add: what several states mean together (``attempts``, ``messages``).

A state given with each execution would have SQLite plan the whole statement anew each time: a partial index
speaks of states (``ix_messages_failed``), and whether it serves depends on the value. PostgreSQL needs the
state in the text to see that such an index answers at all.
"""

from __future__ import annotations

import sqlalchemy as sa

from warmup_pipeline.domain.values import MessageState
from warmup_pipeline.store.schema import messages


def has_state(state: MessageState) -> sa.ColumnElement[bool]:
    """Return the condition that a message is in a state."""
    return messages.c.state == sa.literal_column(f"'{state.value}'")
