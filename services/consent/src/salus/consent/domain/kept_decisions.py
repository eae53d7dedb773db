"""Decisions asked for under an Idempotency-Key, kept so that whoever asks again gets the same. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from salus.access.decisions import Answer, Question
from salus.events.contexts.consent import AccessDecided
from salus.events.event_types import EventData
from salus.runtime.refusal import Refusal

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class KeptDecision(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was decided, as its event says it; without a principal nothing was."""

    principal: str = ""
    action: str = ""
    object: str = ""
    patient: str = ""
    purpose: str = ""
    allowed: bool = False
    reasons: tuple[str, ...] = ()
    obligations: tuple[str, ...] = ()
    inputs: str = ""
    epoch: int = 0
    decided_at: datetime = _NEVER
    valid_until: datetime = _NEVER
    pending: bool = False
    case: str | None = None

    @property
    def answer(self) -> Answer:
        """The answer that was given."""
        return Answer(
            allowed=self.allowed,
            reasons=self.reasons,
            obligations=self.obligations,
            valid_until=self.valid_until,
            break_glass=False,
            pending=self.pending,
            case=self.case,
        )


def decision_named(_: str, event: EventData) -> str | None:
    """Return the decision that an event is kept as, if it is."""
    return event.decision if isinstance(event, AccessDecided) and event.repeatable else None


def evolve_decision(state: KeptDecision, event: EventData) -> KeptDecision:
    """Return the decision after an event; the first one of a name stays."""
    if state.principal or not isinstance(event, AccessDecided):
        return state
    return KeptDecision(
        principal=event.principal,
        action=event.action,
        object=event.object,
        patient=event.patient,
        purpose=event.purpose,
        allowed=event.allowed,
        reasons=event.reasons,
        obligations=event.obligations,
        inputs=event.inputs,
        epoch=event.epoch,
        decided_at=event.decided_at,
        valid_until=event.valid_until,
        pending=event.pending,
        case=event.case,
    )


def require_same_question(kept: KeptDecision, question: Question) -> None:
    """Raise Refusal `idempotency-key-reused` if another question was decided under the key."""
    asked = (question.principal.did, question.action, question.object, question.patient, question.purpose)
    if (kept.principal, kept.action, kept.object, kept.patient, kept.purpose) != asked:
        raise Refusal("idempotency-key-reused", "the key was used for another question", status=422)
