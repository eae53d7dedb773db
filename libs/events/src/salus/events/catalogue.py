"""Every event type of the network, once: what is true when it was published, who owns it, where it goes.

A new event type is a new class here, decorated with `event`. JSON Schemas, the AsyncAPI document and the
documentation are generated from these classes (`python -m salus.events.schemas`). A released class may
gain an optional field and nothing else; a new meaning is a new version.
"""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from typing import Annotated, Literal
from urllib.parse import unquote

import msgspec

from salus.events.fields import (
    Count,
    Detail,
    Did,
    KeyId,
    Moment,
    Multibase,
    Pseudonym,
    Sealed,
    Sha256,
    Text,
    Words,
)
from salus.events.registry import (
    EventData,
    EventType,
    Owner,
    Retention,
    all_types,
    event,
    type_named,
    type_of,
)
from salus.events.requests import Request, RequestedData

# What is re-exported; the classes below are public as they stand.
__all__ = [
    "Count",
    "Detail",
    "Did",
    "EventData",
    "EventType",
    "KeyId",
    "Moment",
    "Multibase",
    "Owner",
    "Pseudonym",
    "Request",
    "RequestedData",
    "Retention",
    "Sealed",
    "Sha256",
    "Text",
    "Words",
    "all_types",
    "event",
    "type_named",
    "type_of",
]

# --- identity -------------------------------------------------------------------------------------

_identity_event = partial(
    event, owner=Owner.IDENTITY, retention=Retention.NETWORK, subject_field="did", changes=True
)


class PublicKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A verification key: its DID URL, its multibase form and when it may sign."""

    id: KeyId
    multibase: Multibase
    valid_from: Moment
    valid_until: Moment | None = None


def _key_claims(key: PublicKey) -> tuple[str, str]:
    return f"key-id:{key.id}", f"key:{key.multibase}"


def _claims_of_party(data: PartyRegistered) -> tuple[str, ...]:
    # In a URL two DIDs that are equal once decoded are easily taken for one another: one of them registers.
    keys = (claim for key in data.keys for claim in _key_claims(key))
    # Hashed, for what is decoded may be text that no database takes, as a NUL.
    return (f"party:{sha256(unquote(data.did).encode()).hexdigest()}", *keys)


def _claims_of_key(data: KeyAdded) -> tuple[str, ...]:
    return _key_claims(data.key)


PartyKind = Literal["member", "service", "person", "device"]
Role = Literal[
    "identity",
    "consent",
    "storage",
    "sequencer",
    "anchoring",
    "audit",
    "operator",
    "clinician",
    "researcher",
    "privacy-officer",
    "soc-analyst",
    "patient",
]


@_identity_event("salus.identity.party-registered.v1", claims=_claims_of_party)
class PartyRegistered(RequestedData):
    """A member, service, person or device belongs to the network and may sign with these keys.

    `name` is given for organisations and services only; people stay DIDs. `member` is the organisation
    that a person, device or service acts for.
    """

    did: Did
    kind: PartyKind
    keys: Annotated[tuple[PublicKey, ...], msgspec.Meta(min_length=1, max_length=16)]
    roles: Annotated[tuple[Role, ...], msgspec.Meta(max_length=16)] = ()
    member: Did | None = None
    name: Text | None = None


@_identity_event("salus.identity.key-added.v1", claims=_claims_of_key)
class KeyAdded(RequestedData):
    """A party may also sign with this key."""

    did: Did
    key: PublicKey


@_identity_event("salus.identity.key-revoked.v1")
class KeyRevoked(RequestedData):
    """A key no longer signs for its party; what it signs from now on is refused."""

    did: Did
    key_id: KeyId
    reason: Literal["rotated", "compromised", "left", "unspecified"]


@_identity_event("salus.identity.role-granted.v1")
class RoleGranted(RequestedData):
    """A party holds this role."""

    did: Did
    role: Role


@_identity_event("salus.identity.role-withdrawn.v1")
class RoleWithdrawn(RequestedData):
    """A party no longer holds this role."""

    did: Did
    role: Role


class AssignedTopic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Partitions of one input topic."""

    topic: Text
    partitions: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1, max_length=10_000)]


class AssignedShard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one shard seals; no topics: nothing any more."""

    id: Count
    topics: Annotated[tuple[AssignedTopic, ...], msgspec.Meta(max_length=1024)]


class AddedShard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A shard that is new: its id, its origin, and the C2SP verifier key that its headers begin with."""

    id: Count
    origin: Text
    verifier_key: Text


