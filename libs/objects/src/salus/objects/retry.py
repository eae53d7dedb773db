"""How often and after which pauses a request to the store is repeated."""

from __future__ import annotations

import random

ATTEMPTS_MAX = 8
BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 2.0


def backoff_s(attempt: int) -> float:
    """Return the pause after an attempt, which are counted from 0."""
    longest: float = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2**attempt)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311  # jitter is not a secret
