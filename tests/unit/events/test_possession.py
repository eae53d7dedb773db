"""A key is registered by whoever shows to hold it: what a proof says, and what it cannot be used for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.asking import NETWORK

from salus.client.auth import make_bearer, make_possession
from salus.events.bearer import BearerError, audience_of, read_bearer
from salus.events.contexts.identity import PublicKey
from salus.events.did import LocalSigner, multibase_of
from salus.events.possession import PossessionError, verify_possession

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DID, MEMBER = "did:web:h.example:staff:17", "did:web:h.example"
SIGNER = LocalSigner.from_seed(b"s" * 32, f"{DID}#1")
KEY = PublicKey(f"{DID}#1", multibase_of(SIGNER.public_key), NOW)
PROOF = make_possession(SIGNER, member=MEMBER, network=NETWORK, now=NOW)


def test_the_holder_of_a_key_proves_that_it_joins() -> None:
    verify_possession(PROOF, key=KEY, member=MEMBER, network=NETWORK, at=NOW + timedelta(days=6))


@pytest.mark.parametrize(
    ("proof", "key", "member", "at", "why"),
    [
        (PROOF, KEY, None, NOW, "another member"),
        (make_possession(SIGNER, member=MEMBER, network="other", now=NOW), KEY, MEMBER, NOW, "aud is not"),
        (PROOF, KEY, "did:web:thief.example", NOW, "another member"),
        (PROOF, PublicKey("did:web:thief.example#1", KEY.multibase, NOW), MEMBER, NOW, "another key id"),
        (PROOF, PublicKey(f"{DID}#2", KEY.multibase, NOW), MEMBER, NOW, "another key id"),
        (
            make_possession(
                LocalSigner.from_seed(b"x" * 32, KEY.id), member=MEMBER, network=NETWORK, now=NOW
            ),
            KEY,
            MEMBER,
            NOW,
            "not signed by the key",
        ),
        (PROOF, KEY, MEMBER, NOW + timedelta(days=8), "not of now"),
        (PROOF, KEY, MEMBER, NOW - timedelta(minutes=1), "not of now"),
        (
            make_possession(SIGNER, member=MEMBER, network=NETWORK, now=NOW, lifetime_s=10**7),
            KEY,
            MEMBER,
            NOW,
            "too long",
        ),
        ("a.b.c", KEY, MEMBER, NOW, "no proof"),
        (make_bearer(SIGNER, audience_of("identity", NETWORK), now=NOW), KEY, None, NOW, "aud is not"),
        (
            PROOF[:-2] + ("A" if PROOF[-2] != "A" else "Q") + PROOF[-1],
            KEY,
            MEMBER,
            NOW,
            "no proof|not signed",
        ),
    ],
)
def test_a_proof_is_of_one_key_for_one_id_and_one_member(
    proof: str, key: PublicKey, member: str | None, at: datetime, why: str
) -> None:
    with pytest.raises(PossessionError, match=why):
        verify_possession(proof, key=key, member=member, network=NETWORK, at=at)


def test_a_proof_is_no_bearer() -> None:
    own = make_possession(SIGNER, network=NETWORK, now=NOW)
    with pytest.raises(BearerError, match="another service"):
        read_bearer(own, audience=audience_of("identity", NETWORK), lifetime_s_max=10**9)
    with pytest.raises(BearerError, match="a claim that a token of ours does not have"):
        read_bearer(PROOF, audience=audience_of("identity", NETWORK), lifetime_s_max=10**9)
