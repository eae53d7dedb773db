"""A permit's parties, and the moments that consent tells, are kept; the trail is built anew."""

from salus.audit.migrations.built_again import forget

revision = "0018"
down_revision = "0017"

upgrade = downgrade = forget
