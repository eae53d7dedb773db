"""What requests to contract services are made of: strict bodies, and fields that several have."""

from __future__ import annotations

import hashlib
from typing import Annotated
from uuid import uuid4

from fastapi import Header, Path
from pydantic import BaseModel, ConfigDict

from salus.runtime.fields import PLAIN, PSEUDONYM_PATTERN

PatientInPath = Annotated[str, Path(pattern=PSEUDONYM_PATTERN, description="The patient's pseudonym.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=8,
        max_length=128,
        pattern=PLAIN,
        description="A repeated request with the same key has one effect.",
    ),
]


class CommandBody(BaseModel):
    """Base of the bodies of commands, and of what is in them."""

    model_config = ConfigDict(extra="forbid")


def id_digits(caller: str, key: str | None) -> str:
    """Return 20 digits for a new id: random, or always the same for a caller's idempotency key."""
    if key is None:
        return uuid4().hex[:20]
    return hashlib.sha256(f"{caller}\0{key}".encode()).hexdigest()[:20]
