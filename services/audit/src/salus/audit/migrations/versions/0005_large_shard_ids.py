"""Ids of shards take 64 bits: an event may name any whole number that JSON readers agree on."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_WITH_SHARD = ("audit_trail", "audit_shards", "audit_identity_place")


def _alter(kind: sa.types.TypeEngine[int]) -> None:
    if op.get_bind().dialect.name == "sqlite":
        # Its integers have 64 bits, whatever they are called.
        return
    for table in _WITH_SHARD:
        op.alter_column(table, "shard", type_=kind)


def upgrade() -> None:
    _alter(sa.BigInteger())


def downgrade() -> None:
    _alter(sa.Integer())
