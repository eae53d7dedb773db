"""Whether operators asked for what governs the network and is no fact of identity: everybody judges it alike.

Such an event stands on the topic of another service, so who is operator is asked of the key ring as of when
the broker appended the event. Without the right the record is refused, whoever signed it: the service's key
alone governs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from salus.events.keyring import KeyRing
from salus.events.parties import Operator, Party
from salus.events.rights import Objection

SECONDED = 2
"""So many operators, of different organisations, for what changes what everybody is allowed."""


def objection_to_governing(
    operators: int, *, by: str, second: str | None, ring: KeyRing, at: datetime
) -> Objection | None:
    """Return why these two may not ask for what needs so many operators; None: they may.

    `second` is whose approval was verified. Where no operator of another organisation can sign, nobody could
    approve: there one operator acts alone, as with identity's facts.
    """
    asker = _party_at(by, ring, at)
    if asker is None or not _governs(asker):
        return Objection("not-permitted", "only operators of the network may ask for it")
    if operators < SECONDED:
        return None
    approver = None if second is None else _party_at(second, ring, at)
    if approver is not None and _governs(approver) and _organisation(approver) != _organisation(asker):
        return None
    if not any(o.signs and o.organisation != _organisation(asker) for o in operators_at(ring, at)):
        return None
    return Objection("second-operator-needed", "an operator of another organisation must approve it")


def operators_at(ring: KeyRing, at: datetime) -> Iterator[Operator]:
    """Yield who held the role of operator at a moment, and whether they had a key that could sign then."""
    for did in ring.parties:
        party = _party_at(did, ring, at)
        if party is not None and _governs(party):
            keys = [key for key in ring.keys.values() if key.did == did and key.is_known(at=at)]
            standing = [key for key in keys if not key.is_revoked(at=at)]
            yield Operator(
                did,
                _organisation(party),
                signs=any(key.valid_until is None or at < key.valid_until for key in standing),
                endures=any(key.valid_until is None and key.valid_from <= at for key in standing),
            )


def _party_at(did: str, ring: KeyRing, at: datetime) -> Party | None:
    return ring.party_at(did, at) if did in ring.parties else None


def _governs(party: Party) -> bool:
    return "operator" in party.roles


def _organisation(party: Party) -> str:
    return party.member or party.did
