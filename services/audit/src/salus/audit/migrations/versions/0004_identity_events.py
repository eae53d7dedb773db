"""The identity events as the ledger has them take the place of parties; the trail is built again."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

# What entries are made of has changed, and the ledger has all of it.
_BUILT_AGAIN = ("consents", "patients", "outputs", "shards", "trail", "comparison", "versions", "claims")


def _empty() -> None:
    for name in _BUILT_AGAIN:
        op.execute(f"DELETE FROM audit_{name}")  # noqa: S608  # names of our own tables


def upgrade() -> None:
    _empty()
    op.drop_table("audit_parties")
    op.create_table(
        "audit_identity",
        sa.Column("offset", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "audit_identity_place",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("last_header", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    _empty()
    op.drop_table("audit_identity_place")
    op.drop_table("audit_identity")
    op.create_table(
        "audit_parties",
        sa.Column("did", sa.String(256), primary_key=True),
        sa.Column("party", sa.LargeBinary, nullable=False),
    )
