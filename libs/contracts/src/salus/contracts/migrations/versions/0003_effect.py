"""The rule of effect: names that events claimed, and why an accepted event changed nothing."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "fold_claims",
        sa.Column("topic", sa.String(249), primary_key=True),
        sa.Column("name", sa.String(512), primary_key=True),
        sqlite_with_rowid=False,
    )
    op.add_column("fold_outcomes", sa.Column("no_effect", sa.String(64)))


def downgrade() -> None:
    op.drop_column("fold_outcomes", "no_effect")
    op.drop_table("fold_claims")
