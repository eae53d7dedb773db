"""A decision of consent, as the service that it is meant for knows it. It is pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from salus.events.fields import Purpose


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision of consent, read from a token whose signature was verified.

    `roles` are those that the principal held when it was decided.
    """

    id: str
    principal: str
    action: str
    object: str
    patient: str
    purpose: Purpose
    epoch: int
    break_glass: bool
    roles: frozenset[str]
    expires: datetime
