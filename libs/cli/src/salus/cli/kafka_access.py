"""Which Kafka a command speaks to where no platform runs, and as whom."""

from __future__ import annotations

from salus.cli.exits import CommandError, Exit
from salus.messaging import Bootstrap
from salus.runtime.kafka_settings import kafka_of_environment

KAFKA_VARIABLE = "SALUS_KAFKA_BOOTSTRAP"
"""Its companions say as whom."""


def given_kafka() -> Bootstrap:
    """Return the Kafka that the environment names; raises CommandError if that is none."""
    try:
        return kafka_of_environment()
    except ValueError as error:
        raise CommandError(Exit.USAGE, str(error)) from None
