"""What each check last said of each pool: a run judges its own pool and shows what is known of all."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from warmup_pipeline.store.types import UtcDateTime

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this version."""
    op.create_table(
        "pool_verdicts",
        sa.Column("check_name", sa.String(64), nullable=False, comment="The check."),
        sa.Column("pool", sa.String(64), nullable=False),
        sa.Column(
            "judged_at", UtcDateTime(), nullable=False, comment="The tick of the cycle that was judged."
        ),
        sa.Column("passed", sa.Boolean(), nullable=False, comment="Whether all was well in this pool."),
        sa.Column(
            "severity", sa.String(8), nullable=False, comment="What it means where it was not: warn or error."
        ),
        sa.Column("summary", sa.Text(), nullable=False, comment="What the check said of this pool."),
        sa.Column(
            "concerned", sa.JSON(), nullable=False, comment="The chips it was about, as they may be shown."
        ),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_pool_verdicts_pool")),
        sa.PrimaryKeyConstraint("check_name", "pool", name=op.f("pk_pool_verdicts")),
        comment="What each check last said of each pool: a run judges its own pool and shows what is known of all.",
    )


def downgrade() -> None:
    """Take this version back."""
    op.drop_table("pool_verdicts")
