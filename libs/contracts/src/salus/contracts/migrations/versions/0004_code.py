"""Which code folded: what a fold of another version left is folded anew."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("fold_positions", sa.Column("folded_by", sa.LargeBinary(32)))


def downgrade() -> None:
    op.drop_column("fold_positions", "folded_by")
