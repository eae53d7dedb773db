"""The trail, how far it was indexed and published, and who is who."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "audit_trail",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("uid", sa.String(64), nullable=False, unique=True),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("height", sa.BigInteger, nullable=False),
        sa.Column("index", sa.Integer, nullable=False),
        sa.Column("time_us", sa.BigInteger, nullable=False),
        sa.Column("activity", sa.String(32), nullable=False),
        sa.Column("action", sa.String(1), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("severity", sa.Integer, nullable=False),
        sa.Column("type", sa.String(256)),
        sa.Column("source", sa.String(256)),
        sa.Column("id", sa.String(256)),
        sa.Column("actor", sa.String(256)),
        sa.Column("member", sa.String(256)),
        sa.Column("party", sa.String(256)),
        sa.Column("patient", sa.String(256)),
        sa.Column("object", sa.String(512)),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("entry", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("shard", "height", "index", name="uq_audit_trail_leaf"),
    )
    for name in ("actor", "member", "party", "patient", "object", "type"):
        op.create_index(f"ix_audit_trail_{name}", "audit_trail", [name, "seq"])
    op.create_index("ix_audit_trail_event", "audit_trail", ["source", "id"])
    op.create_index("ix_audit_trail_time", "audit_trail", ["time_us"])
    op.create_table(
        "audit_shards",
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("next_height", sa.BigInteger, nullable=False),
        sa.Column("last_header", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "audit_outputs",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("published_seq", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "audit_parties",
        sa.Column("did", sa.String(256), primary_key=True),
        sa.Column("party", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "audit_patients",
        sa.Column("did", sa.String(256), primary_key=True),
        sa.Column("pseudonym", sa.String(256), primary_key=True),
    )
    op.create_table(
        "audit_consents",
        sa.Column("patient", sa.String(256), primary_key=True),
        sa.Column("id", sa.String(256), primary_key=True),
        sa.Column("consent", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    for name in ("consents", "patients", "parties", "outputs", "shards", "trail"):
        op.drop_table(f"audit_{name}")
