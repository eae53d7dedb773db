"""Since when a key was in other hands: what everybody who folds the topic takes, and what not."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from tests.asking import UNASKED, truly_asked
from tests.unit.events.samples import (
    GOVERNOR,
    MEMBER,
    NOON,
    OTHER_GOVERNOR,
    ROOT,
    encoded,
    network_ring,
)

from salus.events.bearer import CLOCKS
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import KeyRevoked
from salus.events.doubt import REACH_MAX
from salus.events.effect import Applied, Effect, NoEffect, WithoutEffect
from salus.events.envelope import decode_event
from salus.events.keyring import KeyRing
from salus.events.signature import Signer

KEY = MEMBER.verification_method
NOT_ENTITLED = WithoutEffect(NoEffect.NOT_ENTITLED)


def revoked(
    ring: KeyRing,
    since: datetime | None,
    *,
    by: Signer = MEMBER,
    second: Signer | None = None,
    reason: str = "compromised",
    at: datetime = NOON,
) -> Effect:
    said = KeyRevoked(MEMBER.did, KEY, reason, since, request=UNASKED)  # type: ignore[arg-type]  # a reason
    value = encoded(
        truly_asked(said, by, at=at, second=second),
        source=ROOT.did,
        subject=MEMBER.did,
        time=at,
        expected_version=ring.versions.get(MEMBER.did, 0),
    )
    return ring.fold(decode_event(value, CATALOGUE), appended=NOON)


def in_doubt(ring: KeyRing, at: datetime) -> bool:
    return ring.doubted([KEY, "did:web:nobody#1"], at=at) == (KEY,)


def test_what_was_appended_since_then_is_in_doubt() -> None:
    ring, stolen = network_ring(), NOON - timedelta(days=2)

    assert isinstance(revoked(ring, stolen), Applied)
    assert in_doubt(ring, stolen)
    assert not in_doubt(ring, stolen - timedelta(milliseconds=1))
    # It stays judged as it was.
    assert ring.key_for(KEY, at=NOON)


def test_a_revocation_that_says_nothing_puts_nothing_in_doubt() -> None:
    ring = network_ring()

    assert isinstance(revoked(ring, None), Applied)
    assert not in_doubt(ring, NOON)


def test_whoever_has_identitys_key_reaches_no_further_by_dating_it_back() -> None:
    """Case C8-6: the reach was measured from the time that identity states."""
    stated = NOON - timedelta(days=8)
    since = stated - REACH_MAX

    assert revoked(network_ring(), since, at=stated) == NOT_ENTITLED
    assert isinstance(revoked(network_ring(), NOON - REACH_MAX, at=NOON - CLOCKS), Applied)


def test_a_key_that_was_revoked_is_doubted_later_and_only_more() -> None:
    ring, stolen = network_ring(), NOON - timedelta(days=2)
    revoked(ring, None, reason="rotated")

    def by_two(since: datetime) -> Effect:
        return revoked(ring, since, by=GOVERNOR, second=OTHER_GOVERNOR)

    assert isinstance(by_two(stolen), Applied)
    assert by_two(stolen) == NOT_ENTITLED
    assert by_two(stolen + timedelta(days=1)) == NOT_ENTITLED
    assert isinstance(by_two(stolen - timedelta(days=1)), Applied)
    assert ring.keys[KEY].doubted_since == stolen - timedelta(days=1)
    assert ring.keys[KEY].revoked_at == NOON


def test_more_than_a_month_back_is_for_two_operators() -> None:
    long_ago = NOON - REACH_MAX - timedelta(microseconds=1)
    for by in (MEMBER, GOVERNOR):
        ring = network_ring()
        assert revoked(ring, long_ago, by=by) == NOT_ENTITLED
        assert ring.keys[KEY].revoked_at is None
    ring = network_ring()
    assert isinstance(revoked(ring, long_ago, by=GOVERNOR, second=OTHER_GOVERNOR), Applied)


def test_of_another_members_key_it_is_for_two_operators() -> None:
    """Case C8-6: one operator put a month of a competitor in doubt, for ever."""
    ring, stolen = network_ring(), NOON - timedelta(days=2)

    assert revoked(ring, stolen, by=GOVERNOR) == NOT_ENTITLED
    # The revocation itself is his alone.
    assert isinstance(revoked(ring, None, by=GOVERNOR), Applied)
    assert not in_doubt(ring, NOON)
    assert isinstance(revoked(ring, stolen, by=GOVERNOR, second=OTHER_GOVERNOR), Applied)
    assert in_doubt(ring, NOON)


def test_only_of_a_stolen_key_and_not_of_what_is_to_come() -> None:
    assert revoked(network_ring(), NOON - timedelta(days=1), reason="rotated") == NOT_ENTITLED
    assert revoked(network_ring(), NOON + timedelta(microseconds=1)) == NOT_ENTITLED


@given(st.lists(st.integers(0, 40), max_size=6))
def test_doubt_never_gets_less(days: list[int]) -> None:
    ring, before = network_ring(), None
    for number in days:
        revoked(ring, NOON - timedelta(days=number), by=GOVERNOR, second=OTHER_GOVERNOR)
        now = ring.keys[KEY].doubted_since
        assert before is None or (now is not None and now <= before)
        before = now
    assert before == (NOON - timedelta(days=max(days)) if days else None)
