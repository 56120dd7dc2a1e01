"""Which chips of a long log a cycle derives anew, and what the last one derived."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this version."""
    op.create_table(
        "chip_derivations",
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column(
            "computed_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="The last tick that derived it anew.",
        ),
        sa.Column(
            "judged_at", sa.DateTime(timezone=True), comment="The last tick that did and came to its end."
        ),
        sa.Column(
            "next_at", sa.DateTime(timezone=True), comment="When time alone can change what is derived of it."
        ),
        sa.Column("status", sa.String(length=16), nullable=False, comment="Its status then."),
        sa.Column("role", sa.String(length=32), nullable=False, comment="Its role then."),
        sa.Column("phase", sa.String(length=32), nullable=False, comment="Its phase then."),
        sa.Column("phase_started_at", sa.DateTime(timezone=True), comment="Since when it was in it."),
        sa.Column(
            "warming_started_at", sa.DateTime(timezone=True), comment="Since when it had been warming."
        ),
        sa.Column("eligible", sa.Boolean(), comment="Whether every criterion of its next phase holds."),
        sa.Column("limited_by", sa.String(length=32), comment="The criterion that takes longest."),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_chip_derivations_chip_id")),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_chip_derivations_pool")),
        sa.PrimaryKeyConstraint("chip_id", name=op.f("pk_chip_derivations")),
        comment="Pools with a long log: of which chips a cycle derives anew, and when that is due again.",
    )
    op.create_index("ix_chip_derivations_pool_computed_at", "chip_derivations", ["pool", "computed_at"])
    for column in (
        sa.Column(
            "derived_at",
            sa.DateTime(timezone=True),
            comment="The tick that last derived what has changed of its chips.",
        ),
        sa.Column("derived_on", sa.Date(), comment="The local day of that tick."),
        sa.Column("derived_by", sa.String(length=128), comment="The policy it derived with."),
    ):
        op.add_column("message_rollups", column)


def downgrade() -> None:
    """Take it back."""
    for name in ("derived_by", "derived_on", "derived_at"):
        op.drop_column("message_rollups", name)
    op.drop_index("ix_chip_derivations_pool_computed_at", table_name="chip_derivations")
    op.drop_table("chip_derivations")
