"""Entries have when the broker appended the record, and are searched by it; the trail is built again."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

# What entries are made of has changed, and the ledger has all of it. What is published stays so.
_BUILT_AGAIN = ("consents", "patients", "versions", "claims", "shards", "trail", "comparison")


def upgrade() -> None:
    _replace("sealed", "appended")


def downgrade() -> None:
    _replace("appended", "sealed")


def _replace(old: str, new: str) -> None:
    for name in _BUILT_AGAIN:
        op.execute(f"DELETE FROM audit_{name}")  # noqa: S608  # names of our own tables
    op.drop_index(f"ix_audit_trail_{old}", "audit_trail")
    op.drop_column("audit_trail", f"{old}_us")
    op.add_column("audit_trail", sa.Column(f"{new}_us", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index(f"ix_audit_trail_{new}", "audit_trail", [f"{new}_us"])
