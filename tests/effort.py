"""How much is tried: `make test` tries what fits between two commits, `make laws` far more, for hours.

`make test` draws the same examples in each run of a tree, so that a commit is judged by what it changes
and by no chance. `make laws` draws other ones each time: what it did not find today it may find tomorrow.
"""

from __future__ import annotations

import os

LONG = os.environ.get("SALUS_LONG_TESTS") == "1"
SAME_EXAMPLES = not LONG
# Of a law that says no number of its own.
EXAMPLES = 500 if LONG else 25


def tries(short: int, *, long: int) -> int:
    """Return how often to try."""
    return long if LONG else short
