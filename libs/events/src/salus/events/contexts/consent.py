"""Consents and access decisions: what the consent service states."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache, partial
from hashlib import sha256
from typing import Annotated, Literal

import msgspec

from salus.events.context import Context
from salus.events.event_types import Retention
from salus.events.fields import (
    Count,
    Did,
    Moment,
    Pseudonym,
    Purpose,
    Sealed,
    ServiceName,
    Sha256,
    Text,
)
from salus.events.names import Name, Names
from salus.events.patient_rights import is_privacy_officer
from salus.events.recipients import RecipientRole
from salus.events.requests import RequestedData
from salus.events.signed_request import Asked, Body, read_body
from salus.events.state_positions import StatePositions
from salus.events.step_up import StepUp

CONTEXT = Context("consent")
CONSENT = CONTEXT.role("consent", "service", "decides accesses by the patients' consents")
for _name, _meaning in (
    ("patient", "grants and takes back, as the patient that she is linked to"),
    ("clinician", "treats patients: reads and writes by consent, or in an emergency"),
    ("researcher", "reads for research, by consent"),
    ("privacy-officer", "speaks for her member's patients and judges emergency accesses"),
):
    CONTEXT.role(_name, "person", _meaning)
_event = partial(CONTEXT.event, owner=CONSENT, retention=Retention.ACCESS, subject_field="patient")

Action = Literal["read", "write"]


@_event("salus.consent.patient-linked.v1", changes=True)
class PatientLinked(RequestedData):
    """This party is the patient: while it holds the role patient, it grants, takes back and reads as she."""

    patient: Pseudonym
    did: Did

    @property
    def step_up(self) -> StepUp:
        """It gives a right that lasts."""
        return StepUp.LINK


@_event("salus.consent.patient-unlinked.v1", changes=True)
class PatientUnlinked(RequestedData):
    """This party is not the patient any more; decision tokens of an earlier epoch are void."""

    patient: Pseudonym
    did: Did
    epoch: Count


# A consent before it could be to a role at a member.
_GRANTED_BEFORE = "urn:salus:schema:salus.consent.consent-granted.v1"


@_event(
    "salus.consent.consent-granted.v1",
    changes=True,
    claims=lambda data: (f"consent:{data.consent}",),
    older_dataschemas=frozenset(
        {f"{_GRANTED_BEFORE}:sha256:63d837ebb5c0d86606f053a3aae140b7dcb06b7677cb2db70e931843edf3201a"}
    ),
)
class ConsentGranted(RequestedData):
    """A patient lets someone act on her data for these purposes during this period.

    With a `role` it is the persons who hold it when they ask, and act for the grantee, a member.
    `displaces` is one of her consents that is over: its place in the service's list was needed.
    """

    consent: Name
    patient: Pseudonym
    grantee: Did
    actions: Annotated[tuple[Action, ...], msgspec.Meta(min_length=1, max_length=64)]
    purposes: Annotated[tuple[Purpose, ...], msgspec.Meta(min_length=1, max_length=64)]
    valid_from: Moment
    valid_until: Moment
    epoch: Count
    displaces: Name | None = None
    role: RecipientRole | None = None


@_event("salus.consent.consent-revoked.v1", changes=True)
class ConsentRevoked(RequestedData):
    """A patient took a consent back; decision tokens of an earlier epoch are void."""

    consent: Name
    patient: Pseudonym
    epoch: Count


EmergencyReason = Literal["life-threatening", "unable-to-consent", "public-health", "other"]


# Questions in one request: their events, of which each carries the request, share one signature.
QUESTIONS_MAX = 64
_DECIDED_BEFORE = "urn:salus:schema:salus.consent.access-decided.v1"


@_event(
    "salus.consent.access-decided.v1",
    claims=lambda data: (f"decision:{data.decision}",) if data.repeatable else (),
    older_dataschemas=frozenset(
        {
            f"{_DECIDED_BEFORE}:sha256:4027bec470969f701033cfa6e39b4280e6051f34e641244298f3eaec24dfda3f",
            f"{_DECIDED_BEFORE}:sha256:e0400cd1f7d5a459ab256f981e4182caaf0c4ed78dfb0122c54b5b85efa636c5",
        }
    ),
)
class AccessDecided(RequestedData):
    """Someone asked whether an access is allowed, and this was the answer, with what it rests on.

    `inputs` commits to the exact request and entities. They follow from the records before
    `state_positions` of every partition of the topics of consent, storage and identity, at the time
    `decided_at`. `consents` are those that covered an access that was allowed without
    breaking the glass, at most 64 of them. `emergency` is the reason that the caller gave. `item` is the
    question's place in a request that asks many. A `repeatable` one was asked for under an Idempotency-Key:
    whoever asks again gets the same. One that is `pending` waits for a person. `case` is what waits,
    if it was opened; of one that is allowed, what a person approved.
    """

    decision: Name
    principal: Did
    action: Action
    object: Name
    patient: Pseudonym
    purpose: Purpose
    allowed: bool
    reasons: Names
    policy_set: Sha256
    inputs: Sha256
    decided_at: Moment
    state_positions: StatePositions
    epoch: Count
    valid_until: Moment
    obligations: Names = ()
    consents: Names = ()
    emergency: EmergencyReason | None = None
    break_glass: bool = False
    item: Count | None = None
    repeatable: bool = False
    pending: bool = False
    case: Name | None = None

    @property
    def part(self) -> str:
        """The place in a request that asks many; the first one claims the request as a single one does."""
        return f"#{self.item}" if self.item else ""

    @property
    def step_up(self) -> StepUp | None:
        """Whoever's consents or role allow it need not log in again."""
        return StepUp.EMERGENCY if self.break_glass else None


