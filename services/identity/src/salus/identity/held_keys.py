"""A key of a party, as folded from the events that are about it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from salus.events.contexts.identity import KeyRevoked, PublicKey
from salus.events.doubt import earlier_of

RevocationReason = Literal["rotated", "compromised", "left", "unspecified"]


class HeldKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key of a party; once revoked it stays in the list, for a key id stands for one key for ever.

    What it signed from `doubted_since` on is in doubt: it may have been in other hands.
    """

    id: str
    multibase: str
    valid_from: datetime
    valid_until: datetime | None = None
    revoked: RevocationReason | None = None
    doubted_since: datetime | None = None

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


def held_key(key: PublicKey) -> HeldKey:
    """Return a key as its party holds it from now on."""
    return HeldKey(id=key.id, multibase=key.multibase, valid_from=key.valid_from, valid_until=key.valid_until)
