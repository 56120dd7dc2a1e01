"""When each chip was expected in its next phase: kept, so that forecasts can be judged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_PHASES = (
    "'repouso', 'setup', 'primeiros_contatos', 'expansao', 'pre_operacao', 'teste_graduacao', 'operacao'"
)


def upgrade() -> None:
    """Apply this version."""
    op.create_table(
        "phase_forecast",
        sa.Column(
            "day", sa.Date(), nullable=False, comment="The local day it was made on, in its first cycle."
        ),
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("computed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("phase", sa.String(length=32), nullable=False, comment="The phase the chip was in."),
        sa.Column("next_phase", sa.String(length=32), nullable=False, comment="The phase it waited for."),
        sa.Column(
            "earliest_date",
            sa.Date(),
            nullable=True,
            comment="Earliest local day it can enter it; empty where none can be named.",
        ),
        sa.Column(
            "limited_by",
            sa.String(length=32),
            nullable=True,
            comment="The criterion that takes longest, or held, degraded, not_taking_part; empty where nothing does.",
        ),
        sa.CheckConstraint(f"phase IN ({_PHASES})", name=op.f("ck_phase_forecast_phase_known")),
        sa.CheckConstraint(f"next_phase IN ({_PHASES})", name=op.f("ck_phase_forecast_next_phase_known")),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_phase_forecast_chip_id")),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_phase_forecast_pool")),
        sa.PrimaryKeyConstraint("day", "chip_id", name=op.f("pk_phase_forecast")),
        comment="When each chip was expected to enter its next phase, forecast once a local day.",
    )
    with op.batch_alter_table("phase_forecast", schema=None) as batch_op:
        batch_op.create_index("ix_phase_forecast_pool_day", ["pool", "day"], unique=False)