@event(
    "salus.identity.shards-assigned.v1",
    owner=Owner.IDENTITY,
    retention=Retention.NETWORK,
    subject_field="network",
    changes=True,
)
class ShardsAssigned(RequestedData):
    """From here on these shards seal these partitions; a partition that is not named stays where it is.

    `network` is the network's origin. `epoch` counts the assignments; the one of network.json is 0.
    """

    network: Text
    epoch: Count
    shards: Annotated[tuple[AssignedShard, ...], msgspec.Meta(min_length=1, max_length=1024)]
    added: Annotated[tuple[AddedShard, ...], msgspec.Meta(max_length=1024)] = ()


# --- consent --------------------------------------------------------------------------------------

_consent_event = partial(event, owner=Owner.CONSENT, retention=Retention.ACCESS, subject_field="patient")

Action = Literal["read", "write"]
Purpose = Literal["TREAT", "ETREAT", "HPAYMT", "HOPERAT", "HRESCH", "PATRQT", "PUBHLTH"]
"""HL7 v3 PurposeOfUse codes."""


@_consent_event("salus.consent.patient-linked.v1", changes=True)
class PatientLinked(RequestedData):
    """This party is the patient: while it holds the role patient, it grants, takes back and reads as she."""

    patient: Pseudonym
    did: Did


@_consent_event("salus.consent.patient-unlinked.v1", changes=True)
class PatientUnlinked(RequestedData):
    """This party is not the patient any more; decision tokens of an earlier epoch are void."""

    patient: Pseudonym
    did: Did
    epoch: Count


@_consent_event(
    "salus.consent.consent-granted.v1", changes=True, claims=lambda data: (f"consent:{data.consent}",)
)
class ConsentGranted(RequestedData):
    """A patient lets someone act on her data for these purposes during this period.

    `displaces` is one of her consents that is over: its place in the service's list was needed.
    """

    consent: Text
    patient: Pseudonym
    grantee: Did
    actions: Annotated[tuple[Action, ...], msgspec.Meta(min_length=1, max_length=8)]
    purposes: Annotated[tuple[Purpose, ...], msgspec.Meta(min_length=1, max_length=8)]
    valid_from: Moment
    valid_until: Moment
    epoch: Count
    displaces: Text | None = None


@_consent_event("salus.consent.consent-revoked.v1", changes=True)
class ConsentRevoked(RequestedData):
    """A patient took a consent back; decision tokens of an earlier epoch are void."""

    consent: Text
    patient: Pseudonym
    epoch: Count


EmergencyReason = Literal["life-threatening", "unable-to-consent", "public-health", "other"]


class StatePosition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to where a partition had been folded: `end` is the offset after the last record."""

    topic: Text
    partition: Count
    end: Count


@_consent_event("salus.consent.access-decided.v1")
class AccessDecided(RequestedData):
    """Someone asked whether an access is allowed, and this was the answer, with what it rests on.

    `inputs` commits to the exact request and entities. They follow from the records before
    `state_positions` of the topics of consent, storage and identity, at the time `decided_at`; a partition
    that is not named was empty. `consents` are those that covered an access that was allowed without
    breaking the glass, at most 64 of them. `emergency` is the reason that the caller gave.
    """

    decision: Text
    principal: Did
    action: Action
    object: Text
    patient: Pseudonym
    purpose: Purpose
    allowed: bool
    reasons: Words
    policy_set: Sha256
    inputs: Sha256
    decided_at: Moment
    state_positions: Annotated[tuple[StatePosition, ...], msgspec.Meta(max_length=1024)]
    epoch: Count
    valid_until: Moment
    obligations: Words = ()
    consents: Annotated[tuple[Text, ...], msgspec.Meta(max_length=64)] = ()
    emergency: EmergencyReason | None = None
    break_glass: bool = False


@_consent_event(
    "salus.consent.glass-broken.v1",
    changes=True,
    claims=lambda data: (f"glass-break:{data.decision}",),
    accompanies=True,
)
class GlassBroken(RequestedData):
    """Someone used emergency access; the patient and the privacy officer are told and it awaits review."""

    decision: Text
    principal: Did
    object: Text
    patient: Pseudonym
    reason: EmergencyReason
    valid_until: Moment
    statement: Sealed | None = None


@_consent_event(
    "salus.consent.glass-break-reviewed.v1", changes=True, claims=lambda data: (f"review:{data.decision}",)
)
class GlassBreakReviewed(RequestedData):
    """A privacy officer judged an emergency access."""

    decision: Text
    patient: Pseudonym
    reviewer: Did
    outcome: Literal["justified", "unjustified"]


@_consent_event(
    "salus.consent.policy-set-adopted.v1", retention=Retention.NETWORK, subject_field=None, changes=True
)
class PolicySetAdopted(RequestedData):
    """Decisions from here on follow this policy set and this version of the contract's code."""

    policy_set: Sha256
    contract: Sha256


