"""What requests to contract services are made of: strict bodies, and fields that several have."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated

from fastapi import Header, Path
from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from salus.client.identifiers import random_uuid
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


# Of names that a body does not have so many are told one by one: each is an error that is made.
STRANGERS_MAX = 8


class CommandBody(BaseModel):
    """Base of the bodies of commands, and of what is in them."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _has_few_strangers(cls, sent: object) -> object:
        if isinstance(sent, Mapping) and len(sent) > len(cls.model_fields) + STRANGERS_MAX:
            raise ValueError("it has more names than there are")
        return sent


def at_most(names: int) -> BeforeValidator:
    """Return a bound for a mapping, which is looked at before what is in it: each entry may be an error."""

    def look(sent: object) -> object:
        if isinstance(sent, Mapping) and len(sent) > names:
            raise ValueError(f"it has more than {names} names")
        return sent

    return BeforeValidator(look)


def id_digits(caller: str, key: str | None) -> str:
    """Return 20 digits for a new id: random, or always the same for a caller's idempotency key."""
    if key is None:
        return random_uuid().hex[:20]
    return hashlib.sha256(f"{caller}\0{key}".encode()).hexdigest()[:20]
