"""What counts as JSON in an event: what the one strict reader of `salus.ledger.json_reader` takes.

With less, two readers could see two different events under one signature.
"""

from __future__ import annotations

from salus.events.errors import Reason, RejectedError
from salus.ledger.json_reader import JsonError, read_json


def require_well_formed(value: bytes) -> None:
    """Raise RejectedError (MALFORMED_JSON) unless the whole value is JSON as `read_json` says."""
    try:
        read_json(value)
    except JsonError as error:
        # Without the place, which is made of what was sent.
        raise RejectedError(Reason.MALFORMED_JSON, error.why) from None
