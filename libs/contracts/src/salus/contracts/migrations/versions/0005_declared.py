"""Which tables contracts declare, and how they are defined."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "fold_declared",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("definition", sa.LargeBinary(32), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("fold_declared")
