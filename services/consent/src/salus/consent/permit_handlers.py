"""Orders the effects of permits: propose, approve, withdraw, and count each use before it is allowed."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime

from salus.access.actors import Asking
from salus.access.permits import Permit, Use, bar_of, reasons_against
from salus.consent.domain.permits import (
    Ask,
    Command,
    Propose,
    Withdraw,
    decide,
    found_use,
    is_proposal,
    use,
)
from salus.consent.handlers import as_known
from salus.consent.ports import PermitFacts, World
from salus.contracts.contract import NameTakenError
from salus.events.contexts.consent_permits import PermitUsed, PermitUseDenied
from salus.events.event_types import EventData
from salus.events.keyring import KeyRing
from salus.events.state_positions import state_positions
from salus.runtime.identity_view import IDENTITY_TOPIC
from salus.runtime.refusal import Refusal

# Whatever is done with a permit waits here, so that a withdrawal, which does not, waits for one of them.
_QUEUE = "permit"


@dataclass(frozen=True)
class Usage:
    """What became of a question: `use` is there if it is allowed, and counted; else there are reasons."""

    permit: Permit
    reasons: tuple[str, ...] = ()
    use: Use | None = None


class _DeniedError(Exception):
    """A use is denied: nothing is stated that changes the permit."""

    def __init__(self, event: PermitUseDenied) -> None:
        super().__init__("the permit does not allow it")
        self.event = event


async def execute_permit(command: Command, *, actor: Asking, at: datetime, world: World) -> Permit:
    """Execute a command on its permit, and return the permit once the event has taken effect.

    Who asks, with which key and roles, and whom a proposal names, is looked up when its turn has come. A
    crash after publishing leaves an event that is folded on the next start. Raises Refusal, or ProblemError
    409 `conflict`, or 429 if the account gave too many commands.
    """
    withdraws = isinstance(command, Withdraw)
    (world.limits.revocations if withdraws else world.limits.commands).take(actor)

    async def decided(permit: Permit) -> EventData:
        ring = await world.ring.catch_up()
        # It may have waited: what ended meanwhile, a key above all, has ended.
        turn = max(at, world.now())
        return decide(permit, _as_found(command, ring), actor=as_known(actor, ring, at=turn), at=turn)

    if _is_taken(command.permit, world):
        # Who may not is refused at once, and keeps nobody waiting. Who may is asked again in their turn.
        await decided(await world.permits.state(command.permit))
    async with nullcontext() if withdraws else world.queues.of(_QUEUE, command.permit):
        await world.permits.execute(command.permit, decided)
    return await world.permits.state(command.permit)


async def propose_permit(
    command: Propose, *, actor: Asking, at: datetime, repeatable: bool, world: World
) -> Permit:
    """Propose a permit and return it; a `repeatable` proposal that is made again is found.

    Raises:
        Refusal: as `execute_permit`; `idempotency-key-reused` if that was another proposal.
    """
    try:
        return await execute_permit(command, actor=actor, at=at, world=world)
    except (Refusal, NameTakenError) as refusal:
        if refusal.code not in {"permit-exists", "name-taken"} or not repeatable:
            raise
    permit = await world.permits.state(command.permit)
    if not is_proposal(permit, command, proposer=actor.did):
        why = "Idempotency-Key: it was used for another proposal"
        raise Refusal("idempotency-key-reused", why, status=422)
    return permit


async def use_permit(ask: Ask, *, actor: Asking, at: datetime, repeatable: bool, world: World) -> Usage:
    """Answer whether a use is allowed, and say so on the topic before the caller hears it.

    A use names the version of the permit that it was decided by, so of two that are decided at once, in
    whatever replicas, one takes effect, and the other is decided again: all of them together are never more
    than the permit has. A crash after publishing leaves a use that is counted, and that nobody made; whoever
    asks again under the same Idempotency-Key is told of that one, and it counts once.

    Raises:
        Refusal: `unknown-permit`, `idempotency-key-reused`, or `decision-over` if what was allowed under the
            key would not be allowed now, or was too long ago.
        ProblemError: 429 if the account was denied too often; 503 `state-stale`; whatever publishing raises.
    """
    async with world.limits.denials.reserved(actor) as reservation:
        known: PermitFacts | None = None

        async def look() -> tuple[Permit, int]:
            nonlocal known
            source = world.permit_source
            known = await world.freshness.within(lambda: source.known(ask.permit, ask.question.patient))
            return known.permit, known.version

        async def decided(permit: Permit) -> EventData:
            assert known is not None  # noqa: S101  # it was looked up before
            asked, asking, turn = await _as_of_now(ask, known, actor=actor, at=at, world=world)
            event = use(permit, asked, actor=asking, at=turn)
            if isinstance(event, PermitUseDenied):
                raise _DeniedError(event)
            return event

        try:
            if _is_taken(ask.permit, world):
                # Who may not is denied at once, and keeps nobody waiting.
                await decided((await look())[0])
            async with world.queues.of(_QUEUE, ask.permit):
                event = await world.permits.execute(ask.permit, decided, look=look)
        except _DeniedError as denied:
            reservation.use()
            await world.statements.state(denied.event, subject=ask.permit)
            return Usage(await world.permits.state(ask.permit), denied.event.reasons)
        except (Refusal, NameTakenError) as refusal:
            if refusal.code not in {"already-used", "name-taken"} or not repeatable:
                raise
            return await _again(ask, actor=actor, at=at, world=world)
    assert isinstance(event, PermitUsed)  # noqa: S101  # it is what a use becomes
    permit = await world.permits.state(ask.permit)
    return Usage(permit, use=Use(event.use, event.number, event.used_at, event.patient))


def _is_taken(permit: str, world: World) -> bool:
    """Tell whether something is done with a permit here, for which another one would wait."""
    return world.permits.has_turns(permit) or world.queues.has_any(_QUEUE, permit)


async def _again(ask: Ask, *, actor: Asking, at: datetime, world: World) -> Usage:
    """Return the use that was counted under the caller's key, if it would be allowed now as well."""
    source = world.permit_source
    known = await world.freshness.within(lambda: source.known(ask.permit, ask.question.patient))
    asked, _, turn = await _as_of_now(ask, known, actor=actor, at=at, world=world)
    found = found_use(known.permit, ask.use)
    reasons = {*reasons_against(known.permit, asked.question, at=turn)} - {"permit-used-up"}
    if found is not None and found.patient != ask.question.patient:
        raise Refusal(
            "idempotency-key-reused", "Idempotency-Key: it was used for another question", status=422
        )
    if found is None or reasons:
        why = "Idempotency-Key: what was allowed under it has ended, or was long ago; ask under another key"
        raise Refusal("decision-over", why)
    return Usage(known.permit, use=found)


async def _as_of_now(
    ask: Ask, known: PermitFacts, *, actor: Asking, at: datetime, world: World
) -> tuple[Ask, Asking, datetime]:
    """Return the question with what is known now of who asks and of the patient, who asks, and the moment."""
    ring = await world.freshness.within(world.ring.catch_up)
    turn = max(at, world.now())
    asking = as_known(actor, ring, at=turn)
    question = replace(ask.question, principal=asking)
    if question.patient is not None:
        barred = bar_of(question, state=known.state, subject=known.subject, at=turn)
        question = replace(question, barred=barred)
    # Position and parties of one moment: nothing is awaited between them.
    positions = state_positions({**known.positions, (IDENTITY_TOPIC, 0): ring.position})
    return replace(ask, question=question, positions=positions), asking, turn


def _as_found(command: Command, ring: KeyRing) -> Command:
    """Return the command with what the ring says now of the parties that it names."""
    if not isinstance(command, Propose):
        return command
    recipient, owner = ring.parties.get(command.recipient), ring.parties.get(command.owner)
    return replace(command, recipient_party=recipient, owner_party=owner)
