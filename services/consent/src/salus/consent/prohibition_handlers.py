"""Orders the effects of prohibitions: state one, find it done when it is asked for again, show it."""

from __future__ import annotations

from datetime import datetime

from salus.access.actors import Actor, Asking
from salus.access.prohibitions import Prohibition, prohibition_of
from salus.consent.domain.consents import CLOCK_SKEW_MAX
from salus.consent.domain.prohibitions import (
    Forbid,
    ProhibitionTerm,
    differing_prohibition,
    found_prohibition,
    require_recipient,
    require_still_forbids,
)
from salus.consent.domain.rights import visible_prohibitions
from salus.consent.handlers import execute, kind_of
from salus.consent.ports import World
from salus.contracts.contract import NameTakenError
from salus.events.contexts.consent_prohibitions import AccessProhibited
from salus.runtime.refusal import Refusal


async def forbid(
    command: Forbid, *, actor: Asking, at: datetime, repeatable: bool, world: World
) -> Prohibition:
    """State a prohibition and return it; a `repeatable` one that is asked for again is found, if it stands.

    Raises:
        Refusal: as `handlers.execute`; `prohibition-lifted` or `prohibition-over` if the first's does not
            stand any more; `idempotency-key-reused` if that was something else.
    """
    try:
        event = await execute(command, actor=actor, at=at, world=world)
        assert isinstance(event, AccessProhibited)  # noqa: S101  # it is what a prohibition becomes
        return prohibition_of(event)
    except (Refusal, NameTakenError) as refusal:
        if refusal.code not in {"consent-exists", "name-taken"} or not repeatable:
            raise
    state = (await world.facts.facts(command.patient)).state
    found = next((one for one in state.prohibitions if one.id == command.prohibition), None)
    if found is None or await found_forbidden(found, command, at=at, world=world):
        why = "the key was used for something else, or for a prohibition that is listed no longer"
        raise Refusal("idempotency-key-reused", why, status=422)
    return found


async def found_forbidden(
    found: Prohibition, command: Forbid, *, at: datetime, world: World
) -> tuple[ProhibitionTerm, ...]:
    """Return in what a prohibition that is there already is not what is asked for; none: it is done.

    Raises:
        Refusal: `prohibition-lifted` or `prohibition-over` if it does not stand; `grantee-differs`,
            `role-without-member` or `unknown-grantee` if its party is not what the asker takes it for.
    """
    if not (differing := differing_prohibition(found, command, begun_by=at + CLOCK_SKEW_MAX)):
        require_still_forbids(found, at=at)
        if command.party is not None:
            kind = kind_of(command.party, await world.ring.catch_up())
            require_recipient(kind, expected=command.expected_kind, role=command.role)
    return differing


async def read_prohibition(patient: str, prohibition: str, *, actor: Actor, world: World) -> Prohibition:
    """Return a prohibition that is the actor's business; to everybody else there is none of that id."""
    known = await world.facts.facts(patient)
    found = found_prohibition(known.state, prohibition)
    if found not in visible_prohibitions(actor, known.state, known.subject):
        raise Refusal("unknown-prohibition", "there is no such prohibition", status=404)
    return found
