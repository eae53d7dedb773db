"""Entries say where a row is not what it is sealed as, and runs have keys' ids; the trail is built again."""

from alembic import op

revision = "0012"
down_revision = "0011"

# What entries are made of has changed, and the ledger has all of it. What is published stays so.
_BUILT_AGAIN = (
    "consents", "patients", "versions", "claims", "shards", "trail", "comparison", "served", "unentitled",
    "identity", "identity_place",
)  # fmt: skip


def upgrade() -> None:
    for name in _BUILT_AGAIN:
        op.execute(f"DELETE FROM audit_{name}")  # noqa: S608  # names of our own tables


def downgrade() -> None:
    upgrade()
