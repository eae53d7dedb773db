"""Entries say where a row is not what it is sealed as, and runs have keys' ids; the trail is built again."""

import sqlalchemy as sa
from alembic import op

from salus.audit.migrations.built_again import forget

revision = "0012"
down_revision = "0011"

_NAME = "ix_audit_trail_damage"


def upgrade() -> None:
    forget()
    op.add_column("audit_trail", sa.Column("damage", sa.String(32)))
    damaged = sa.text("damage IS NOT NULL")
    op.create_index(_NAME, "audit_trail", ["seq"], sqlite_where=damaged, postgresql_where=damaged)


def downgrade() -> None:
    forget()
    op.drop_index(_NAME, "audit_trail")
    op.drop_column("audit_trail", "damage")