# Both before they said when the review is due, and why it ended so.
_BROKEN_BEFORE = "urn:salus:schema:salus.consent.glass-broken.v1"
_REVIEWED_BEFORE = "urn:salus:schema:salus.consent.glass-break-reviewed.v1"


@_event(
    "salus.consent.glass-broken.v1",
    changes=True,
    claims=lambda data: (f"glass-break:{data.decision}",),
    accompanies=True,
    older_dataschemas=frozenset(
        {f"{_BROKEN_BEFORE}:sha256:99c217e60e59abc78886b6923077dac7dc8e111e871dfc346b5d9155c5bcd8ea"}
    ),
)
class GlassBroken(RequestedData):
    """Someone used emergency access; the patient and the privacy officer are told and it awaits review.

    `steward` is the member whose privacy officers review it, by `review_due` at the latest.
    """

    decision: Name
    principal: Did
    object: Name
    patient: Pseudonym
    reason: EmergencyReason
    valid_until: Moment
    statement: Sealed | None = None
    broken_at: Moment | None = None
    review_due: Moment | None = None
    steward: Did | None = None

    @property
    def step_up(self) -> StepUp:
        """Each emergency is one."""
        return StepUp.EMERGENCY


ReviewGround = Literal[
    "emergency-confirmed", "duty-of-care", "no-emergency", "no-treatment-relation", "beyond-need", "other"
]


@_event(
    "salus.consent.glass-break-reviewed.v1",
    changes=True,
    claims=lambda data: (f"review:{data.decision}",),
    # Whose officer it has to be, the event does not say. The first review counts: one by anybody would
    # keep the officer from hers for ever.
    asker=lambda _, party: is_privacy_officer(party),
    older_dataschemas=frozenset(
        {f"{_REVIEWED_BEFORE}:sha256:faecc58caa4f6eb46887ae666834bcf2705a3e693e8fef91fc32c8f30e20d0b1"}
    ),
)
class GlassBreakReviewed(RequestedData):
    """A privacy officer judged an emergency access; `ground` says why."""

    decision: Name
    patient: Pseudonym
    reviewer: Did
    outcome: Literal["justified", "unjustified"]
    ground: ReviewGround | None = None


# A text of policies may be so long; what one event holds altogether, `salus.events.envelope` limits.
POLICY_CHARS_MAX = 400_000
POLICY_FILES_MAX = 64


class PolicyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of a policy set: Cedar policies, or their schema."""

    name: Annotated[
        str,
        msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]*[.](cedar|cedarschema)\Z", min_length=1, max_length=64),
    ]
    text: Annotated[str, msgspec.Meta(max_length=POLICY_CHARS_MAX)]


PolicyFiles = Annotated[tuple[PolicyFile, ...], msgspec.Meta(max_length=POLICY_FILES_MAX)]


# The adoption of a policy set before it had files and engine.
_WITHOUT_FILES = (
    "urn:salus:schema:salus.consent.policy-set-adopted.v1:sha256:"
    "5132f07b7164e9d98cdce8b8103666ca1d120d152b5141e23f05fc3a1bc63ee8"
)


@_event(
    "salus.consent.policy-set-adopted.v1",
    retention=Retention.NETWORK,
    subject_field=None,
    older_dataschemas=frozenset({_WITHOUT_FILES}),
    changes=True,
    unasked=True,
)
class PolicySetAdopted(RequestedData):
    """Decisions from here on follow this version of the contract's code, and a first policy set.

    A service states it when it starts. The network's first policy set is so adopted, with its `files`; from
    then on operators change it, and this names the one in force. `engine` is what evaluates policies.
    """

    policy_set: Sha256
    contract: Sha256
    files: PolicyFiles = ()
    engine: Text | None = None


@_event(
    "salus.consent.policy-set-proposed.v1",
    retention=Retention.NETWORK,
    subject_field=None,
    changes=True,
    operators=1,
)
class PolicySetProposed(RequestedData):
    """An operator would like decisions to follow this policy set; nothing follows it yet.

    `policy_set` is the digest of `files`.
    """

    policy_set: Sha256
    files: Annotated[tuple[PolicyFile, ...], msgspec.Meta(min_length=1, max_length=POLICY_FILES_MAX)]


@_event(
    "salus.consent.policy-set-activated.v1",
    retention=Retention.NETWORK,
    subject_field=None,
    changes=True,
    operators=2,
)
class PolicySetActivated(RequestedData):
    """Decisions from here on follow this policy set, which was proposed or in force before.

    `replaces` is the one in force that both operators saw. `version` counts the sets in force, and `engine`
    is what validated it.
    """

    policy_set: Sha256
    replaces: Sha256
    version: Count
    engine: Text


# --- which request asks for which event -------------------------------------------------------------

_SMALL, _GRANT = 1024, 4 * 1024
CONTEXT.form("POST", "consents", body_bytes_max=_GRANT)
CONTEXT.form("POST", "consents", None, "revoke", body_bytes_max=0)
# A Consent may have provisions in provisions.
CONTEXT.form(
    "POST",
    "fhir",
    "Consent",
    body_bytes_max=None,
    query=frozenset({"_format", "_pretty"}),
    values_max=16_384,
)
CONTEXT.form("POST", "patients", None, "parties", body_bytes_max=_SMALL)
CONTEXT.form("DELETE", "patients", None, "parties", None, body_bytes_max=0)
# A statement to an emergency is some sentences, sealed.
CONTEXT.form("POST", "decisions", body_bytes_max=32 * 1024)
CONTEXT.form("POST", "decisions", "batch", body_bytes_max=32 * 1024, values_max=1024)
# AuthZEN wants members ignored that nobody knows, and so they may be any words.
CONTEXT.form("POST", "access", "v1", "evaluation", body_bytes_max=None)
CONTEXT.form("POST", "access", "v1", "evaluations", body_bytes_max=None, values_max=4096)
CONTEXT.form("POST", "glass-breaks", None, "review", body_bytes_max=_SMALL)
# The text of policies stands in the event itself, so the body would be there twice.
CONTEXT.form("POST", "policies", body_bytes_max=None)
CONTEXT.form("POST", "policies", None, "activate", body_bytes_max=_SMALL)


class _Grant(Body):
    patient: str
    grantee: str
    actions: tuple[str, ...]
    purposes: tuple[str, ...]
    valid_until: datetime
    valid_from: datetime | None = None
    role: str | None = None


class _Link(Body):
    did: str


class _BreakGlass(Body):
    reason: str
    statement: Sealed | None = None


class AskedQuestion(Body):
    """The body of a request that asks for one decision."""

    action: str
    object: str
    patient: str
    purpose: str
    break_glass: _BreakGlass | None = None
    service: ServiceName | None = None


class _QuestionOfMany(Body):
    action: str
    object: str
    patient: str
    purpose: str
    service: ServiceName | None = None


class _Questions(Body):
    questions: Annotated[tuple[_QuestionOfMany, ...], msgspec.Meta(min_length=1, max_length=QUESTIONS_MAX)]


# The same one for each of its events.
_questions_in = lru_cache(maxsize=64)(partial(read_body, kind=_Questions))


class _Judgement(Body):
    outcome: str
    ground: str | None = None


class _Activation(Body):
    replaces: str


def policy_body(files: tuple[PolicyFile, ...]) -> bytes:
    """Return the body of the request that proposes these files: the one form whose digest is signed."""
    return msgspec.json.encode({"files": files})


@CONTEXT.asked(ConsentGranted)
def _grants(asked: Asked, data: ConsentGranted) -> bool:
    if asked.is_("POST", "fhir", "Consent"):
        # The resource may hold words about somebody, so only its digest is on the ledger.
        return asked.digest is not None
    if not asked.is_("POST", "consents"):
        return False
    usual = _Grant(data.patient, data.grantee, data.actions, data.purposes, data.valid_until, role=data.role)
    if asked.is_written_as(usual):
        return True
    body = asked.read(_Grant)
    return (
        body is not None
        and (body.patient, body.grantee, body.valid_until) == (data.patient, data.grantee, data.valid_until)
        and body.role == data.role
        and _are_same(body.actions, data.actions)
        and _are_same(body.purposes, data.purposes)
        and body.valid_from in (None, data.valid_from)
    )


def _are_same(asked: tuple[str, ...], stated: tuple[str, ...]) -> bool:
    """Tell whether the same are asked for and stated, in whatever order and however often."""
    return asked == stated or set(asked) == set(stated)


@CONTEXT.asked(ConsentRevoked)
def _revokes(asked: Asked, data: ConsentRevoked) -> bool:
    return asked.is_("POST", "consents", data.consent, "revoke")


@CONTEXT.asked(PatientLinked)
def _links(asked: Asked, data: PatientLinked) -> bool:
    body = asked.read(_Link)
    return (
        asked.is_("POST", "patients", data.patient, "parties") and body is not None and body.did == data.did
    )


@CONTEXT.asked(PatientUnlinked)
def _unlinks(asked: Asked, data: PatientUnlinked) -> bool:
    return asked.is_("DELETE", "patients", data.patient, "parties", data.did)


@CONTEXT.asked(AccessDecided)
def _asks(asked: Asked, data: AccessDecided) -> bool:
    if data.item is None and asked.is_("POST", "decisions"):
        return _asks_one(asked, data)
    if data.request.by != data.principal or data.emergency is not None or data.break_glass:
        return False
    if asked.path[:1] == ("access",):
        # Only the digest of an AuthZEN request is on the ledger. Evaluations without a list of them are one.
        one = asked.is_("POST", "access", "v1", "evaluation")
        fits = data.item is None or (not one and data.item < QUESTIONS_MAX)
        return asked.digest is not None and fits
    return data.item is not None and asked.is_("POST", "decisions", "batch") and _asks_many(asked, data)


def _asks_many(asked: Asked, data: AccessDecided) -> bool:
    body = None if asked.body is None else _questions_in(asked.body)
    if body is None or data.item is None or data.item >= len(body.questions):
        return False
    one = body.questions[data.item]
    said = (data.action, data.object, data.patient, data.purpose)
    return (one.action, one.object, one.patient, one.purpose) == said


def _asks_one(asked: Asked, data: AccessDecided) -> bool:
    body = asked.read(AskedQuestion)
    said = (data.action, data.object, data.patient, data.purpose)
    return (
        body is not None
        and (body.action, body.object, body.patient, body.purpose) == said
        and data.request.by == data.principal
        and (body.break_glass.reason if body.break_glass else None) == data.emergency
        and (data.emergency is not None or not data.break_glass)
    )


@CONTEXT.asked(GlassBroken)
def _breaks(asked: Asked, data: GlassBroken) -> bool:
    body = asked.read(AskedQuestion)
    return (
        asked.is_("POST", "decisions")
        and body is not None
        and body.break_glass is not None
        and (body.object, body.patient) == (data.object, data.patient)
        and (body.break_glass.reason, body.break_glass.statement) == (data.reason, data.statement)
        and data.request.by == data.principal
    )


@CONTEXT.asked(GlassBreakReviewed)
def _reviews(asked: Asked, data: GlassBreakReviewed) -> bool:
    body = asked.read(_Judgement)
    return (
        asked.is_("POST", "glass-breaks", data.decision, "review")
        and body is not None
        and (body.outcome, body.ground) == (data.outcome, data.ground)
        and data.request.by == data.reviewer
    )


@CONTEXT.asked(PolicySetProposed)
def _proposes(asked: Asked, data: PolicySetProposed) -> bool:
    return asked.is_("POST", "policies") and asked.digest == sha256(policy_body(data.files)).hexdigest()


@CONTEXT.asked(PolicySetActivated)
def _activates(asked: Asked, data: PolicySetActivated) -> bool:
    body = asked.read(_Activation)
    return (
        asked.is_("POST", "policies", data.policy_set, "activate")
        and body is not None
        and body.replaces == data.replaces
    )