# --- storage --------------------------------------------------------------------------------------

_storage_event = partial(event, owner=Owner.STORAGE, subject_field="patient")


@_storage_event(
    "salus.storage.subject-registered.v1",
    retention=Retention.RECORD,
    changes=True,
    claims=lambda data: (f"subject:{data.patient}",),
)
class SubjectRegistered(RequestedData):
    """A patient has a key pair; anyone may seal to the public half."""

    patient: Pseudonym
    steward: Did
    suite: Text
    key: Text
    public_key: Annotated[str, msgspec.Meta(max_length=4096)]


@_storage_event(
    "salus.storage.object-stored.v1",
    retention=Retention.RECORD,
    changes=True,
    claims=lambda data: (f"object:{data.patient}/{data.object}",),
)
class ObjectStored(RequestedData):
    """An encrypted object is in the object store; the salted commitment proves what it holds.

    `commitment` is SHA-256(salt || SHA-256(plaintext)); the salt is sealed to the patient's key.
    """

    object: Text
    patient: Pseudonym
    steward: Did
    media_type: Text
    plaintext_bytes: Count
    ciphertext_bytes: Count
    ciphertext_sha256: Sha256
    commitment: Sha256
    salt: Sealed


@_storage_event("salus.storage.object-read.v1", retention=Retention.ACCESS)
class ObjectRead(RequestedData):
    """Someone received an object's content under this decision."""

    object: Text
    patient: Pseudonym
    reader: Did
    decision: Text
    purpose: Purpose
    break_glass: bool = False


@_storage_event("salus.storage.read-refused.v1", retention=Retention.ACCESS)
class ReadRefused(RequestedData):
    """Someone was refused an object's content, for this reason."""

    object: Text
    patient: Pseudonym
    reader: Did
    reason: Text


@_storage_event("salus.storage.read-broken-off.v1", retention=Retention.ACCESS, accompanies=True)
class ReadBrokenOff(RequestedData):
    """A read that was begun under this decision ended before all of the content was sent, for this reason."""

    object: Text
    patient: Pseudonym
    reader: Did
    decision: Text
    reason: Text
    sent_bytes: Count


@_storage_event("salus.storage.sealed-opened.v1", retention=Retention.ACCESS)
class SealedOpened(RequestedData):
    """Someone received what is sealed in this field of an event, under this decision.

    `source` and `event` are the event's source and id. `digest` is the RFC 6962 leaf hash of the bytes that
    were opened, so that anybody can compare them with the ledger.
    """

    patient: Pseudonym
    source: Did
    event: Text
    field: Text
    digest: Sha256
    reader: Did
    decision: Text
    purpose: Purpose
    break_glass: bool = False


@_storage_event("salus.storage.subject-key-destroyed.v1", retention=Retention.NETWORK, changes=True)
class SubjectKeyDestroyed(RequestedData):
    """A patient's key is gone: every object, sealed field and commitment of hers is unreadable for ever."""

    patient: Pseudonym
    key: Text
    requested_by: Did
    basis: Literal["gdpr-art-17", "retention-ended", "patient-request", "court-order"]
    objects: Count


# --- what members publish -------------------------------------------------------------------------

_member_event = partial(event, owner=Owner.MEMBER, retention=Retention.RECORD, subject_field="patient")


@_member_event("salus.clinical.encounter-recorded.v1")
class EncounterRecorded(EventData):
    """A patient was seen; what happened is sealed."""

    patient: Pseudonym
    encounter: Text
    content: Sealed
    object: Text | None = None


@_member_event("salus.clinical.observation-recorded.v1")
class ObservationRecorded(EventData):
    """Something was measured or found; what and how much is sealed."""

    patient: Pseudonym
    observation: Text
    content: Sealed
    object: Text | None = None


@_member_event("salus.clinical.document-registered.v1")
class DocumentRegistered(EventData):
    """A record of a patient is kept off-chain under this object id."""

    patient: Pseudonym
    object: Text
    media_type: Text


@_member_event("salus.lab.result-released.v1")
class ResultReleased(EventData):
    """A laboratory stands by a result; the result is sealed."""

    patient: Pseudonym
    report: Text
    content: Sealed
    object: Text | None = None


