"""Parties and their keys, as whoever judges knows them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from salus.events.contexts.identity import PartyKind, PartyRegistered, PublicKey
from salus.events.errors import Reason, RejectedError
from salus.events.verification_keys import VerificationKey


@dataclass(frozen=True, slots=True)
class Party:
    """Who controls a key: the DID, what kind of party it is, its roles and the member it acts for."""

    did: str
    kind: PartyKind
    roles: frozenset[str]
    member: str | None


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A public key and when it may sign: from `valid_from` on and before `valid_until`, as its holder said.

    `known_at` and `revoked_at` are when the broker appended that it joined, and that it was revoked. Both
    count after that moment: what was appended in the same millisecond may stand before or after it. What it
    signed that was appended at `doubted_since` or later is in doubt: it may have been somebody else.
    """

    key: VerificationKey
    did: str
    known_at: datetime
    valid_from: datetime
    valid_until: datetime | None
    revoked_at: datetime | None = None
    doubted_since: datetime | None = None

    def is_known(self, *, at: datetime) -> bool:
        """Tell whether it had joined before."""
        return self.known_at < at

    def is_revoked(self, *, at: datetime) -> bool:
        """Tell whether it was revoked before."""
        return self.revoked_at is not None and self.revoked_at < at

    def is_in_doubt(self, *, at: datetime) -> bool:
        """Tell whether what it signed, and was appended at that moment, may be somebody else's."""
        return self.doubted_since is not None and self.doubted_since <= at

    def require_in_time(self, *, at: datetime) -> None:
        """Raise RejectedError (KEY_NOT_YET_VALID, KEY_EXPIRED) outside the time that its holder said."""
        if at < self.valid_from:
            raise RejectedError(Reason.KEY_NOT_YET_VALID)
        if self.valid_until is not None and at >= self.valid_until:
            raise RejectedError(Reason.KEY_EXPIRED)


@dataclass(frozen=True, slots=True)
class Founder:
    """A party that the network file names: identity registers it though nobody asks."""

    did: str
    kind: PartyKind
    roles: tuple[str, ...]
    key: PublicKey

    def is_(self, said: PartyRegistered) -> bool:
        """Tell whether a registration says what the network file says."""
        stated = (said.did, said.kind, set(said.roles), said.keys, said.member)
        return stated == (self.did, self.kind, set(self.roles), (self.key,), None)


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator of the network. `organisation` is the member it acts for, or itself if there is none.

    `signs`: it has a key that signs now or will. `endures`: it has a key that signs now and has no end.
    """

    did: str
    organisation: str
    signs: bool = True
    endures: bool = True


def operators_of(
    governing: Iterable[Party], keys_of: Callable[[str], Collection[KnownKey]], *, at: datetime
) -> list[Operator]:
    """Return whether those who hold the role of operator can sign; `keys_of` has a party's unrevoked keys."""
    return [
        Operator(
            party.did,
            organisation=party.member or party.did,
            signs=any(key.valid_until is None or at < key.valid_until for key in keys_of(party.did)),
            endures=any(key.valid_until is None and key.valid_from <= at for key in keys_of(party.did)),
        )
        for party in governing
    ]
