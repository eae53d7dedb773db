"""Orders the effects of a decision: gather facts, let the policies decide, state it, answer.

One question and many are decided alike: all by one view of the topics, and each is an event of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, assert_never

import msgspec

from salus.access.actors import Asking
from salus.access.decisions import (
    Answer,
    Basis,
    Question,
    case_opened,
    decided,
    glass_broken,
    inputs_digest,
    inputs_of,
    patients_among,
)
from salus.access.law import answer_of
from salus.access.state import PatientState
from salus.consent.domain.cases import require_room_for_case
from salus.consent.domain.consents import identifier_under, require_room_for_emergency
from salus.consent.domain.kept_decisions import KeptDecision, require_same_question
from salus.consent.handlers import as_known
from salus.consent.ports import Claims, Facts, Policies, World
from salus.contracts.facts import failed
from salus.contracts.http_fields import id_digits
from salus.events.accountability import missing_step_up
from salus.events.contexts.consent import AccessDecided, GlassBroken
from salus.events.effect import Applied, NoEffect, Outcome, Refused, Unknown, WithoutEffect
from salus.events.event_types import EventData
from salus.events.fields import Sealed
from salus.events.keyring import KeyRing
from salus.runtime.auth import step_up_problem
from salus.runtime.identity_view import IDENTITY_TOPIC
from salus.runtime.problems import ProblemError

Failure = Literal["without-effect", "refused", "unknown"]


@dataclass(frozen=True)
class Asked:
    """A question, and how its decision is named.

    `item` is its place among many. A `repeatable` one has a suffix that was derived from the caller's
    Idempotency-Key: what was decided under it is answered again.
    """

    question: Question
    suffix: str
    item: int | None = None
    repeatable: bool = False

    @property
    def decision(self) -> str:
        """The decision's id."""
        return identifier_under(self.question.patient, suffix=self.suffix)


_OVER = "Idempotency-Key: what was allowed under it has ended, or its reasons have; ask under another key"


@dataclass(frozen=True)
class Decision:
    """A decision that stands on the ledger; `token` is there if it allows.

    `words` are its reasons for people.
    """

    id: str
    answer: Answer
    epoch: int
    token: str | None
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Undecided:
    """A question whose decision is not known to stand on the ledger: nobody may act by it."""

    outcome: Failure
    problem: ProblemError


@dataclass(frozen=True)
class _View:
    """What a request's questions are decided by, all of one moment."""

    known: Facts
    policies: Policies
    ring: KeyRing
    at: datetime


@dataclass(frozen=True)
class _Draft:
    """A decision that is not stated yet."""

    asked: Asked
    question: Question
    answer: Answer
    basis: Basis
    words: tuple[str, ...]

    def event(self) -> AccessDecided:
        event = decided(self.question, self.answer, self.basis)
        if self.asked.item is None and not self.asked.repeatable:
            return event
        return msgspec.structs.replace(event, item=self.asked.item, repeatable=self.asked.repeatable)


async def decide_access(
    asked: Asked, *, statement: Sealed | None, at: datetime, world: World, opens_case: bool = True
) -> Decision:
    """Answer whether an access is allowed, and say so on the topic before the caller hears it.

    What has to wait for a person waits as a case if this `opens_case`; of requests only `POST /decisions`
    asks for that (`consent_oversight`).

    Raises what publishing raises; then nobody got a token. Raises ProblemError 429 if the account was denied,
    or broke the glass, too often; 503 `state-stale`; Refusal `idempotency-key-reused`.
    """
    if asked.question.break_glass is not None:
        return await _decide_emergency(asked, statement=statement, at=at, world=world)
    [found] = await decide_many([asked], at=at, world=world, opens_case=opens_case)
    if isinstance(found, Undecided):
        raise found.problem
    return found


async def decide_many(
    asked: Sequence[Asked],
    *,
    at: datetime,
    world: World,
    until: bool | None = None,
    opens_case: bool = False,
) -> list[Decision | Undecided]:
    """Answer one caller's questions in their order, each with what became of its event.

    None of them is an emergency. The first answer that is `until` ends the work: what follows is neither
    decided nor stated. Of those that were stated some may stand on the ledger and others not, as after a
    crash; whoever asks again under the same Idempotency-Key gets what stands, and the rest is decided. What
    has to wait for a person waits as a case only if this `opens_case`.

    Raises:
        ProblemError, Refusal: as `decide_access`; nothing was stated but a case, if one was to be opened.
    """
    principal = asked[0].question.principal
    async with world.limits.denials.reserved(principal, len(asked)) as reservation:
        # Both ask Kafka where a topic ends: one after the other they took a second round of all that runs.
        facts, ring = await asyncio.gather(_facts(asked, world), world.freshness.within(world.ring.catch_up))
        policies = await _policies(facts, world)
        kept = await _kept(asked, world)
        found: list[_Draft | Decision | Undecided] = []
        for one in asked:
            view = _View(facts[one.question.patient], policies, ring, at)
            before = kept.get(one.decision) if one.repeatable else None
            drawn = _draft(one, view) if before is None else _again(one, before, view, world)
            if opens_case and isinstance(drawn, _Draft):
                drawn = await _waiting(drawn, view, world)
            found.append(drawn)
            if isinstance(drawn, _Draft) and not drawn.answer.allowed:
                reservation.use()
            if _is_permission(drawn) is until:
                break
        return await asyncio.gather(*(_stated(one, world) for one in found))


