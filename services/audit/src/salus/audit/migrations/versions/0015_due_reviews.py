"""Of each emergency access is kept when its review is due; the trail is built again."""

from salus.audit.migrations.built_again import forget

revision = "0015"
down_revision = "0014"

upgrade = downgrade = forget
