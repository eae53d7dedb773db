"""What each event type means for the trail: a new one gets a function in the module of its context.

Importing a module registers what it describes.
"""

from __future__ import annotations

from salus.audit.domain.meanings import consent, identity, ledger, members, oversight, permits, storage
from salus.audit.domain.meanings.describers import facts_of, short

__all__ = [
    "consent",
    "facts_of",
    "identity",
    "ledger",
    "members",
    "oversight",
    "permits",
    "short",
    "storage",
]
