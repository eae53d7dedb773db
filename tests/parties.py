"""Parties whose keys a test holds: what identity states of them, truly asked for."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from tests.asking import UNASKED, proofs_of, truly_asked
from tests.founding import public_key

from salus.contracts.testing.host_promises import key_id
from salus.events.contexts.identity import KeyAdded, PartyKind, PartyRegistered
from salus.events.did import LocalSigner
from salus.events.requests import Request


class Parties:
    """Parties with one key each, which ask for more."""

    def __init__(self) -> None:
        self.signers: dict[str, LocalSigner] = {}
        # Seeds of the keys that were asked for, by their ids.
        self.seeds: dict[str, bytes] = {}

    def made(self) -> LocalSigner:
        """Return a new party, which is not registered yet."""
        signer = LocalSigner.from_seed(os.urandom(32))
        self.signers[signer.did] = signer
        return signer

    def key_added(
        self, party: str, name: str, *, seed: bytes | None = None, asker: str | None = None, second: str = ""
    ) -> KeyAdded:
        """Return what the party asks for, or an operator that a second one approves of: one more key."""
        self.seeds[key_id(party, name)] = seed = seed or os.urandom(32)
        holder, now = LocalSigner.from_seed(seed, key_id(party, name)), datetime.now(UTC)
        return truly_asked(
            KeyAdded(did=party, key=public_key(holder), request=UNASKED),
            self.signers[asker or party],
            at=now,
            proofs=proofs_of(holder, at=now),
            second=self.signers.get(second),
        )


def founded(
    party: LocalSigner, *, root: str, kind: PartyKind = "member", roles: tuple[str, ...] = ()
) -> PartyRegistered:
    """Return what the root states as it founds the network."""
    request = Request.of_service(root)
    return PartyRegistered(party.did, kind, (public_key(party),), roles, request=request)
