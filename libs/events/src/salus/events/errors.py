"""Why a record is refused: stable codes that integrators see in rejections and errors."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """The reasons for which a record is a rejected leaf, in the order in which they are checked."""

    TOMBSTONE = "tombstone"
    TOO_LARGE = "too-large"
    MISSING_SIGNATURE = "missing-signature"
    MALFORMED_SIGNATURE = "malformed-signature"
    UNKNOWN_KEY = "unknown-key"
    KEY_NOT_YET_VALID = "key-not-yet-valid"
    KEY_EXPIRED = "key-expired"
    KEY_REVOKED = "key-revoked"
    BAD_SIGNATURE = "bad-signature"
    MALFORMED_JSON = "malformed-json"
    INVALID_ENVELOPE = "invalid-envelope"
    WRONG_SOURCE = "wrong-source"
    UNKNOWN_TYPE = "unknown-type"
    WRONG_TOPIC = "wrong-topic"
    NOT_OWNER = "not-owner"
    SCHEMA_VIOLATION = "schema-violation"
    WRONG_KEY = "wrong-key"
    DUPLICATE = "duplicate"


class EventError(Exception):
    """Base of all errors of this package."""


class RejectedError(EventError):
    """An event is not acceptable; `reason` is stable, `detail` says where, without any of its values."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
