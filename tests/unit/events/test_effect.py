"""The one rule of effect: an event takes effect once, at its version, with names that nobody claimed."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from hypothesis import given
from hypothesis import strategies as st
from tests.asking import NETWORK, UNASKED, proofs_of, truly_asked
from tests.unit.events.samples import MEMBER, NOON, OTHER_MEMBER, PATIENT, ROOT, encoded, party, public_key

from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import AccessDecided, GlassBroken
from salus.events.contexts.identity import KeyAdded, KeyRevoked, PartyRegistered, RoleGranted, RoleWithdrawn
from salus.events.contexts.network import KeyRotated
from salus.events.contexts.storage import ObjectRead, ReadBrokenOff, ReadRefused
from salus.events.did import LocalSigner, multibase_of
from salus.events.effect import Applied, Effect, NoEffect, WithoutEffect, claims_of, effect_of
from salus.events.envelope import Event, decode_event
from salus.events.event_types import EventData
from salus.events.keyring import KeyRing


@dataclass
class Fold:
    """What the rule needs, as any fold keeps it."""

    versions: dict[str, int] = field(default_factory=dict)
    claims: set[str] = field(default_factory=set)

    def fold(self, event: Event, is_entitled: bool = True) -> Effect:  # noqa: FBT001, FBT002  # what the ring says
        subject = event.envelope.subject
        effect = effect_of(
            event,
            version=self.versions.get(subject, 0),
            is_claimed=self.claims.__contains__,
            is_entitled=lambda: is_entitled,
        )
        if isinstance(effect, Applied):
            self.versions[subject] = effect.version
            self.claims |= set(claims_of(event))
        return effect


def event(data: EventData, *, version: int | None = 0, subject: str = MEMBER.did, **facts: Any) -> Event:
    return decode_event(
        encoded(data, source=ROOT.did, subject=subject, expected_version=version, **facts), CATALOGUE
    )


def registered(signer: Any = MEMBER, key: Any = None) -> PartyRegistered:
    keys = (public_key(key or signer, id=f"{signer.did}#key"),)
    return PartyRegistered(did=signer.did, kind="member", keys=keys, request=UNASKED)


def test_of_commands_that_raced_the_first_takes_effect() -> None:  # case SEC3
    fold = Fold()
    effects = [
        fold.fold(event(registered())),
        fold.fold(event(RoleGranted(did=MEMBER.did, role="operator", request=UNASKED), version=1)),
        fold.fold(event(RoleGranted(did=MEMBER.did, role="patient", request=UNASKED), version=1)),
    ]

    assert effects == [Applied(1), Applied(2), WithoutEffect(NoEffect.STALE)]


def test_a_replay_changes_nothing() -> None:  # cases SEC3, replayed facts; security.md, medium: folds
    fold, fact = Fold(), event(registered())

    assert fold.fold(fact) == Applied(1)
    assert fold.fold(fact) == WithoutEffect(NoEffect.STALE)


def test_one_public_key_is_of_one_party_however_they_race() -> (
    None
):  # "One public key for two parties by race"
    fold = Fold()
    mine = event(registered(MEMBER, key=MEMBER))
    theirs = event(registered(OTHER_MEMBER, key=MEMBER), subject=OTHER_MEMBER.did)

    assert fold.fold(mine) == Applied(1)
    assert fold.fold(theirs) == WithoutEffect(NoEffect.NAME_TAKEN)


def test_of_dids_that_are_equal_once_decoded_one_registers() -> None:  # case D3
    fold = Fold()
    effects = []
    for did, signer in (("did:web:h.example%3A8443", MEMBER), ("did:web:h.example:8443", OTHER_MEMBER)):
        keys = (public_key(signer, id=f"{did}#key"),)
        data = PartyRegistered(did=did, kind="member", keys=keys, request=UNASKED)
        effects.append(fold.fold(event(data, subject=did)))

    assert tuple(effects) == (Applied(1), WithoutEffect(NoEffect.NAME_TAKEN))


def test_a_statement_that_claims_a_name_counts_once() -> None:
    fold = Fold()
    rotated = event(
        KeyRotated(name="log", role="log", verifier_key="k", first=3), version=None, subject="log"
    )

    assert fold.fold(rotated) == Applied(0)
    assert fold.fold(rotated) == WithoutEffect(NoEffect.NAME_TAKEN)


def test_one_request_makes_one_change() -> None:  # case SEC6
    fold, key = Fold(), public_key(OTHER_MEMBER, id=f"{MEMBER.did}#2")
    granted = truly_asked(RoleGranted(did=MEMBER.did, role="patient", request=UNASKED), MEMBER, at=NOON)
    withdrawn = RoleWithdrawn(did=MEMBER.did, role="patient", request=UNASKED)
    added = KeyAdded(did=MEMBER.did, key=key, request=UNASKED)
    history = [granted, truly_asked(withdrawn, MEMBER, at=NOON), truly_asked(added, MEMBER, at=NOON)]
    effects = [fold.fold(event(data, version=version)) for version, data in enumerate(history)]

    assert effects == [Applied(1), Applied(2), Applied(3)]
    assert fold.fold(event(granted, version=3)) == WithoutEffect(NoEffect.NAME_TAKEN)


ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def twin(token: str) -> str:
    """Return the token with the other signature (r, n - s) that verifies as well."""
    signed, _, signature = token.rpartition(".")
    raw = urlsafe_b64decode(f"{signature}==")
    other = raw[:32] + (ORDER - int.from_bytes(raw[32:])).to_bytes(32)
    return f"{signed}.{urlsafe_b64encode(other).rstrip(b'=').decode()}"


@pytest.mark.parametrize("field", ["proof", "approval"])
def test_the_twin_of_a_p_256_signature_is_no_other_request_or_approval(field: str) -> None:
    """Case redC8 8: one operator did again alone what two had done once, without any key."""
    phone, fold = LocalSigner(derive_private_key(7, SECP256R1())), Fold()
    granted = RoleGranted(did=MEMBER.did, role="patient", request=UNASKED)
    first = truly_asked(granted, phone, at=NOON, second=phone)
    request = msgspec.structs.replace(first.request, **{field: twin(getattr(first.request, field))})
    other = "approval" if field == "proof" else "proof"
    request = msgspec.structs.replace(request, **{other: getattr(again(granted, phone).request, other)})
    second = msgspec.structs.replace(first, request=request)

    assert getattr(second.request, field) != getattr(first.request, field)
    assert fold.fold(event(first, version=0)) == Applied(1)
    assert fold.fold(event(second, version=1)) == WithoutEffect(NoEffect.NAME_TAKEN)


def again(data: RoleGranted, by: LocalSigner) -> RoleGranted:
    """Return the same, asked for and approved anew."""
    return truly_asked(data, by, at=NOON, second=by)


QUESTION = AccessDecided(
    decision="d-1",
    principal=MEMBER.did,
    action="read",
    object="o-1",
    patient=PATIENT,
    purpose="TREAT",
    allowed=True,
    reasons=("a",),
    policy_set="0" * 64,
    inputs="0" * 64,
    decided_at=NOON,
    state_positions=(),
    epoch=0,
    valid_until=NOON,
    request=UNASKED,
)
READ = ObjectRead(
    object="o-1", patient=PATIENT, reader=MEMBER.did, decision="d-1", purpose="TREAT", request=UNASKED
)


def of_patient(data: EventData, version: int | None = None) -> Event:
    return event(data, version=version, subject=PATIENT)


def test_a_token_that_was_read_on_the_topic_gets_nothing_from_another_replica() -> None:  # case X7
    fold = Fold()
    asked, read = truly_asked(QUESTION, MEMBER, at=NOON), truly_asked(READ, MEMBER, at=NOON)
    refused = ReadRefused(
        object="o-1", patient=PATIENT, reader=MEMBER.did, reason="no-decision", request=read.request
    )
    again = msgspec.structs.replace(asked, decision="d-2")

    assert [fold.fold(of_patient(data)) for data in (asked, read)] == [Applied(0), Applied(0)]
    for replayed in (again, read, refused):
        assert fold.fold(of_patient(replayed)) == WithoutEffect(NoEffect.NAME_TAKEN)
    assert fold.fold(of_patient(truly_asked(READ, MEMBER, at=NOON))) == Applied(0)


def test_what_accompanies_a_fact_of_the_same_request_is_stated_once_besides() -> None:
    fold = Fold()
    question = msgspec.structs.replace(QUESTION, purpose="ETREAT", break_glass=True)
    alarm = GlassBroken(
        decision="d-1",
        principal=MEMBER.did,
        object="o-1",
        patient=PATIENT,
        reason="other",
        valid_until=NOON,
        request=UNASKED,
    )
    alarm = truly_asked(alarm, MEMBER, at=NOON)
    question = msgspec.structs.replace(question, request=alarm.request)
    read = truly_asked(READ, MEMBER, at=NOON)
    broken_off = ReadBrokenOff(
        object="o-1",
        patient=PATIENT,
        reader=MEMBER.did,
        decision="d-1",
        reason="erased",
        sent_bytes=1,
        request=read.request,
    )

    assert fold.fold(of_patient(alarm, 0)) == Applied(1)
    assert [fold.fold(of_patient(data)) for data in (question, read, broken_off)] == [Applied(1)] * 3
    for replayed, version in ((alarm, 1), (question, None), (broken_off, None)):
        assert fold.fold(of_patient(replayed, version)) == WithoutEffect(NoEffect.NAME_TAKEN)


def test_whatever_makes_something_of_a_name_claims_it() -> None:
    claiming = {entry.name.split(".")[2] for entry in CATALOGUE.types() if entry.claims is not None}

    assert claiming == {
        "access-prohibited",
        "access-decided",
        "party-registered",
        "key-added",
        "session-opened",
        "consent-granted",
        "glass-broken",
        "glass-break-reviewed",
        "review-overdue",
        "case-opened",
        "case-decided",
        "permit-proposed",
        "permit-used",
        "subject-registered",
        "object-stored",
        "key-rotated",
        "key-retired",
    }


OPERATOR = LocalSigner.from_seed(b"oper" * 8)


def founded() -> KeyRing:
    """The ring of a network of one operator, who asks for everything."""
    ring = KeyRing.rooted(CATALOGUE, network=NETWORK, did=ROOT.did, key=public_key(ROOT))
    ring.apply(party(OPERATOR, "person", ["operator"]))
    return ring


def asked_for(data: Any) -> Any:
    """The same fact as the operator asks for it, with proofs of whatever keys are in it."""
    keys = (
        data.keys if isinstance(data, PartyRegistered) else (data.key,) if isinstance(data, KeyAdded) else ()
    )
    signers = [
        LocalSigner.from_seed(seed, key.id)
        for key in keys
        for seed in (b"memb" * 8, b"othr" * 8)
        if multibase_of(LocalSigner.from_seed(seed).public_key) == key.multibase
    ]
    return truly_asked(data, OPERATOR, at=NOON, proofs=proofs_of(*signers, at=NOON))


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Events of two parties in any order, with any expectation, some of them twice, some without right."""
    made = []
    for number in range(draw(st.integers(1, 12))):
        signer = draw(st.sampled_from([MEMBER, OTHER_MEMBER]))
        key = public_key(draw(st.sampled_from([MEMBER, OTHER_MEMBER])), id=f"{signer.did}#{number % 3}")
        held = public_key(draw(st.sampled_from([MEMBER, OTHER_MEMBER])), id=f"{signer.did}#key")
        data = draw(
            st.sampled_from(
                [
                    PartyRegistered(did=signer.did, kind="person", keys=(held,), request=UNASKED),
                    KeyAdded(did=signer.did, key=key, request=UNASKED),
                    KeyRevoked(did=signer.did, key_id=key.id, reason="left", request=UNASKED),
                    RoleGranted(did=signer.did, role="patient", request=UNASKED),
                    RoleGranted(did=signer.did, role="operator", request=UNASKED),
                    RoleWithdrawn(did=signer.did, role="patient", request=UNASKED),
                ]
            )
        )
        data = asked_for(data) if draw(st.integers(0, 9)) else data
        version = draw(st.integers(0, 4))
        made.append(event(data, subject=signer.did, version=version, number=number))
    return draw(st.permutations(made + draw(st.lists(st.sampled_from(made), max_size=4))))


