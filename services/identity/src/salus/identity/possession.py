"""A key joins only if its holder has signed that it should: see `salus.events.possession`."""

from __future__ import annotations

from datetime import datetime

from salus.events.catalogue import EventData, KeyAdded, PartyRegistered, PublicKey
from salus.events.possession import PossessionError, verify_possession
from salus.identity.domain import AddKey, Command, PartyState, Register
from salus.runtime.refusal import Refusal


def require_possession(command: Command, event: EventData, *, state: PartyState, at: datetime) -> None:
    """Raise a Refusal unless a proof came with every key that the event lets sign.

    Raises:
        Refusal: key-not-proven.
    """
    if not isinstance(command, Register | AddKey):
        return
    for key in _new_keys(event):
        proof = command.proofs.get(key.id)
        member = command.member if isinstance(command, Register) else state.member
        if proof is None:
            raise Refusal("key-not-proven", f"`proof` of {key.id} is missing: a JWS by that key", status=422)
        try:
            verify_possession(proof, key=key, member=member, at=at)
        except PossessionError as error:
            raise Refusal("key-not-proven", f"`proof` of {key.id}: {error}", status=422) from None


def _new_keys(event: EventData) -> tuple[PublicKey, ...]:
    match event:
        case PartyRegistered():
            return event.keys
        case KeyAdded():
            return (event.key,)
        case _:
            return ()
