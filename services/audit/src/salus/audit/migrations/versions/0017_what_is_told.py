"""A read and an emergency access are kept with what is told of them; the trail is built anew."""

from salus.audit.migrations.built_again import forget

revision = "0017"
down_revision = "0016"

upgrade = downgrade = forget
