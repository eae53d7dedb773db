"""What audit keeps of served requests is compared with what follows from the ledger, byte by byte."""

from __future__ import annotations

from hashlib import sha256
from typing import get_args

import msgspec

from salus.archive import served_requests

# The form that the newest migration which empties the trail was made for: 0018.
FORM = "b0f46995f5070e718c52f92791458018aa1af6995e1ea64c229bec722ceb746e"


def form_of(kinds: tuple[type, ...]) -> str:
    """Return the digest of the names, order and types of all fields."""
    fields = [
        (kind.__name__, [(one.name, str(one.type)) for one in msgspec.structs.fields(kind)]) for kind in kinds
    ]
    return sha256(repr(fields).encode()).hexdigest()


def test_who_changes_the_form_of_what_is_kept_adds_a_migration_that_empties_the_trail() -> None:
    # Case "after an update audit said that somebody had changed its database": each row had one field less.
    assert form_of(get_args(served_requests.AnyServed)) == FORM, (
        "add such a migration, then write the new form here"
    )
