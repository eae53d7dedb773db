"""The law of permits for research: who may propose, approve, withdraw and use them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from salus.access.actors import Actor, Asking
from salus.access.permits import Permit, Use, UseQuestion, reasons_against, relation_of
from salus.events.contexts.consent_permits import (
    PermitGranted,
    PermitGround,
    PermitProposed,
    PermitUsed,
    PermitUseDenied,
    PermitWithdrawn,
    ResearchPurpose,
    Terms,
)
from salus.events.fields import microseconds
from salus.events.parties import Party
from salus.events.permit_rights import (
    AHEAD_DAYS_MAX,
    PERIOD_DAYS_MAX,
    RIGHTS,
    Act,
    is_researcher_of,
    is_reviewer,
    objection,
)
from salus.events.state_positions import TopicPositions
from salus.runtime.refusal import Refusal

Standing = Literal["proposed", "granted", "not-begun", "over", "used-up", "withdrawn"]
# The list of permits has a row for each party whose business one is, and one for who sees all.
EVERYBODY = "*"


@dataclass(frozen=True)
class Propose:
    """Propose a permit. Without `valid_from` it begins when it is proposed.

    `recipient_party` and `owner_party` are what the key ring says of them, None if they are not registered.
    """

    permit: str
    owner: str
    data_set: str
    recipient: str
    purpose: ResearchPurpose
    valid_until: datetime
    uses_max: int
    valid_from: datetime | None = None
    recipient_party: Party | None = None
    owner_party: Party | None = None


@dataclass(frozen=True)
class Approve:
    """Approve the terms of this digest."""

    permit: str
    terms: str


@dataclass(frozen=True)
class Withdraw:
    """Let a permit, or a proposal, permit nothing any more."""

    permit: str
    ground: PermitGround


@dataclass(frozen=True)
class Ask:
    """Ask for one use; `use` is its id, and `positions` are up to where the topics were folded."""

    permit: str
    use: str
    question: UseQuestion
    positions: tuple[TopicPositions, ...] = ()


Command = Propose | Approve | Withdraw
Event = PermitProposed | PermitGranted | PermitWithdrawn


def decide(permit: Permit, command: Command, *, actor: Asking, at: datetime) -> Event:
    """Return the event of a command; raises Refusal as the function of the command does."""
    match command:
        case Propose():
            return propose(permit, command, actor=actor, at=at)
        case Approve():
            return approve(permit, command, actor=actor, at=at)
        case Withdraw():
            return withdraw(permit, command, actor=actor)


def propose(permit: Permit, command: Propose, *, actor: Asking, at: datetime) -> PermitProposed:
    """Return the event of a proposal, by the recipient's member.

    Raises:
        Refusal: with one of the codes not-permitted, permit-exists, unknown-recipient, unknown-owner,
            invalid-period.
    """
    if actor.kind != "member":
        raise Refusal("not-permitted", objection(Act.PROPOSE), status=403)
    if permit.terms is not None:
        raise Refusal("permit-exists", "a permit of this id was proposed already")
    recipient, owner = command.recipient_party, command.owner_party
    if recipient is None or not is_researcher_of(recipient, actor.did):
        why = "recipient: it is no person of yours with the role researcher"
        raise Refusal("unknown-recipient", why, status=422)
    if owner is None or owner.kind != "member":
        raise Refusal("unknown-owner", "owner: no member of that DID is registered", status=422)
    start = command.valid_from or at
    _require_period(start, command.valid_until, at=at)
    return PermitProposed(
        permit=command.permit,
        owner=command.owner,
        data_set=command.data_set,
        proposer=actor.did,
        recipient=command.recipient,
        purpose=command.purpose,
        valid_from=start,
        valid_until=command.valid_until,
        uses_max=command.uses_max,
        request=actor.request,
    )


def approve(permit: Permit, command: Approve, *, actor: Asking, at: datetime) -> PermitGranted:
    """Return the event by which a permit is granted, by an ethics reviewer.

    Raises:
        Refusal: with one of the codes not-permitted, unknown-permit, terms-differ, already-granted,
            permit-withdrawn, permit-over.
    """
    terms = require(Act.APPROVE, permit, actor)
    if command.terms != terms.digest:
        why = f"terms: those that were proposed have the digest {terms.digest}; look at them again"
        raise Refusal("terms-differ", why)
    if permit.status == "granted":
        raise Refusal("already-granted", "the permit was granted already")
    _require_not_withdrawn(permit)
    if at >= terms.valid_until:
        raise Refusal("permit-over", "the period that was proposed has ended; let it be proposed again")
    return PermitGranted(permit=permit.id, terms=command.terms, request=actor.request)


def withdraw(permit: Permit, command: Withdraw, *, actor: Asking) -> PermitWithdrawn:
    """Return the event by which a permit, or a proposal, ends.

    Raises:
        Refusal: with one of the codes not-permitted, unknown-permit, permit-withdrawn.
    """
    require(Act.WITHDRAW, permit, actor)
    _require_not_withdrawn(permit)
    return PermitWithdrawn(permit=permit.id, ground=command.ground, request=actor.request)


def use(permit: Permit, ask: Ask, *, actor: Asking, at: datetime) -> PermitUsed | PermitUseDenied:
    """Return the event of one use, or that it was denied, and why; the actor is the question's principal.

    Raises:
        Refusal: `unknown-permit`, or `already-used` if this very use was counted.
    """
    if permit.terms is None:
        raise _unknown()
    question = ask.question
    if found_use(permit, ask.use) is not None:
        raise Refusal("already-used", "this use was counted already")
    said: Mapping[str, Any] = {
        "permit": permit.id,
        "owner": question.owner,
        "data_set": question.data_set,
        "purpose": question.purpose,
        "principal": actor.did,
        "state_positions": ask.positions,
        "patient": question.patient,
        "request": actor.request,
    }
    if reasons := reasons_against(permit, question, at=at):
        return PermitUseDenied(reasons=reasons, decided_at=at, **said)
    return PermitUsed(use=ask.use, number=permit.used + 1, used_at=at, **said)


def require(act: Act, permit: Permit, actor: Actor) -> Terms:
    """Return the terms of a permit with which the actor may do this.

    Raises:
        Refusal: `unknown-permit`, also to whoever may not see it; `not-permitted`.
    """
    relation = relation_of(permit, actor)
    if permit.terms is None or not RIGHTS[Act.SEE, relation]:
        raise _unknown()
    if not RIGHTS[act, relation]:
        raise Refusal("not-permitted", objection(act), status=403)
    return permit.terms


def found_use(permit: Permit, name: str) -> Use | None:
    """Return a use of that id, of those that the permit remembers."""
    return next((one for one in permit.uses if one.id == name), None)


def is_proposal(permit: Permit, command: Propose, *, proposer: str) -> bool:
    """Tell whether a permit is what the command would have proposed; of its start only if it names one."""
    terms = permit.terms
    return terms is not None and terms == Terms(
        owner=command.owner,
        data_set=command.data_set,
        proposer=proposer,
        recipient=command.recipient,
        purpose=command.purpose,
        valid_from=command.valid_from or terms.valid_from,
        valid_until=command.valid_until,
        uses_max=command.uses_max,
    )


def standing_of(permit: Permit, *, at: datetime) -> Standing:
    """Return what a permit is worth at that moment."""
    terms = permit.terms
    if permit.status == "withdrawn" or terms is None:
        return "withdrawn"
    if at >= terms.valid_until:
        return "over"
    if permit.status == "proposed":
        return "proposed"
    if at < terms.valid_from:
        return "not-begun"
    return "used-up" if permit.used >= terms.uses_max else "granted"


def is_shown(permit: Permit, actor: Actor) -> bool:
    """Tell whether a permit is the actor's business."""
    return RIGHTS[Act.SEE, relation_of(permit, actor)]


