"""Who approved an act as a second operator; the trail is built again."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

# What entries are made of has changed, and the ledger has all of it. What is published stays so.
_BUILT_AGAIN = ("consents", "patients", "versions", "claims", "shards", "trail", "comparison")


def upgrade() -> None:
    for name in _BUILT_AGAIN:
        op.execute(f"DELETE FROM audit_{name}")  # noqa: S608  # names of our own tables
    op.add_column("audit_trail", sa.Column("approver", sa.String(256)))
    op.create_index("ix_audit_trail_approver", "audit_trail", ["approver", "seq"])


def downgrade() -> None:
    op.drop_index("ix_audit_trail_approver", "audit_trail")
    op.drop_column("audit_trail", "approver")
