"""An index that finds the approvals nobody has used.

Every cycle asks for them, and the table grows by every decision ever made.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the index."""
    op.create_index(
        "ix_presend_validations_unused",
        "presend_validations",
        ["pool", "decision", "lapsed"],
        sqlite_where=sa.text("used_at IS NULL"),
        postgresql_where=sa.text("used_at IS NULL"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_presend_validations_unused", table_name="presend_validations")
