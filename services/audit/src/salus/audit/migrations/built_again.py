"""Empties what audit builds again from the ledger, for migrations that change the form of what is stored.

What was stored differs then from what follows from the ledger, which a comparison takes for a change. What is
published stays so.
"""

from alembic import op

# The tables as they are since 0012; a migration that makes another one of them brings a list of its own.
SINCE_0012 = (
    "consents", "patients", "versions", "claims", "shards", "trail", "comparison", "served", "unentitled",
    "identity", "identity_place",
)  # fmt: skip


def forget() -> None:
    for name in SINCE_0012:
        op.execute(f"DELETE FROM audit_{name}")  # noqa: S608  # names of our own tables
