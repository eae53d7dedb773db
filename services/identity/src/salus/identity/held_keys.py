"""A key of a party, as folded from the events that are about it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from salus.events.contexts.identity import KeyRevoked, PublicKey
from salus.events.doubt import earlier_of
from salus.events.jws import JwsError, split_jws
from salus.events.requests import Request

RevocationReason = Literal["rotated", "compromised", "left", "unspecified"]


class HeldKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key of a party; once revoked it stays in the list, for a key id stands for one key for ever.

    What it signed from `doubted_since` on is in doubt: it may have been in other hands. Its party has it by a
    request that the key `asked_by` signed; None: nobody asked, as for those of the network's founding.
    """

    id: str
    multibase: str
    valid_from: datetime
    valid_until: datetime | None = None
    revoked: RevocationReason | None = None
    doubted_since: datetime | None = None
    asked_by: str | None = None

    def may_sign(self, at: datetime) -> bool:
        """Tell whether the key is usable now or later: not revoked and not past its end."""
        return self.revoked is None and (self.valid_until is None or at < self.valid_until)

    def endures(self, at: datetime) -> bool:
        """Tell whether the key signs now, and will for ever unless it is revoked."""
        return self.revoked is None and self.valid_from <= at and self.valid_until is None

    def after(self, event: KeyRevoked) -> HeldKey:
        """Return the key after a revocation, which may be a second one: it was stolen earlier."""
        reason = event.reason if self.revoked is None or event.since is not None else self.revoked
        since = earlier_of(self.doubted_since, event.since)
        return msgspec.structs.replace(self, revoked=reason, doubted_since=since)


def held_key(key: PublicKey, request: Request) -> HeldKey:
    """Return a key as its party holds it from now on, by a request that was judged."""
    return HeldKey(
        id=key.id,
        multibase=key.multibase,
        valid_from=key.valid_from,
        valid_until=key.valid_until,
        asked_by=_asking_key(request),
    )


def _asking_key(request: Request) -> str | None:
    """Return the key that signed a request; None if nobody asked, or by a proof of another form."""
    try:
        return None if request.proof is None else split_jws(request.proof).header.kid
    except JwsError:
        return None
