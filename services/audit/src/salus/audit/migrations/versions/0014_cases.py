"""Rights are judged by cases and by when reviews are due, too; the trail is built again."""

from salus.audit.migrations.built_again import forget

revision = "0014"
down_revision = "0013"

upgrade = downgrade = forget
