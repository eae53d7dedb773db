"""An actor's refusals are found by when the broker appended them; the detectors ask for them."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_NAME = "ix_audit_trail_refused"


def upgrade() -> None:
    refused = sa.text("outcome = 'refused'")
    columns = ["actor", "appended_us"]
    op.create_index(_NAME, "audit_trail", columns, sqlite_where=refused, postgresql_where=refused)


def downgrade() -> None:
    op.drop_index(_NAME, "audit_trail")
