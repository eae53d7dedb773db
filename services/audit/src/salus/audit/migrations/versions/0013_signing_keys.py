"""Entries say with which keys they were signed; the trail is built again."""

import sqlalchemy as sa
from alembic import op

from salus.audit.migrations.built_again import forget

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    forget()
    op.add_column("audit_trail", sa.Column("key_ids", sa.Text))


def downgrade() -> None:
    forget()
    op.drop_column("audit_trail", "key_ids")