def listed_for(actor: Actor) -> str:
    """Return whose permits somebody lists: their own, their member's as its officer, or everybody's."""
    if is_reviewer(actor) or "operator" in actor.roles:
        return EVERYBODY
    if actor.kind == "person" and "privacy-officer" in actor.roles and actor.member is not None:
        return actor.member
    return actor.did


def permit_rows(permit: Permit) -> Iterable[Mapping[str, Any]]:
    """Return what the list has of a permit."""
    terms = permit.terms
    if terms is None:
        return ()
    parties = dict.fromkeys((EVERYBODY, terms.owner, terms.proposer, terms.recipient))
    ends = microseconds(terms.valid_until)
    return [{"party": party, "status": permit.status, "ends_us": ends} for party in parties]


def _require_not_withdrawn(permit: Permit) -> None:
    if permit.status == "withdrawn":
        raise Refusal("permit-withdrawn", "the permit, or its proposal, was withdrawn")


def _require_period(start: datetime, end: datetime, *, at: datetime) -> None:
    if not max(start, at) < end:
        why = "valid_until: it ends before it begins, or is over already"
        raise Refusal("invalid-period", why, status=422)
    if end - start > timedelta(days=PERIOD_DAYS_MAX):
        why = f"valid_until: a permit holds for at most {PERIOD_DAYS_MAX} days"
        raise Refusal("invalid-period", why, status=422)
    if start - at > timedelta(days=AHEAD_DAYS_MAX):
        why = f"valid_from: a permit begins within {AHEAD_DAYS_MAX} days"
        raise Refusal("invalid-period", why, status=422)


def _unknown() -> Refusal:
    return Refusal("unknown-permit", "there is no such permit", status=404)
