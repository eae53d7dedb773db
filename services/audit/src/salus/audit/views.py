"""What the API shows of an entry."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pydantic import BaseModel, Field

from salus.audit.domain.entry import TrailEntry
from salus.audit.domain.network import Surroundings


class LedgerPlace(BaseModel):
    """Where the fact stands on the ledger; hashes are hex."""

    topic: str
    partition: int
    offset: int
    shard: int
    height: int
    index: int
    leaf_hash: str
    digest: str = Field(description="RFC 6962 leaf hash of the event's bytes.")
    block_header_hash: str = Field(description="Leaf hash of the block's header in the log.")
    sealed_at: datetime


class EntryView(BaseModel):
    """One fact: who did what to whose what, when, why, by which rule, and where it is proven."""

    uid: str = Field(description="The leaf hash: names the entry for ever.")
    time: datetime = Field(description="When it happened, as its author states.")
    appended: datetime = Field(description="When the broker appended it: no author chooses this time.")
    sealed: datetime = Field(description="When it was sealed, by the sequencer's clock.")
    actor: str | None = Field(description="DID; none if the ledger could not prove who sent a record.")
    member: str | None = Field(description="DID of the organisation that the actor is or acts for.")
    approver: str | None = Field(description="DID of who approved it, where one operator alone may not ask.")
    action: str = Field(description="C, R, U, D or E, as in FHIR.")
    activity: str
    outcome: str = Field(
        description="success, refused, rejected, without-effect; unentitled or rights-pending: it was "
        "done, and nobody is known to have had a right to it."
    )
    severity: int = Field(description="OCSF severity_id: 1 informational to 5 critical.")
    summary: str
    type: str | None
    id: str | None
    source: str | None
    subject: str | None
    status: str
    patient: str | None
    object: str | None
    object_kind: str | None
    party: str | None
    party_role: str | None
    purpose: str | None
    decision: str | None
    consents: list[str]
    rules: list[str]
    policy_set: str | None
    break_glass: bool
    keys: list[str] = Field(description="The keys that signed it, its request and its approval.")
    in_doubt: list[str] = Field(
        description="Those of `keys` that were in other hands by then, as was said when they were revoked."
    )
    ledger: LedgerPlace
    receipt: str = Field(description="Where the receipt is served.")


class Page(BaseModel):
    """Entries, the newest first; `next` is the cursor of the page after this one."""

    entries: list[EntryView]
    next: str | None


class Disclosure(BaseModel):
    """One time that a patient's object was given to someone."""

    time: datetime
    sealed: datetime
    recipient: str | None
    member: str | None
    object: str | None
    purpose: str | None
    decision: str | None
    break_glass: bool
    entitled: bool = Field(description="False if nobody is known to have had a right to it.")
    accountable: bool = Field(
        description="Whether 45 CFR 164.528 wants it in an accounting: not for treatment, payment, "
        "operations or the patient's own request."
    )
    receipt: str


class Disclosures(BaseModel):
    """An accounting of disclosures of one patient's objects, oldest first."""

    patient: str
    disclosures: list[Disclosure]
    next: str | None


# 45 CFR 164.528(a)(1)(i)-(ii): treatment, payment, operations and the individual's own access are exempt.
_EXEMPT = frozenset({"TREAT", "ETREAT", "HPAYMT", "HOPERAT", "PATRQT"})


def view_of(entry: TrailEntry, around: Surroundings, *, in_doubt: Iterable[str] = ()) -> EntryView:
    """Return what the API shows; `in_doubt` are those of the entry's keys that were in other hands."""
    facts, place = entry.facts, entry.place
    return EntryView(
        uid=entry.uid,
        time=entry.time,
        appended=place.appended_at,
        sealed=place.sealed_at,
        actor=entry.actor,
        member=entry.member,
        approver=facts.approver,
        action=facts.action,
        activity=facts.activity.value,
        outcome=facts.outcome,
        severity=int(facts.severity),
        summary=facts.summary,
        type=entry.type,
        id=entry.id,
        source=entry.source,
        subject=entry.subject,
        status=entry.status,
        patient=facts.patient,
        object=facts.object,
        object_kind=facts.object_kind,
        party=facts.party,
        party_role=facts.party_role,
        purpose=facts.purpose,
        decision=facts.decision,
        consents=list(facts.consents),
        rules=list(facts.rules),
        policy_set=facts.policy_set,
        break_glass=facts.break_glass,
        keys=list(entry.keys),
        in_doubt=list(in_doubt),
        ledger=LedgerPlace(
            topic=place.topic,
            partition=place.partition,
            offset=place.offset,
            shard=place.shard,
            height=place.height,
            index=place.index,
            leaf_hash=place.leaf_hash,
            digest=place.digest,
            block_header_hash=place.header_hash,
            sealed_at=place.sealed_at,
        ),
        receipt=around.receipt_url(place),
    )


def disclosure_of(entry: TrailEntry, around: Surroundings) -> Disclosure:
    """Return a read as a line of an accounting."""
    facts = entry.facts
    return Disclosure(
        time=entry.time,
        sealed=entry.place.sealed_at,
        recipient=entry.actor,
        member=entry.member,
        object=facts.object,
        purpose=facts.purpose,
        decision=facts.decision,
        break_glass=facts.break_glass,
        entitled=facts.outcome == "success",
        accountable=facts.purpose not in _EXEMPT,
        receipt=around.receipt_url(entry.place),
    )
