"""What judging rights again finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LackOfRight:
    """Why somebody had no right; `missing` is the topic that what gives it is not on."""

    why: str
    missing: str | None = None
