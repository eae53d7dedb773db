"""One entry of the trail: who did what to whose what, when, why, by which rule, and where it is proven."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Final, Literal

import msgspec


class Activity(StrEnum):
    """What kind of thing happened: FHIR and OCSF go by it, so a new event type needs no new mapping."""

    RECORDED = "recorded"
    STORED = "stored"
    READ = "read"
    READ_REFUSED = "read-refused"
    ERASED = "erased"
    SUBJECT_CREATED = "subject-created"
    LINK_ENDED = "link-ended"
    CONSENT_CREATED = "consent-created"
    CONSENT_ENDED = "consent-ended"
    ACCESS_PROHIBITED = "access-prohibited"
    PROHIBITION_LIFTED = "prohibition-lifted"
    PERMIT_PROPOSED = "permit-proposed"
    PERMIT_GRANTED = "permit-granted"
    PERMIT_WITHDRAWN = "permit-withdrawn"
    PERMIT_USED = "permit-used"
    DECIDED = "decided"
    GLASS_BROKEN = "glass-broken"
    GLASS_REVIEWED = "glass-reviewed"
    ACCESS_UNJUSTIFIED = "access-unjustified"
    REVIEW_OVERDUE = "review-overdue"
    CASE_OPENED = "case-opened"
    CASE_DECIDED = "case-decided"
    RULES_CHANGED = "rules-changed"
    PARTY_CREATED = "party-created"
    MEMBER_SUSPENDED = "member-suspended"
    MEMBER_REINSTATED = "member-reinstated"
    MEMBER_EXPELLED = "member-expelled"
    KEY_ADDED = "key-added"
    KEY_ENDED = "key-ended"
    ROLE_ADDED = "role-added"
    ROLE_ENDED = "role-ended"
    LEDGER_MOVED = "ledger-moved"
    REJECTED = "rejected"
    OTHER = "other"


class Severity(IntEnum):
    """OCSF `severity_id`, the scale that the SOC works with."""

    INFORMATIONAL = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5


Action = Literal["C", "R", "U", "D", "E"]
"""FHIR's CRUDE: create, read, update, delete, execute."""

RightsVerdict = Literal["unentitled", "rights-pending"]
"""What judging rights again says of an event that consent or storage stated, if not that all is well."""

Outcome = Literal["success", "refused", "rejected", "without-effect", "unentitled", "rights-pending"]
"""`refused`: someone was told no. `rejected`: the record itself was not acceptable to the ledger.

`without-effect`: it is on the ledger and changed nothing, by the rule of `salus.events.effect`, or because
the same bytes were accepted before.

`unentitled`: consent or storage did it, and whoever asked had no right to it. `rights-pending`: what would
give the right is not on the ledger, and may be sealed later."""

REPEATED = "repeated"
"""Why an event states nothing: another record, which the broker appended before, has the same bytes."""


VERDICT_WRONG: Final = "verdict-wrong"
"""A row is not what it is sealed as: judged again, it has another verdict."""
ROW_COLUMNS: Final = "row-columns"
"""An accepted row of a type that is not known here lacks the columns that would name it."""
Damage = Literal["verdict-wrong", "row-columns", "identity-ahead", "identity-behind"]
"""What is wrong with what a shard sealed: with a row, or with the identity position of its block."""


