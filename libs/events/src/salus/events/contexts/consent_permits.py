"""Permits for research on one data set, as the consent service states them."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Annotated, Literal

import msgspec

from salus.events import permit_rights
from salus.events.contexts.consent import CONSENT, CONTEXT
from salus.events.event_types import Retention
from salus.events.fields import Did, Moment, Pseudonym, Sha256, microseconds
from salus.events.names import Names
from salus.events.requests import RequestedData
from salus.events.signed_request import Asked, Body
from salus.events.state_positions import StatePositions

CONTEXT.role(
    "ethics-reviewer",
    "person",
    "approves research on data sets, and withdraws permits; counts only with who acts for no member",
)
_event = partial(CONTEXT.event, owner=CONSENT, retention=Retention.ACCESS, subject_field="permit")

PERMIT_ID_PATTERN = r"^permit-[0-9a-f]{20}\Z"
# Everybody reads the ledger, so a data set's name has room for no sentence, and says nothing of a person.
DATA_SET_PATTERN = r"^[a-z0-9][a-z0-9-]*\Z"
DATA_SET_CHARS_MAX = 64
USES_MAX = 10_000
"""So often a permit is used at most, whatever it says."""

PermitId = Annotated[str, msgspec.Meta(pattern=PERMIT_ID_PATTERN, max_length=27)]
UseId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{20}\Z", max_length=20)]
DataSet = Annotated[str, msgspec.Meta(pattern=DATA_SET_PATTERN, min_length=1, max_length=DATA_SET_CHARS_MAX)]
ResearchPurpose = Literal["HRESCH", "PUBHLTH"]
"""The purposes of use (HL7 v3) for which a permit may be given."""


@_event(
    "salus.consent.permit-proposed.v1",
    changes=True,
    claims=lambda data: (f"permit:{data.permit}",),
    asker=lambda data, party: party.kind == "member" and party.did == data.proposer,
)
class PermitProposed(RequestedData):
    """A member asks that its researcher may use a data set of a member; nothing is permitted yet.

    `data_set` is a name that `owner` gave. What is approved is named by the digest of all these terms, which
    never change.
    """

    permit: PermitId
    owner: Did
    data_set: DataSet
    proposer: Did
    recipient: Did
    purpose: ResearchPurpose
    valid_from: Moment
    valid_until: Moment
    uses_max: Annotated[int, msgspec.Meta(ge=1, le=USES_MAX)]


@_event(
    "salus.consent.permit-granted.v1", changes=True, asker=lambda _, party: permit_rights.is_reviewer(party)
)
class PermitGranted(RequestedData):
    """An ethics reviewer approved the terms of this digest: they hold for the period that they name."""

    permit: PermitId
    terms: Sha256


PermitGround = Literal["not-needed", "not-ethical", "misused", "data-withdrawn", "other"]


@_event("salus.consent.permit-withdrawn.v1", changes=True)
class PermitWithdrawn(RequestedData):
    """A permit, or what was proposed, permits nothing any more, and `ground` says why."""

    permit: PermitId
    ground: PermitGround


@_event(
    "salus.consent.permit-used.v1",
    changes=True,
    claims=lambda data: (f"permit-use:{data.use}",),
    asker=lambda _, party: permit_rights.is_researcher_of(party, party.member),
)
class PermitUsed(RequestedData):
    """The recipient was allowed to use the data set once, and that counts: `number` of its uses.

    It follows from the permit's events before it, and from the records before `state_positions` of every
    partition of the topics of consent, storage and identity. `patient` is whom the question named, if it did.
    """

    permit: PermitId
    use: UseId
    owner: Did
    data_set: DataSet
    purpose: ResearchPurpose
    principal: Did
    number: Annotated[int, msgspec.Meta(ge=1, le=USES_MAX)]
    used_at: Moment
    state_positions: StatePositions
    patient: Pseudonym | None = None


@_event("salus.consent.permit-use-denied.v1")
class PermitUseDenied(RequestedData):
    """Somebody asked to use a data set by a permit, and was told no; it counts as no use."""

    permit: PermitId
    owner: Did
    data_set: DataSet
    purpose: ResearchPurpose
    principal: Did
    reasons: Names
    decided_at: Moment
    state_positions: StatePositions
    patient: Pseudonym | None = None


class Terms(msgspec.Struct, frozen=True):
    """What a permit allows, in the order in which its digest takes it."""

    owner: str
    data_set: str
    proposer: str
    recipient: str
    purpose: str
    valid_from: datetime
    valid_until: datetime
    uses_max: int

    @property
    def digest(self) -> str:
        """The SHA-256, in hex, that an approval names: what was read is what is approved."""
        moments = microseconds(self.valid_from), microseconds(self.valid_until)
        parts = (self.owner, self.data_set, self.proposer, self.recipient, self.purpose, *moments)
        return sha256(msgspec.json.encode(["salus.health/permit/v1", *parts, self.uses_max])).hexdigest()


# --- which request asks for which event -------------------------------------------------------------

_BODY_BYTES_MAX = 2 * 1024
CONTEXT.form("POST", "permits", body_bytes_max=_BODY_BYTES_MAX)
for _verb in ("approve", "withdraw", "uses"):
    CONTEXT.form("POST", "permits", None, _verb, body_bytes_max=_BODY_BYTES_MAX)


class _Proposal(Body):
    owner: str
    data_set: str
    recipient: str
    purpose: str
    valid_until: datetime
    uses_max: int
    valid_from: datetime | None = None


class _Approval(Body):
    terms: str


class _Withdrawal(Body):
    ground: str


class _Use(Body):
    owner: str
    data_set: str
    purpose: str
    patient: str | None = None


@CONTEXT.asked(PermitProposed)
def _proposes(asked: Asked, data: PermitProposed) -> bool:
    body = asked.read(_Proposal)
    return (
        asked.is_("POST", "permits")
        and body is not None
        and (body.owner, body.data_set, body.recipient) == (data.owner, data.data_set, data.recipient)
        and (body.purpose, body.valid_until, body.uses_max) == (data.purpose, data.valid_until, data.uses_max)
        and body.valid_from in (None, data.valid_from)
        and data.request.by == data.proposer
    )


@CONTEXT.asked(PermitGranted)
def _approves(asked: Asked, data: PermitGranted) -> bool:
    body = asked.read(_Approval)
    return asked.is_("POST", "permits", data.permit, "approve") and body == _Approval(data.terms)


@CONTEXT.asked(PermitWithdrawn)
def _withdraws(asked: Asked, data: PermitWithdrawn) -> bool:
    body = asked.read(_Withdrawal)
    return asked.is_("POST", "permits", data.permit, "withdraw") and body == _Withdrawal(data.ground)


@CONTEXT.asked(PermitUsed, PermitUseDenied)
def _uses(asked: Asked, data: PermitUsed | PermitUseDenied) -> bool:
    return (
        asked.is_("POST", "permits", data.permit, "uses")
        and asked.read(_Use) == _Use(data.owner, data.data_set, data.purpose, data.patient)
        and data.request.by == data.principal
    )
