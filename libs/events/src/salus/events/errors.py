"""Why a record is refused: stable codes that integrators see in rejections and errors."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Reason(StrEnum):
    """The reasons for which a record is a rejected leaf, in the order in which they are checked."""

    UNREADABLE = "unreadable"
    TRANSACTIONAL = "transactional"
    CREATE_TIME = "create-time"
    TOMBSTONE = "tombstone"
    TOO_LARGE = "too-large"
    MISSING_SIGNATURE = "missing-signature"
    MALFORMED_SIGNATURE = "malformed-signature"
    UNKNOWN_KEY = "unknown-key"
    KEY_REVOKED = "key-revoked"
    KEY_NOT_YET_VALID = "key-not-yet-valid"
    KEY_EXPIRED = "key-expired"
    MEMBER_SUSPENDED = "member-suspended"
    MEMBER_EXPELLED = "member-expelled"
    BAD_SIGNATURE = "bad-signature"
    MALFORMED_JSON = "malformed-json"
    INVALID_ENVELOPE = "invalid-envelope"
    UNKNOWN_TYPE = "unknown-type"
    WRONG_SOURCE = "wrong-source"
    WRONG_TOPIC = "wrong-topic"
    NOT_OWNER = "not-owner"
    WRONG_KEY = "wrong-key"
    SCHEMA_VIOLATION = "schema-violation"
    INVALID_REQUEST = "invalid-request"
    DUPLICATE = "duplicate"

    @property
    def meaning(self) -> str:
        """One sentence for the integrator who meets it."""
        return _MEANINGS[self]


SIGNATURE_REASONS = frozenset(
    {
        Reason.MISSING_SIGNATURE,
        Reason.MALFORMED_SIGNATURE,
        Reason.UNKNOWN_KEY,
        Reason.KEY_REVOKED,
        Reason.KEY_NOT_YET_VALID,
        Reason.KEY_EXPIRED,
        Reason.MEMBER_SUSPENDED,
        Reason.MEMBER_EXPELLED,
        Reason.BAD_SIGNATURE,
    }
)
"""The reasons that are about who signed; whatever the value says is looked at after them."""

_MEANINGS = {
    Reason.UNREADABLE: "The records of a batch cannot be read; all of them are one leaf together.",
    Reason.TRANSACTIONAL: "The record was sent in a Kafka transaction, which the ledger takes from nobody.",
    Reason.CREATE_TIME: "The record's time is its sender's (Kafka's CreateTime), not the broker's.",
    Reason.TOMBSTONE: "The record has no value; an append-only ledger has nothing to delete.",
    Reason.TOO_LARGE: "The value is larger than an event may be; large data belongs off-chain.",
    Reason.MISSING_SIGNATURE: "The record has no salus-signature header.",
    Reason.MALFORMED_SIGNATURE: "The salus-signature header is not as its grammar says.",
    Reason.UNKNOWN_KEY: "Nobody had registered the verification method before the record was appended.",
    Reason.KEY_REVOKED: "The key was revoked before the record was appended.",
    Reason.KEY_NOT_YET_VALID: "The record was appended before the key's validity began.",
    Reason.KEY_EXPIRED: "The record was appended after the key's validity ended.",
    Reason.MEMBER_SUSPENDED: "The member that the signer is, or acts for, was suspended then.",
    Reason.MEMBER_EXPELLED: "The member that the signer is, or acts for, was expelled before.",
    Reason.BAD_SIGNATURE: "The signature is not valid over this value.",
    Reason.MALFORMED_JSON: "Not JSON in UTF-8, a name given twice, nested too deeply, or a number too large.",
    Reason.INVALID_ENVELOPE: "The value is not a CloudEvent with exactly the attributes that Salus takes.",
    Reason.UNKNOWN_TYPE: "The catalogue has no such event type.",
    Reason.WRONG_SOURCE: "The source is not the DID that the signing key belongs to.",
    Reason.WRONG_TOPIC: "The type belongs on another topic.",
    Reason.NOT_OWNER: "The signer may not state facts of this type.",
    Reason.WRONG_KEY: "The Kafka key is not the event's subject.",
    Reason.SCHEMA_VIOLATION: "The data is not as the schema of its type says, or is of someone else.",
    Reason.INVALID_REQUEST: "Who is said to have asked for it did not sign such a request.",
    Reason.DUPLICATE: "An event with this source and id is on the ledger already.",
}


RULE_FAULTS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    msgspec.MsgspecError,
)
"""What a rule raises that did not think of a text. Who judges catches it: for whom a rule fails, it fails for
all, and nobody ends everybody by a record. What depends on the machine, as MemoryError, is none of them."""


class EventError(Exception):
    """Base of all errors of this package."""


class RejectedError(EventError):
    """An event is not acceptable; `reason` is stable, `detail` says where, without any of its values."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
