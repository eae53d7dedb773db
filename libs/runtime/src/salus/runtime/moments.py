"""A time in a request: what an event's time may be, by the one rule of `salus.ledger.times`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from salus.ledger.times import read_time


def _read(value: object) -> object:
    """Take texts only: a parser would take numbers, dates alone and times without a zone as well."""
    if isinstance(value, str):
        return read_time(value)
    if isinstance(value, datetime):
        return value
    raise ValueError("not a time of RFC 3339 in a text")


Moment = Annotated[
    datetime, BeforeValidator(_read), WithJsonSchema({"type": "string", "format": "date-time"})
]
