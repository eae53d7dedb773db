"""What decides which events took effect: versions of subjects and claimed names; the trail is built again."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# What entries are made of has changed, and the ledger has all of it.
_BUILT_AGAIN = ("consents", "patients", "parties", "outputs", "shards", "trail", "comparison")


def upgrade() -> None:
    for name in _BUILT_AGAIN:
        op.execute(f"DELETE FROM audit_{name}")  # noqa: S608  # names of our own tables
    op.create_table(
        "audit_versions",
        sa.Column("topic", sa.String(249), primary_key=True),
        sa.Column("subject", sa.String(256), primary_key=True),
        sa.Column("version", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "audit_claims",
        sa.Column("topic", sa.String(249), primary_key=True),
        sa.Column("name", sa.String(512), primary_key=True),
    )


def downgrade() -> None:
    op.drop_table("audit_claims")
    op.drop_table("audit_versions")
