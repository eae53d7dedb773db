"""Whose key may sign what, and when."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.asking import NETWORK, UNASKED, truly_asked
from tests.unit.events.samples import (
    EVENING,
    MEMBER,
    MORNING,
    NOON,
    OTHER_MEMBER,
    ROOT,
    STRANGER,
    encoded,
    network_ring,
    party,
    public_key,
)

from salus.events import keyring
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import (
    KeyAdded,
    KeyRevoked,
    MemberReinstated,
    MemberSuspended,
    PartyRegistered,
    RoleGranted,
    RoleWithdrawn,
)
from salus.events.effect import NoEffect, WithoutEffect
from salus.events.envelope import decode_event
from salus.events.errors import Reason, RejectedError
from salus.events.keyring import KeyRing
from salus.events.parties import Founder


def reason(ring: KeyRing, key_id: str, at: object = NOON) -> Reason | None:
    try:
        ring.key_for(key_id, at=at)  # type: ignore[arg-type]  # a moment
    except RejectedError as error:
        return error.reason
    return None


def test_a_new_ring_knows_the_root_alone() -> None:
    ring = KeyRing.rooted(CATALOGUE, network=NETWORK, did=ROOT.did, key=public_key(ROOT))

    assert reason(ring, ROOT.verification_method) is None
    assert ring.parties[ROOT.did].roles == {"identity"}
    assert reason(ring, MEMBER.verification_method) is Reason.UNKNOWN_KEY


def test_a_key_is_valid_from_its_first_moment_and_before_its_last() -> None:
    ring = KeyRing(CATALOGUE, NETWORK)
    ring.apply(party(STRANGER, valid_from=MORNING, valid_until=EVENING))
    key = STRANGER.verification_method

    assert reason(ring, key, MORNING) is None
    assert reason(ring, key, EVENING) is Reason.KEY_EXPIRED
    assert reason(ring, key, MORNING.replace(hour=5)) is Reason.KEY_NOT_YET_VALID


def test_a_revoked_key_never_comes_back() -> None:
    ring = network_ring()
    key = public_key(MEMBER)
    ring.apply(KeyRevoked(did=MEMBER.did, key_id=key.id, reason="rotated", request=UNASKED))
    ring.apply(KeyAdded(did=MEMBER.did, key=key, request=UNASKED))
    ring.apply(party(MEMBER))

    assert reason(ring, key.id) is Reason.KEY_REVOKED


def test_what_a_key_signed_before_its_revocation_stays_judged_as_it_was() -> None:
    ring, key = network_ring(), MEMBER.verification_method
    revoked = KeyRevoked(did=MEMBER.did, key_id=key, reason="left", request=UNASKED)
    value = encoded(
        truly_asked(revoked, MEMBER, at=NOON),
        source=ROOT.did,
        subject=MEMBER.did,
        time=NOON,
    )
    ring.fold(decode_event(value, CATALOGUE), appended=NOON)

    assert reason(ring, key, NOON) is None
    assert reason(ring, key, NOON + timedelta(milliseconds=1)) is Reason.KEY_REVOKED
    assert ring.time == NOON


def test_a_second_revocation_does_not_move_the_first() -> None:
    ring, key = network_ring(), MEMBER.verification_method
    ring.apply(KeyRevoked(did=MEMBER.did, key_id=key, reason="left", request=UNASKED), at=MORNING)
    ring.apply(KeyRevoked(did=MEMBER.did, key_id=key, reason="left", request=UNASKED), at=EVENING)

    assert reason(ring, key, NOON) is Reason.KEY_REVOKED


def test_nobody_revokes_or_holds_the_key_of_another() -> None:
    ring = network_ring()
    ring.apply(
        KeyRevoked(
            did=OTHER_MEMBER.did, key_id=MEMBER.verification_method, reason="compromised", request=UNASKED
        )
    )
    ring.apply(KeyAdded(did=OTHER_MEMBER.did, key=public_key(STRANGER), request=UNASKED))
    ring.apply(KeyAdded(did=STRANGER.did, key=public_key(STRANGER), request=UNASKED))

    assert reason(ring, MEMBER.verification_method) is None
    assert reason(ring, STRANGER.verification_method) is Reason.UNKNOWN_KEY


def test_a_key_that_is_no_key_is_left_out() -> None:
    ring = network_ring()
    ring.apply(
        KeyAdded(
            did=MEMBER.did, key=public_key(MEMBER, id=f"{MEMBER.did}#2", multibase="z6Mk"), request=UNASKED
        )
    )

    assert reason(ring, f"{MEMBER.did}#2") is Reason.UNKNOWN_KEY


def test_roles_come_and_go() -> None:
    ring = network_ring()
    ring.apply(RoleGranted(did=MEMBER.did, role="operator", request=UNASKED))
    assert ring.parties[MEMBER.did].roles == {"operator"}
    ring.apply(RoleWithdrawn(did=MEMBER.did, role="operator", request=UNASKED))
    ring.apply(RoleGranted(did=STRANGER.did, role="operator", request=UNASKED))

    assert ring.parties[MEMBER.did].roles == set()
    assert STRANGER.did not in ring.parties


def test_while_her_member_is_suspended_somebody_has_the_role_of_a_patient_alone() -> None:
    # She kept records and reviewed as an officer; whoever judges what she did goes by what she was then.
    ring, member = network_ring(), MEMBER.did
    joined = PartyRegistered(
        STRANGER.did,
        "person",
        (public_key(STRANGER),),
        ("patient", "privacy-officer"),
        member,
        request=UNASKED,
    )
    ring.apply(joined, at=MORNING)
    ring.apply(MemberSuspended(member, "inquiry", request=UNASKED), at=NOON)
    ring.apply(MemberReinstated(member, "unfounded", request=UNASKED), at=EVENING)
    later = timedelta(milliseconds=1)
    times = (NOON, NOON + later, EVENING, EVENING + later)

    roles = [set(ring.party_at(STRANGER.did, at).roles) for at in times]

    both = {"patient", "privacy-officer"}
    # Meanwhile she acts for nobody: what patients allow the member is not hers (case redA8 11).
    assert [ring.party_at(STRANGER.did, at).member for at in times] == [member, None, None, member]
    assert roles == [both, {"patient"}, {"patient"}, both]
    assert ring.party_between(STRANGER.did, NOON + later, EVENING).roles == {"patient"}
    assert [one.roles for one in ring.parties_between(STRANGER.did, NOON, EVENING + later)] == [
        both,
        {"patient"},
        both,
    ]


@pytest.mark.parametrize(("version", "applied"), [(0, True), (1, False)])
def test_an_event_that_expects_another_version_changes_nothing(version: int, applied: bool) -> None:  # noqa: FBT001  # a column
    ring = network_ring()
    ring.founders[STRANGER.did] = Founder(STRANGER.did, "member", (), public_key(STRANGER))
    value = encoded(party(STRANGER), source=ROOT.did, expected_version=version)
    ring.fold(decode_event(value, CATALOGUE), appended=NOON)

    assert (STRANGER.did in ring.parties) is applied


# redA6: one record that a rule raised at ended every process that folds identity, at each start.
@pytest.mark.parametrize("error", [AttributeError, KeyError, TypeError, ZeroDivisionError])
def test_a_fact_that_a_rule_fails_on_has_no_effect(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("a rule did not think of this")

    monkeypatch.setattr(keyring, "objection_to_event", fail)
    ring = network_ring()
    value = encoded(party(STRANGER), source=ROOT.did, expected_version=0)

    effect = ring.fold(decode_event(value, CATALOGUE), appended=NOON, offset=7)

    assert effect == WithoutEffect(NoEffect.NOT_ENTITLED)
    assert ring.unentitled[7].code == "not-judged"
    assert STRANGER.did not in ring.parties
