"""Entries say with which keys they were signed; the trail is built again."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

# What entries are made of has changed, and the ledger has all of it. What is published stays so.
_BUILT_AGAIN = (
    "consents", "patients", "versions", "claims", "shards", "trail", "comparison", "served", "unentitled",
    "identity", "identity_place",
)  # fmt: skip


def upgrade() -> None:
    _forget()
    op.add_column("audit_trail", sa.Column("key_ids", sa.Text))


def downgrade() -> None:
    _forget()
    op.drop_column("audit_trail", "key_ids")


def _forget() -> None:
    for name in _BUILT_AGAIN:
        op.execute(f"DELETE FROM audit_{name}")  # noqa: S608  # names of our own tables
