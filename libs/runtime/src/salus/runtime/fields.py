"""Patterns of API fields, taken from the kinds of fields that events are made of, so that they cannot differ.

What an API takes and an event refuses is found out too late: the caller gets a 500.
"""

from __future__ import annotations

from typing import Any

from salus.events.fields import PLAIN_PATTERN, portable

PLAIN = portable(PLAIN_PATTERN)
"""Text without control characters: CloudEvents has none in a string, and PostgreSQL takes no NUL."""


def pattern_of(kind: Any) -> str:
    """Return the pattern of a kind of field, an `Annotated` of `salus.events.fields`, for pydantic.

    In pydantic's engine, as in a schema, `$` is the end of the text alone.
    """
    [meta] = kind.__metadata__
    return portable(meta.pattern or meta.extra_json_schema["pattern"])
