"""How much is tried: `make test` tries what fits between two commits, `make laws` far more, for hours.

What a law did not find today it may find tomorrow: each run draws other examples.
"""

from __future__ import annotations

import os

LONG = os.environ.get("SALUS_LONG_TESTS") == "1"
# Of a law that says no number of its own.
EXAMPLES = 500 if LONG else 25


def tries(short: int, *, long: int) -> int:
    """Return how often to try."""
    return long if LONG else short
