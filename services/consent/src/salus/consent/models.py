"""The shapes of requests and answers of the consent API."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from salus.access.state import Consent
from salus.consent.decision_handlers import Decision, Undecided
from salus.consent.domain.consents import Grant
from salus.contracts.http_fields import CommandBody
from salus.events import fields
from salus.events.contexts.consent import QUESTIONS_MAX, Action, EmergencyReason
from salus.events.contexts.storage import STORAGE
from salus.events.fields import Purpose, Sealed
from salus.events.recipients import RecipientRole
from salus.runtime.fields import Did, Pseudonym, pattern_of
from salus.runtime.moments import Moment

# As storage names objects. The id is told to everybody, so it is no place for words about anybody.
OBJECT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"


class GrantBody(CommandBody):
    """Who may do what with whose data, for which purposes and how long."""

    patient: Pseudonym
    grantee: Did = Field(description="A person, or a member: then all of its people with the fitting role.")
    role: RecipientRole | None = Field(
        default=None,
        description="Only those who hold this role at the grantee, a member, when they ask: whoever gets it "
        "later too, whoever loses it no more. The member says who holds it. Its own key does not.",
    )
    actions: list[Action] = Field(min_length=1, max_length=8)
    purposes: list[Purpose] = Field(min_length=1, max_length=8, description="HL7 v3 PurposeOfUse codes.")
    valid_from: Moment | None = Field(default=None, description="Now, unless given.")
    valid_until: Moment

    def as_command(self, consent: str) -> Grant:
        """Return the command."""
        return Grant(
            consent=consent,
            patient=self.patient,
            grantee=self.grantee,
            actions=tuple(self.actions),
            purposes=tuple(self.purposes),
            valid_from=self.valid_from,
            valid_until=self.valid_until,
            role=self.role,
        )


class LinkBody(CommandBody):
    """The party that a patient is."""

    did: Did


# Some 18 KB sealed. It goes onto the ledger whatever is decided, so it is no place for a document.
STATEMENT_CHARS_MAX = 24_000


class SealedBody(CommandBody):
    """A text sealed to the patient's public key."""

    suite: fields.Suite
    key: str = Field(max_length=110, pattern=pattern_of(fields.SubjectKeyId))
    ciphertext: str = Field(
        min_length=fields.SEALED_CHARS_MIN, max_length=STATEMENT_CHARS_MAX, pattern=r"^[A-Za-z0-9+/]+={0,2}$"
    )

    def as_sealed(self) -> Sealed:
        """Return it as events carry it."""
        return Sealed(suite=self.suite, key=self.key, ciphertext=self.ciphertext)


class BreakGlassBody(CommandBody):
    """Why emergency access is needed."""

    reason: EmergencyReason
    statement: SealedBody | None = Field(
        default=None, description="More words, sealed: they may be about her."
    )


class DecisionBody(CommandBody):
    """May the caller do this now?"""

    action: Action
    object: str = Field(
        pattern=OBJECT_PATTERN, description="The object's id in storage.", examples=["scan-1"]
    )
    patient: Pseudonym
    purpose: Purpose
    break_glass: BreakGlassBody | None = None
    service: str = Field(
        default=STORAGE,
        pattern=pattern_of(fields.ServiceName),
        max_length=31,
        description="The service that is to act by the decision: its token is good there only.",
    )


class QuestionOfMany(CommandBody):
    """May the caller do this now? Emergencies are asked about one by one."""

    action: Action
    object: str = Field(
        pattern=OBJECT_PATTERN, description="The object's id in storage.", examples=["scan-1"]
    )
    patient: Pseudonym
    purpose: Purpose
    service: str = Field(
        default=STORAGE,
        pattern=pattern_of(fields.ServiceName),
        max_length=31,
        description="The service that is to act by the decision: its token is good there only.",
    )


class BatchBody(CommandBody):
    """May the caller do each of these now?"""

    questions: list[QuestionOfMany] = Field(
        min_length=1, max_length=QUESTIONS_MAX, description="As many as the service takes, 20 by default."
    )


class ConsentView(BaseModel):
    """A consent; a revoked one is shown with the epoch that its revocation began."""

    consent: str
    patient: str
    grantee: str
    role: RecipientRole | None
    recipient: str = Field(description="To whom it is, in words.")
    actions: list[Action]
    purposes: list[Purpose]
    valid_from: datetime
    valid_until: datetime
    revoked: bool
    revoked_epoch: int | None

    @classmethod
    def of(cls, consent: Consent, *, patient: str) -> ConsentView:
        """Return the view of a consent."""
        return cls(
            consent=consent.id,
            patient=patient,
            grantee=consent.grantee,
            role=consent.role,
            recipient=str(consent.recipient),
            actions=list(consent.actions),
            purposes=list(consent.purposes),
            valid_from=consent.valid_from,
            valid_until=consent.valid_until,
            revoked=consent.revoked_epoch is not None,
            revoked_epoch=consent.revoked_epoch,
        )


class ConsentList(BaseModel):
    """A patient's consents; tokens of an epoch before `epoch` are void."""

    patient: str
    epoch: int
    consents: list[ConsentView]


class LinkView(BaseModel):
    """The party that a patient is."""

    patient: str
    did: str


class DecisionView(BaseModel):
    """The answer; `reasons` are the ids of the policies that decided, or why none did.

    `explanation` says the same in words, a sentence for each. What is `pending` waits for a person, as
    `case`: once that is approved, the same question is allowed.
    """

    decision: str
    allowed: bool
    pending: bool
    case: str | None
    reasons: list[str]
    explanation: list[str]
    obligations: list[str]
    break_glass: bool
    epoch: int
    valid_until: datetime
    token: str | None = Field(
        description="Only if allowed; nor when it is answered again after a role or a consent has changed."
    )

    @classmethod
    def of(cls, decision: Decision) -> DecisionView:
        """Return the view of a decision."""
        answer = decision.answer
        return cls(
            decision=decision.id,
            allowed=answer.allowed,
            pending=answer.pending,
            case=answer.case,
            reasons=list(answer.reasons),
            explanation=list(decision.words),
            obligations=list(answer.obligations),
            break_glass=answer.break_glass,
            epoch=decision.epoch,
            valid_until=answer.valid_until,
            token=decision.token,
        )


class FailureView(BaseModel):
    """Why a decision is not known to stand on the ledger."""

    status: int
    code: str
    detail: str


class ItemView(BaseModel):
    """What became of one question: only one that is `applied` is decided, and on the ledger."""

    outcome: Literal["applied", "without-effect", "refused", "unknown"]
    decision: DecisionView | None = None
    failure: FailureView | None = None

    @classmethod
    def of(cls, found: Decision | Undecided) -> ItemView:
        """Return the view of what became of a question."""
        if isinstance(found, Decision):
            return cls(outcome="applied", decision=DecisionView.of(found))
        problem = found.problem
        failure = FailureView(status=problem.status, code=problem.code, detail=problem.detail)
        return cls(outcome=found.outcome, failure=failure)


class BatchView(BaseModel):
    """What became of each question, in their order."""

    items: list[ItemView]
