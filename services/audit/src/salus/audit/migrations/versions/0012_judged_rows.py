"""Entries say where a row is not what it is sealed as, and runs have keys' ids; the trail is built again."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

# What entries are made of has changed, and the ledger has all of it. What is published stays so.
_BUILT_AGAIN = (
    "consents", "patients", "versions", "claims", "shards", "trail", "comparison", "served", "unentitled",
    "identity", "identity_place",
)  # fmt: skip
_NAME = "ix_audit_trail_damage"


def upgrade() -> None:
    _forget()
    op.add_column("audit_trail", sa.Column("damage", sa.String(32)))
    damaged = sa.text("damage IS NOT NULL")
    op.create_index(_NAME, "audit_trail", ["seq"], sqlite_where=damaged, postgresql_where=damaged)


def downgrade() -> None:
    _forget()
    op.drop_index(_NAME, "audit_trail")
    op.drop_column("audit_trail", "damage")


def _forget() -> None:
    for name in _BUILT_AGAIN:
        op.execute(f"DELETE FROM audit_{name}")  # noqa: S608  # names of our own tables
