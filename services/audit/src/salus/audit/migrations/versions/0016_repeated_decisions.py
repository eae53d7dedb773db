"""A decision is kept with what it claims, to be known when it is stated again; the trail is built anew."""

from salus.audit.migrations.built_again import forget

revision = "0016"
down_revision = "0015"

upgrade = downgrade = forget