@_member_event("salus.pharma.medication-dispensed.v1")
class MedicationDispensed(EventData):
    """A pharmacy handed out a medication; which and how much is sealed."""

    patient: Pseudonym
    dispense: Text
    content: Sealed


# --- the network itself ----------------------------------------------------------------------------

_network_event = partial(event, retention=Retention.NETWORK)


def _digest_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


class RestoredPartition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A partition of an input topic and the first offset after what the ledger had of it."""

    topic: Text
    partition: Count
    next: Count


@_network_event("salus.network.topics-restored.v1", owner=Owner.OPERATOR)
class TopicsRestored(EventData):
    """Kafka was lost and its input topics hold again what the ledger had of them.

    A record that was acknowledged before at `next` or beyond is not on the ledger: its offset is another
    record's. `log_size` and `log_root` are those of the checkpoint that the operator went by.
    """

    log_size: Count
    log_root: Sha256
    partitions: Annotated[tuple[RestoredPartition, ...], msgspec.Meta(max_length=10_000)]


@_network_event("salus.network.damage-found.v1", owner=Owner.ANCHORING)
class DamageFound(EventData):
    """Something in the archive is missing or not as it was signed; `salus ledger fsck` says the same.

    `code` is one of the codes of `fsck`, `key` the object in `bucket`. Of `more-findings`, `key` is the code
    that so many more objects have than are told one by one; `detail` has their number.
    """

    code: Text
    bucket: Text
    key: Text
    detail: Detail
    shard: Count | None = None
    height: Count | None = None
    row: Count | None = None


SigningRole = Literal["sequencer", "log", "witness"]
NoteKey = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
"""A C2SP verifier key; one of ML-DSA-44 has some 1,800 characters."""


@_network_event(
    "salus.network.key-rotated.v1",
    owner=Owner.OPERATOR,
    subject_field="name",
    claims=lambda data: (f"rotated:{_digest_of(data.verifier_key)}",),
)
class KeyRotated(EventData):
    """A shard's sequencer, the log or a witness also signs with this key, from this position on.

    `name` is the key's name; `first` a height of the shard, or a size of the log. Until the key before is
    retired both may sign.
    """

    name: Text
    role: SigningRole
    verifier_key: NoteKey
    first: Count


@_network_event(
    "salus.network.key-retired.v1",
    owner=Owner.OPERATOR,
    subject_field="name",
    claims=lambda data: (f"retired:{_digest_of(data.verifier_key)}",),
)
class KeyRetired(EventData):
    """From this position on this key signs no longer; what it signed before stays as it was.

    `end` is the first height of the shard, or size of the log, at which its signature counts for nothing.
    """

    name: Text
    role: SigningRole
    verifier_key: NoteKey
    end: Count
    reason: Literal["rotated", "compromised", "lost"]


# --- ledger announcements -------------------------------------------------------------------------


@event(
    "salus.ledger.block-sealed.v1",
    owner=Owner.SEQUENCER,
    retention=Retention.NETWORK,
    topic="salus.ledger.blocks",
)
class BlockSealed(EventData):
    """A block's header exists in the archive; consumers are idempotent by shard and height."""

    shard: Count
    height: Count
    header: Text
    body: Text
    leaves: Count
    accepted: Count


@event(
    "salus.ledger.checkpoint-published.v1",
    owner=Owner.ANCHORING,
    retention=Retention.NETWORK,
    topic="salus.ledger.checkpoints",
)
class CheckpointPublished(EventData):
    """The log has a new checkpoint; `checkpoint` is the whole signed note."""

    size: Count
    checkpoint: Annotated[str, msgspec.Meta(max_length=65536)]


@event(
    "salus.ledger.record-rejected.v1",
    owner=Owner.SEQUENCER,
    retention=Retention.NETWORK,
    topic="salus.ledger.rejections",
)
class RecordRejected(EventData):
    """A record is a leaf of the ledger but was not accepted; its value was not kept.

    `key` is the key id in its signature header, if that is well-formed: anybody can write one. `source` and
    `id` are there only if the signature is valid, and the id only if it is a token.
    """

    topic: Text
    partition: Count
    offset: Count
    reason: Text
    detail: Detail
    digest: Sha256
    shard: Count
    height: Count
    key: KeyId | None = None
    source: Did | None = None
    id: Text | None = None


def input_topics() -> list[str]:
    """Return the topics that the sequencer turns into blocks: all but its own announcements."""
    return sorted({t.topic for t in all_types() if not t.topic.startswith("salus.ledger.")})
