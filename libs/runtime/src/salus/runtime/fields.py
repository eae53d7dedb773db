"""Kinds of API fields, taken from the kinds of fields that events are made of, so that they cannot differ.

What an API takes and an event refuses is found out too late: the caller gets a 500.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from salus.events import fields
from salus.events.fields import PLAIN_PATTERN, portable

PLAIN = portable(PLAIN_PATTERN)
"""Text without control characters: CloudEvents has none in a string, and PostgreSQL takes no NUL."""


def pattern_of(kind: Any) -> str:
    """Return the pattern of a kind of field, an `Annotated` of `salus.events.fields`, for pydantic.

    In pydantic's engine, as in a schema, `$` is the end of the text alone.
    """
    [meta] = kind.__metadata__
    return portable(meta.pattern or meta.extra_json_schema["pattern"])


DID_PATTERN = pattern_of(fields.Did)
PSEUDONYM_PATTERN = pattern_of(fields.Pseudonym)
MEDIA_TYPE_PATTERN = pattern_of(fields.MediaType)
NONCE_PATTERN = pattern_of(fields.Nonce)

Did = Annotated[str, Field(pattern=DID_PATTERN, max_length=256, examples=["did:web:hospital.example"])]
RoleName = Annotated[str, Field(pattern=pattern_of(fields.RoleName), max_length=64, examples=["clinician"])]
KeyId = Annotated[str, Field(pattern=pattern_of(fields.KeyId), max_length=256)]
Pseudonym = Annotated[
    str, Field(pattern=PSEUDONYM_PATTERN, examples=["urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"])
]
