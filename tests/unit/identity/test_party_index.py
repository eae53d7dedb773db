"""The index of parties says what looking through all of them says, however they came."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st
from tests.founding import public_key

from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import KeyAdded, PartyRegistered, PublicKey
from salus.events.did import LocalSigner, key_of
from salus.events.keyring import KeyRing
from salus.events.requests import Request
from salus.identity.party_index import PartyIndex

NOW = datetime(2026, 11, 29, tzinfo=UTC)
DIDS = [
    "did:web:a.example",
    "did:web:a%2Eexample",
    "did:web:%61.example",
    "did:web:b.example",
    "did:web:c.example",
]
KEYS = [public_key(LocalSigner.from_seed(bytes([n]) * 32)).multibase for n in range(3)]
ASKED = Request.of_service(DIDS[0])
STEPS = st.lists(st.tuples(st.sampled_from(DIDS), st.integers(0, 2), st.booleans()), max_size=12)


def key(did: str, number: int, name: str) -> PublicKey:
    return PublicKey(f"{did}#{name}", KEYS[number], NOW)


@given(steps=STEPS)
def test_an_index_that_grew_says_what_a_search_says(steps: list[tuple[str, int, bool]]) -> None:
    ring, index = KeyRing(CATALOGUE), PartyIndex()
    for place, (did, number, looked) in enumerate(steps):
        held = key(did, number, str(place))
        if did in ring.parties:
            ring.apply(KeyAdded(did, held, request=ASKED), at=NOW)
        else:
            ring.apply(PartyRegistered(did, "member", (held,), request=ASKED), at=NOW)
        if looked:
            index.of(ring)
    index.of(ring)

    assert [*index.after(None)] == sorted(ring.parties)
    for did in DIDS:
        assert [*index.after(did)] == sorted(other for other in ring.parties if other > did)
        alike = {other for other in ring.parties if other != did and unquote(other) == unquote(did)}
        looked_up = index.lookalike_of(did)
        assert looked_up in alike if alike else looked_up is None
        for number, multibase in enumerate(KEYS):
            public = key(did, number, "x")
            holders = {k.did for k in ring.keys.values() if k.key.public_bytes_raw() == raw(multibase)} - {
                did
            }
            found = index.held_elsewhere(did=did, keys=[public]).get(multibase)
            assert found in holders if holders else found is None


def raw(multibase: str) -> bytes:
    return key_of(multibase).public_bytes_raw()