async def _facts(asked: Sequence[Asked], world: World) -> dict[str, Facts]:
    patients = dict.fromkeys(one.question.patient for one in asked)
    return dict(await world.freshness.within(lambda: world.facts.facts_of([*patients])))


async def _policies(facts: Mapping[str, Facts], world: World) -> Policies:
    """Return the policy set in force, which is that of all of them."""
    [in_force] = {known.policy_set for known in facts.values()}
    return await world.policies.of(in_force)


async def _kept(asked: Sequence[Asked], world: World) -> dict[str, KeptDecision]:
    """Return what was decided before under the callers' keys; raises Refusal if about something else."""
    names = {one.decision: one.question for one in asked if one.repeatable}
    if not names:
        return {}
    kept = await world.freshness.within(lambda: world.decisions.kept(names))
    for name, before in kept.items():
        require_same_question(before, names[name])
    return dict(kept)


def _draft(asked: Asked, view: _View) -> _Draft:
    known, at = view.known, view.at
    question = _as_known_now(asked.question, view)
    # Position and parties of one moment: nothing is awaited between them.
    positions = {**known.positions, (IDENTITY_TOPIC, 0): view.ring.position}
    patients = patients_among(known.state.dids, view.ring.parties)
    inputs = inputs_of(
        question, state=known.state, patients=patients, subject=known.subject, at=at, grants=known.grants
    )
    answer = answer_of(
        question,
        view.policies.evaluate(inputs),
        state=known.state,
        patients=patients,
        subject=known.subject,
        at=at,
        grants=known.grants,
    )
    basis = Basis(
        decision=asked.decision,
        policy_set=view.policies.digest,
        inputs=inputs_digest(inputs),
        at=at,
        positions=positions,
        epoch=known.state.epoch,
    )
    return _Draft(asked, question, answer, basis, view.policies.words(answer.reasons))


async def _waiting(drawn: _Draft, view: _View, world: World) -> _Draft:
    """Return a decision that is pending with the case that it waits as, which is opened unless it is there.

    A crash after that leaves a case without a decision, which a person can decide all the same.
    """
    steward, who = view.known.subject.steward, drawn.question.principal
    if not drawn.answer.pending or drawn.answer.case is not None or steward is None:
        return drawn
    opened = case_opened(
        drawn.question, drawn.answer, case=_free_name(drawn.asked, view), steward=steward, at=view.at
    )

    async def decided(state: PatientState) -> EventData:
        if as_known(who, await world.ring.catch_up(), at=max(view.at, world.now())) != who:
            raise ProblemError(409, "conflict", "your roles have changed meanwhile; ask again")
        require_room_for_case(state, opened)
        return opened

    async with world.queues.of("case", opened.patient):
        await world.patients.execute(opened.patient, decided)
    return replace(drawn, answer=replace(drawn.answer, case=opened.case))


def _free_name(asked: Asked, view: _View) -> str:
    """Return the id of a case: the decision's, or one that follows from it and is free.

    Under an Idempotency-Key whose decision was lost, its case may have been opened and decided meanwhile.
    """
    listed, name = {one.id for one in view.known.state.cases}, asked.decision
    while name in listed:
        name = identifier_under(asked.question.patient, suffix=id_digits(name, name))
    return name


def _as_known_now(question: Question, view: _View) -> Question:
    return replace(question, principal=as_known(question.principal, view.ring, at=view.at))


def _again(asked: Asked, before: KeptDecision, view: _View, world: World) -> Decision | Undecided:
    """Return what was decided before. A permission stands as long as the policies would see the same."""
    known, answer = view.known, before.answer
    question = _as_known_now(asked.question, view)
    inputs = inputs_of(
        question,
        state=known.state,
        patients=patients_among(known.state.dids, view.ring.parties),
        subject=known.subject,
        at=view.at,
        grants=known.grants,
    )
    words = view.policies.words(answer.reasons)
    if not answer.allowed:
        return Decision(asked.decision, answer, before.epoch, None, words)
    # A role or a consent that is gone voids the token that was given, and nobody hears that it is allowed.
    stands = (before.inputs, before.epoch) == (inputs_digest(inputs), known.state.epoch)
    if not stands or view.at >= answer.valid_until:
        return Undecided("refused", ProblemError(409, "decision-over", _OVER))
    claims = _claims(question, answer, asked.decision, epoch=before.epoch, issued=before.decided_at)
    return Decision(asked.decision, answer, before.epoch, world.tokens.make(claims), words)


