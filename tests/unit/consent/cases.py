"""A case as tests have it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from tests.asking import UNASKED

from salus.events.contexts.consent_oversight import CaseOpened

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"
OPENED = CaseOpened(
    case="k",
    principal="did:web:h.example:c",
    action="read",
    object="o",
    patient=PATIENT,
    purpose="TREAT",
    opened_at=NOW,
    due=NOW + timedelta(hours=72),
    steward="did:web:h.example",
    request=UNASKED,
)


def opened(**changes: Any) -> CaseOpened:
    """Return that a case was opened, with these changes."""
    return msgspec.structs.replace(OPENED, **changes)
