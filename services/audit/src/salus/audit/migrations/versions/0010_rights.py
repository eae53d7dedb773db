"""What rights are judged again by, and which entries nobody had a right to; the trail is built again."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

# Beside each block stands what it holds of consent and storage, and the ledger has all of it. What is
# published stays so.
_BUILT_AGAIN = ("consents", "patients", "versions", "claims", "shards", "trail", "comparison")


def upgrade() -> None:
    for name in _BUILT_AGAIN:
        op.execute(f"DELETE FROM audit_{name}")  # noqa: S608  # names of our own tables
    op.create_table(
        "audit_served",
        sa.Column("place", sa.String(300), primary_key=True),
        sa.Column("first", sa.String(64), primary_key=True),
        sa.Column("run", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "audit_unentitled",
        sa.Column("uid", sa.String(64), primary_key=True),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("why", sa.String(512), nullable=False),
        sa.Column("proof", sa.LargeBinary, nullable=True),
    )


def downgrade() -> None:
    op.drop_table("audit_unentitled")
    op.drop_table("audit_served")
