"""Why a chip's phase is held, and until when, beside what it still needs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this version."""
    with op.batch_alter_table("phase_eligibility", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "held_reason",
                sa.Text(),
                nullable=True,
                comment="Why the chip's phase is held: its brake's signals, or degraded.",
            )
        )
        batch_op.add_column(
            sa.Column(
                "held_until",
                sa.DateTime(timezone=True),
                nullable=True,
                comment="When the hold ends by itself at the earliest.",
            )
        )
