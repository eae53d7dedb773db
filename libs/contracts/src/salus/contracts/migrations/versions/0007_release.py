"""Of which release the code is that folds here."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("fold_positions", sa.Column("release", sa.BigInteger))


def downgrade() -> None:
    op.drop_column("fold_positions", "release")
