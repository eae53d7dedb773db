"""Up to where each shard is published, signed by audit; all is published again, with the same ids."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.drop_table("audit_outputs")
    op.create_table(
        "audit_published",
        sa.Column("shard", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("next_height", sa.BigInteger, nullable=False),
        sa.Column("proof", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("audit_published")
    op.create_table(
        "audit_outputs",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("published_seq", sa.BigInteger, nullable=False),
    )
