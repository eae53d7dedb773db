"""What aggregates oblige to and is not settled."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "fold_obligations",
        sa.Column("reactor", sa.String(64), primary_key=True),
        sa.Column("aggregate", sa.String(256), primary_key=True),
        sa.Column("key", sa.String(256), primary_key=True),
        sa.Column("since_ms", sa.BigInteger, nullable=False),
        sa.Column("due_ms", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
    )
    op.create_index("fold_obligations_due", "fold_obligations", ["reactor", "due_ms"])


def downgrade() -> None:
    op.drop_table("fold_obligations")