@given(histories())
def test_the_key_ring_goes_by_the_rule_that_every_fold_goes_by(history: list[Event]) -> None:
    ring, fold = founded(), Fold()
    effects = [ring.fold(each, appended=NOON, offset=offset) for offset, each in enumerate(history)]

    assert effects == [fold.fold(each, ring.took_effect(offset)) for offset, each in enumerate(history)]


@given(histories())
def test_what_has_no_effect_leaves_the_key_ring_as_it_was(history: list[Event]) -> None:
    ring = founded()
    for each in history:
        before = (dict(ring.parties), dict(ring.keys), ring.time)
        if isinstance(ring.fold(each, appended=NOON), WithoutEffect):
            assert (ring.parties, ring.keys, ring.time) == before


def test_a_role_that_was_taken_counts_for_what_was_signed_before() -> None:
    ring = founded()
    noon, later = NOON, NOON + timedelta(hours=1)
    ring.apply(party(MEMBER, "person"))
    facts: list[tuple[EventData, Any]] = [
        (RoleGranted(did=MEMBER.did, role="patient", request=UNASKED), noon),
        (RoleWithdrawn(did=MEMBER.did, role="patient", request=UNASKED), later),
    ]
    for version, (data, time) in enumerate(facts):
        ring.fold(event(asked_for(data), version=version, time=time), appended=time)

    after = later + timedelta(milliseconds=1)
    assert ring.party_at(MEMBER.did, noon).roles == set()
    assert (
        ring.party_at(MEMBER.did, later).roles
        == ring.party_between(MEMBER.did, noon, after).roles
        == {"patient"}
    )
    assert ring.party_at(MEMBER.did, after).roles == ring.parties[MEMBER.did].roles == set()
