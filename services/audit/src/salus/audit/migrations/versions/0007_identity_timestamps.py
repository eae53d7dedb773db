"""Identity events are kept with when the broker appended them; the topic and the trail are read again."""

from alembic import op

revision = "0007"
down_revision = "0006"

_READ_AGAIN = (
    "identity",
    "identity_place",
    "consents",
    "patients",
    "shards",
    "trail",
    "comparison",
    "versions",
    "claims",
)


def upgrade() -> None:
    for name in _READ_AGAIN:
        op.execute(f"DELETE FROM audit_{name}")  # noqa: S608  # names of our own tables


downgrade = upgrade
