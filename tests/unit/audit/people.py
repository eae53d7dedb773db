"""Who belongs to the tests' network before its first event, and people who join it as they may."""

from __future__ import annotations

from hashlib import sha256

from tests.asking import NETWORK, UNASKED, proofs_of, truly_asked
from tests.unit.audit.samples import IDENTITY, MEMBER, NOON

from salus.audit.domain.identity_history import IdentityHistory
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import PartyKind, PartyRegistered, PublicKey
from salus.events.did import LocalSigner, multibase_of
from salus.events.fields import RoleName
from salus.events.keyring import KeyRing
from salus.events.parties import Founder
from salus.events.requests import Request

OPERATOR = "did:key:z6MkoperatorOperatorOperatorOperatorOperatorO"


def signer_of(did: str) -> LocalSigner:
    return LocalSigner.from_seed(sha256(did.encode()).digest(), f"{did}#k")


def key_of(did: str) -> PublicKey:
    return PublicKey(id=f"{did}#k", multibase=multibase_of(signer_of(did).public_key), valid_from=NOON)


def new_ring() -> KeyRing:
    """Return the ring before the first event: it knows a member and an operator, whom it may also hear of."""
    founders = [
        Founder(MEMBER, "member", (), key_of(MEMBER)),
        Founder(OPERATOR, "person", ("operator",), key_of(OPERATOR)),
    ]
    ring = KeyRing.rooted(CATALOGUE, network=NETWORK, did=IDENTITY, key=key_of(IDENTITY), founders=founders)
    ring.apply(founding(MEMBER, "member"))
    ring.apply(founding(OPERATOR, "person", ("operator",)))
    return ring


def founding(did: str, kind: PartyKind, roles: tuple[RoleName, ...] = ()) -> PartyRegistered:
    """Return what identity states of somebody whom the network file names."""
    return PartyRegistered(did, kind, (key_of(did),), roles, request=Request.of_service(IDENTITY))


def joining(
    did: str,
    *,
    roles: tuple[RoleName, ...] = ("clinician",),
    member: str | None = MEMBER,
    by: str = MEMBER,
) -> PartyRegistered:
    """Return a person's registration, as truly asked for by the member or somebody else."""
    data = PartyRegistered(did, "person", (key_of(did),), roles, member, request=UNASKED)
    return truly_asked(data, signer_of(by), at=NOON, proofs=proofs_of(signer_of(did), member=member, at=NOON))


def nobody() -> IdentityHistory:
    """The history of a network without anybody."""
    return IdentityHistory(KeyRing(CATALOGUE, NETWORK))
