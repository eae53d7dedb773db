"""When entries were sealed, and what the comparison with the ledger found; the trail is built again."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# What entries are made of has changed, and the ledger has all of it.
_BUILT_AGAIN = ("consents", "patients", "parties", "outputs", "shards", "trail")


def upgrade() -> None:
    for name in _BUILT_AGAIN:
        op.execute(f"DELETE FROM audit_{name}")  # noqa: S608  # names of our own tables
    op.add_column("audit_trail", sa.Column("sealed_us", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("ix_audit_trail_sealed", "audit_trail", ["sealed_us"])
    op.create_table(
        "audit_comparison",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("outcome", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("audit_comparison")
    op.drop_index("ix_audit_trail_sealed", "audit_trail")
    op.drop_column("audit_trail", "sealed_us")
