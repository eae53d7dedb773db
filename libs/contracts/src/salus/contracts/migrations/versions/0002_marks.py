"""The last record that was folded of each partition, by which a topic is known again."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("fold_positions", sa.Column("last_offset", sa.BigInteger))
    op.add_column("fold_positions", sa.Column("last_digest", sa.LargeBinary(32)))


def downgrade() -> None:
    op.drop_column("fold_positions", "last_digest")
    op.drop_column("fold_positions", "last_offset")