# Of a record whose batch cannot be read, or was dated by its sender.
UNDATED = datetime(1970, 1, 1, tzinfo=UTC)


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a leaf stands: on its topic, in its block, in the log (whose leaf is the block's header).

    Hashes are lower-case hex. `header_hash` is both the log's leaf hash of the block header and what the
    next block calls `previous`. `digest` is the RFC 6962 leaf hash of the value. `appended_at` is when the
    broker appended the record, which is in the leaf; `sealed_at` is what the sequencer's clock said.
    """

    topic: str
    partition: int
    offset: int
    shard: int
    height: int
    index: int
    leaf_hash: str
    digest: str
    header_hash: str
    sealed_at: datetime
    appended_at: datetime

    @property
    def dated_at(self) -> datetime:
        """When the record was appended; of one that no broker dated, when its block was sealed."""
        return self.sealed_at if self.appended_at == UNDATED else self.appended_at

    @property
    def order(self) -> tuple[datetime, str, int, int]:
        """Where the record stands among all of the network: of the same bytes, the first one counts."""
        return self.appended_at, self.topic, self.partition, self.offset


class Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an event says, in the words of the trail.

    `actor` is who acted, if not the event's source: of a service's event, who asked for it. `authentication`
    says how they were authenticated, `behalf` for which member they acted, `approver` which second operator
    approved it. `party` is the other party that the fact is about: who was granted, registered or reviewed.
    With a `party_role` it is about those who hold that role there.
    `object_kind` says in a word what `object` is.
    `no_effect` is why it changed nothing, if that is so: a code of `salus.events.effect`, REPEATED, or
    `damage`, which is what is wrong with what the shard sealed. Of a key that was revoked, `doubted_since` is
    from when on what it signed is in doubt.
    """

    activity: Activity
    action: Action
    summary: str
    outcome: Outcome = "success"
    severity: Severity = Severity.INFORMATIONAL
    actor: str | None = None
    party: str | None = None
    object: str | None = None
    object_kind: str | None = None
    patient: str | None = None
    purpose: str | None = None
    decision: str | None = None
    consents: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    policy_set: str | None = None
    privileges: tuple[str, ...] = ()
    break_glass: bool = False
    authentication: str | None = None
    behalf: str | None = None
    approver: str | None = None
    no_effect: str | None = None
    damage: Damage | None = None
    doubted_since: datetime | None = None
    party_role: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether it was done, with a right to it or without."""
        return self.outcome in {"success", "unentitled", "rights-pending"}


_WITHOUT_RIGHT = {
    "unentitled": (Severity.HIGH, "Without a right"),
    "rights-pending": (Severity.MEDIUM, "Without a right that is on the ledger yet"),
}


class TrailEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A leaf of the ledger as a fact: `uid`, its leaf hash, names it for ever and everywhere.

    `type`, `id`, `source` and `subject` are missing when the leaf is a rejected record: its value was not
    kept. `time` is when it happened at the source, or for a rejected record `Place.dated_at`. `keys` are
    those that signed it, its request and its approval: with `appended_at` they say whether it is in doubt.
    """

    place: Place
    status: str
    time: datetime
    facts: Facts
    actor: str | None = None
    member: str | None = None
    type: str | None = None
    id: str | None = None
    source: str | None = None
    subject: str | None = None
    keys: tuple[str, ...] = ()

    @property
    def uid(self) -> str:
        """The leaf hash in hex: the same in every rebuild and every output."""
        return self.place.leaf_hash

    def repeating(self, first: Place) -> TrailEntry:
        """Return the entry as it is shown if the record at `first` stated the same."""
        where = f"{first.topic}/{first.partition}/{first.offset}"
        facts = msgspec.structs.replace(
            self.facts,
            outcome="without-effect",
            severity=Severity.INFORMATIONAL,
            summary=f"Without effect ({REPEATED}, first at {where}): {self.facts.summary}",
            no_effect=REPEATED,
        )
        return msgspec.structs.replace(self, facts=facts)

    def in_damaged_block(self, damage: Damage) -> TrailEntry:
        """Return the entry as it is told if its block names a position that it was not judged by."""
        facts = msgspec.structs.replace(
            self.facts,
            severity=Severity.CRITICAL,
            summary=f"In a damaged block ({damage}): {self.facts.summary}",
            damage=self.facts.damage or damage,
        )
        return msgspec.structs.replace(self, facts=facts)

    def without_right(self, verdict: RightsVerdict, why: str) -> TrailEntry:
        """Return the entry as it is shown if nobody is known to have had a right to what it says."""
        severity, told = _WITHOUT_RIGHT[verdict]
        summary = f"{told} ({why}): {self.facts.summary}"
        facts = msgspec.structs.replace(self.facts, outcome=verdict, severity=severity, summary=summary)
        return msgspec.structs.replace(self, facts=facts)

    @property
    def rejection(self) -> str | None:
        """Why the record is a rejected leaf, if it is one."""
        return self.status.removeprefix("rejected:") if self.status.startswith("rejected:") else None

    @property
    def words(self) -> str:
        """What a free-text search looks through, in lower case: open identifiers and the summary."""
        facts = self.facts
        parts = (
            facts.summary, self.type, self.id, self.source, self.actor, self.member, facts.party,
            facts.object, facts.patient, facts.purpose, facts.decision, *facts.consents, *facts.rules,
            facts.policy_set, facts.behalf, facts.approver, self.status, self.place.leaf_hash,
        )  # fmt: skip
        return " ".join(part for part in parts if part).lower()
