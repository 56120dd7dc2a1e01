"""How each chip stood at the end of each local day: trust, phase and limits had no history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this version."""
    op.create_table(
        "chip_days",
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False, comment="The day's last tick so far."),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("phase", sa.String(length=32), nullable=False),
        sa.Column("warming_day", sa.Integer(), nullable=True),
        sa.Column("trust_score", sa.Integer(), nullable=True),
        sa.Column("trust_level", sa.String(length=16), nullable=True),
        sa.Column("hour_limit", sa.Integer(), nullable=False, comment="Effective: trust and brake included."),
        sa.Column("day_limit", sa.Integer(), nullable=False, comment="Effective: trust and brake included."),
        sa.Column("braked", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "status IN ('provisioned', 'pending', 'warming', 'ready', 'active', 'degraded', 'paused', 'banned', 'cancelled')",
            name=op.f("ck_chip_days_status_known"),
        ),
        sa.CheckConstraint(
            "phase IN ('repouso', 'setup', 'primeiros_contatos', 'expansao', 'pre_operacao', 'teste_graduacao', 'operacao')",
            name=op.f("ck_chip_days_phase_known"),
        ),
        sa.CheckConstraint(
            "trust_level IN ('verde', 'amarelo', 'laranja', 'vermelho', 'critico')",
            name=op.f("ck_chip_days_trust_level_known"),
        ),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_chip_days_chip_id")),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_chip_days_pool")),
        sa.PrimaryKeyConstraint("chip_id", "day", name=op.f("pk_chip_days")),
        comment="How each chip stood at the end of each local day.",
    )
    with op.batch_alter_table("chip_days", schema=None) as batch_op:
        batch_op.create_index("ix_chip_days_pool_day", ["pool", "day"], unique=False)