def _is_permission(found: _Draft | Decision | Undecided) -> bool:
    return not isinstance(found, Undecided) and found.answer.allowed


async def _stated(found: _Draft | Decision | Undecided, world: World) -> Decision | Undecided:
    if isinstance(found, Decision | Undecided):
        return found
    try:
        outcome = await world.statements.write(found.event(), subject=found.question.patient)
    except ProblemError as problem:
        return Undecided("refused", problem)
    if outcome == WithoutEffect(NoEffect.NAME_TAKEN) and found.asked.repeatable:
        # Somebody who asked under the same key was first.
        return await _taken(found, outcome, world)
    return _settled(found, outcome, world)


async def _taken(found: _Draft, outcome: Outcome, world: World) -> Decision | Undecided:
    facts, kept = await _facts([found.asked], world), await _kept([found.asked], world)
    before = kept.get(found.asked.decision)
    if before is None:
        return _settled(found, outcome, world)
    policies = await _policies(facts, world)
    ring = await world.freshness.within(world.ring.catch_up)
    view = _View(facts[found.question.patient], policies, ring, found.basis.at)
    return _again(found.asked, before, view, world)


def _settled(found: _Draft, outcome: Outcome, world: World) -> Decision | Undecided:
    match outcome:
        case Applied():
            return _answered(found, world)
        case WithoutEffect():
            return Undecided("without-effect", failed(outcome))
        case Refused():
            return Undecided("refused", failed(outcome))
        case Unknown():
            return Undecided("unknown", failed(outcome))
        case _:
            assert_never(outcome)


def _answered(found: _Draft, world: World) -> Decision:
    answer, basis = found.answer, found.basis
    token = None
    if answer.allowed:
        token = world.tokens.make(
            _claims(found.question, answer, basis.decision, epoch=basis.epoch, issued=basis.at)
        )
    return Decision(basis.decision, answer, basis.epoch, token, found.words)


async def _decide_emergency(
    asked: Asked, *, statement: Sealed | None, at: datetime, world: World
) -> Decision:
    """Answer a question that may break the glass, which an account that was denied too often can still ask.

    A broken glass is announced before the decision that it led to: a crash in between leaves an alarm without
    an access, never an access without an alarm.
    """
    async with world.limits.glass_breaks.reserved(asked.question.principal) as reservation:
        facts = await _facts([asked], world)
        known = facts[asked.question.patient]
        policies = await _policies(facts, world)
        view = _View(known, policies, await world.freshness.within(world.ring.catch_up), at)
        draft = _draft(asked, view)
        broken = glass_broken(
            draft.question,
            draft.answer,
            decision=asked.decision,
            statement=statement,
            steward=known.subject.steward,
            at=at,
        )
        if broken is not None:
            require_room_for_emergency(known.state, broken)
            # Whoever found a session that is open would use up the emergencies of the account.
            if (needed := missing_step_up(broken, ring=view.ring, at=world.now())) is not None:
                raise step_up_problem(needed)
        if draft.answer.break_glass or not draft.answer.allowed:
            reservation.use()
        if broken is not None:
            await _announce(broken, by=draft.question.principal, at=at, world=world)
        found = await _stated(draft, world)
    if isinstance(found, Undecided):
        raise found.problem
    return found


async def _announce(broken: GlassBroken, *, by: Asking, at: datetime, world: World) -> None:
    """State that the glass is broken, unless who breaks it is another one by the time it is their turn."""

    async def decided(state: PatientState) -> EventData:
        if as_known(by, await world.ring.catch_up(), at=max(at, world.now())) != by:
            raise ProblemError(409, "conflict", "your roles have changed meanwhile; ask again")
        require_room_for_emergency(state, broken)
        return broken

    async with world.queues.of("emergency", broken.patient):
        await world.patients.execute(broken.patient, decided)


def _claims(question: Question, answer: Answer, decision: str, *, epoch: int, issued: datetime) -> Claims:
    return Claims(
        service=question.service,
        decision=decision,
        principal=question.principal.did,
        action=question.action,
        object=question.object,
        patient=question.patient,
        purpose=question.purpose,
        epoch=epoch,
        break_glass=answer.break_glass,
        roles=question.principal.roles,
        issued=issued,
        expires=answer.valid_until,
    )
