"""Patterns of API fields, taken from the kinds of fields that events are made of, so that they cannot differ.

What an API takes and an event refuses is found out too late: the caller gets a 500.
"""

from __future__ import annotations

from typing import Any

from salus.events.fields import PLAIN_PATTERN

# In pydantic's engine `$` is the end of the text alone, and it knows no lookahead.
_NO_FINAL_NEWLINE = r"(?!\n)"


def pattern_of(kind: Any) -> str:
    """Return the pattern of a kind of field, an `Annotated` of `salus.events.fields`, for pydantic."""
    [meta] = kind.__metadata__
    pattern = meta.pattern or meta.extra_json_schema["pattern"]
    return str(pattern).removesuffix(_NO_FINAL_NEWLINE)


PLAIN = PLAIN_PATTERN.removesuffix(_NO_FINAL_NEWLINE)
"""Text without control characters: CloudEvents has none in a string, and PostgreSQL takes no NUL."""
