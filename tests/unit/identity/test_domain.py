"""The law of identity: every refusal by its code, and the laws of the fold."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.asking import NETWORK, UNASKED, truly_asked

from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import (
    KeyAdded,
    KeyRevoked,
    PartyRegistered,
    PublicKey,
    RoleGranted,
    RoleWithdrawn,
)
from salus.events.did import LocalSigner, did_key_of, multibase_of
from salus.events.errors import RejectedError
from salus.events.event_types import EventData
from salus.events.fields import RoleName
from salus.events.keyring import KeyRing
from salus.events.parties import Operator
from salus.events.rights import Actor
from salus.identity.domain import (
    AddKey,
    Command,
    GrantRole,
    PartyState,
    Register,
    RevokeKey,
    WithdrawRole,
    decide,
    evolve,
)
from salus.identity.held_keys import RevocationReason
from salus.runtime.refusal import Refusal

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOSPITAL = "did:web:hospital.example"
NURSE = "did:web:hospital.example:staff:17"
OPERATOR = Actor(did="did:web:salus.example", kind="person", roles=frozenset({"operator"}), request=UNASKED)
MEMBER = Actor(did=HOSPITAL, kind="member", roles=frozenset(), request=UNASKED)
STRANGER = Actor(did="did:web:other.example", kind="member", roles=frozenset(), request=UNASKED)
HOSPITAL_STATE = PartyState(did=HOSPITAL, kind="member")


def multibase(seed: int) -> str:
    return multibase_of(Ed25519PrivateKey.from_private_bytes(seed.to_bytes(32)).public_key())


def a_key(did: str, seed: int = 1, *, name: str | None = None) -> PublicKey:
    return PublicKey(id=f"{did}#{name or f'key-{seed}'}", multibase=multibase(seed), valid_from=NOW)


def nurse(**changes: object) -> Register:
    fields = {
        "did": NURSE,
        "kind": "person",
        "keys": (a_key(NURSE),),
        "roles": ("clinician",),
        "member": HOSPITAL,
        "organisation": HOSPITAL_STATE,
    }
    return Register(**{**fields, **changes})  # type: ignore[arg-type]  # the tests choose the fields


def after(*commands: Command, actor: Actor = OPERATOR, at: datetime = NOW) -> PartyState:
    state = PartyState()
    for command in commands:
        state = evolve(state, decide(state, command, actor=actor, at=at, catalogue=CATALOGUE))
    return state


def refusal_of(
    state: PartyState,
    command: Command,
    *,
    actor: Actor = OPERATOR,
    at: datetime = NOW,
    held_elsewhere: Collection[str] = (),
) -> str:
    with pytest.raises(Refusal) as caught:
        decide(state, command, actor=actor, at=at, catalogue=CATALOGUE, held_elsewhere=held_elsewhere)
    return caught.value.code


def test_a_registered_person_has_the_keys_and_roles_that_were_given() -> None:
    state = after(nurse())

    assert (state.did, state.kind, state.member, state.roles) == (NURSE, "person", HOSPITAL, ("clinician",))
    assert [key.id for key in state.keys] == [f"{NURSE}#key-1"]


def test_a_did_registers_once() -> None:
    assert refusal_of(after(nurse()), nurse()) == "party-exists"


@pytest.mark.parametrize(
    "command",
    [
        AddKey(a_key(NURSE)),
        RevokeKey(f"{NURSE}#key-1", "rotated"),
        GrantRole("clinician"),
        WithdrawRole("patient"),
    ],
)
def test_nothing_changes_at_a_party_that_does_not_exist(command: Command) -> None:
    assert refusal_of(PartyState(), command) == "unknown-party"


@pytest.mark.parametrize(
    "did",
    [
        "did:example:123",
        "did:ion:EiClkZMDxPKqC9c-umQfTkR8vvZ9JPhl_xLDI9Nfk38w5w",
        "did:web:UPPER.example",
        "did:web:-bad.example",
        "did:web:hospital.example::staff",
        "did:web:hospital.example/../../etc",
        "did:key:m2",
        "did:key:",
    ],
)
def test_only_did_web_and_did_key_may_join(did: str) -> None:
    assert refusal_of(PartyState(), nurse(did=did, keys=(a_key(did),))) == "unsupported-did-method"


@pytest.mark.parametrize("host", ["localhost%3A8080", "a.b-c.example", "hospital.example:staff:17"])
def test_did_web_may_have_a_port_and_a_path(host: str) -> None:
    did = f"did:web:{host}"

    assert after(nurse(did=did, keys=(a_key(did),))).did == did


def test_a_did_key_of_another_curve_is_an_invalid_key() -> None:
    # A secp256k1 key of the W3C CCG did:key vectors.
    did = "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme"

    assert refusal_of(PartyState(), nurse(did=did, keys=(a_key(did),))) == "invalid-key"


def test_a_did_key_registers_with_the_key_that_it_names() -> None:
    public = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x09").public_key()
    did = did_key_of(public)
    own = PublicKey(id=f"{did}#{multibase_of(public)}", multibase=multibase_of(public), valid_from=NOW)

    assert after(nurse(did=did, keys=(own,))).did == did
    assert refusal_of(PartyState(), nurse(did=did, keys=(a_key(did, 3),))) == "key-not-of-did"


def test_a_key_under_another_did_is_not_the_partys() -> None:
    assert refusal_of(PartyState(), nurse(keys=(a_key(HOSPITAL),))) == "key-not-of-did"
    assert refusal_of(after(nurse()), AddKey(a_key(HOSPITAL, 2))) == "key-not-of-did"


@pytest.mark.parametrize("bad", ["z111", "zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme", "z6Mk"])
def test_what_is_not_an_ed25519_key_is_an_invalid_key(bad: str) -> None:
    key = PublicKey(id=f"{NURSE}#a", multibase=bad, valid_from=NOW)

    assert refusal_of(PartyState(), nurse(keys=(key,))) == "invalid-key"


def test_a_key_that_ends_before_it_begins_is_invalid() -> None:
    key = PublicKey(id=f"{NURSE}#a", multibase=multibase(1), valid_from=NOW, valid_until=NOW)

    assert refusal_of(PartyState(), nurse(keys=(key,))) == "invalid-key"


@pytest.mark.parametrize(
    "again", [a_key(NURSE), a_key(NURSE, 2, name="key-1"), a_key(NURSE, 1, name="other")]
)
def test_a_key_id_and_a_key_are_used_once(again: PublicKey) -> None:
    assert refusal_of(after(nurse()), AddKey(again)) == "key-in-use"
    assert refusal_of(PartyState(), nurse(keys=(a_key(NURSE), again))) == "key-in-use"


def test_a_revoked_key_does_not_come_back() -> None:
    state = after(nurse(), AddKey(a_key(NURSE, 2)), RevokeKey(f"{NURSE}#key-1", "rotated"))

    assert refusal_of(state, AddKey(a_key(NURSE))) == "key-in-use"


def test_a_public_key_belongs_to_one_party() -> None:
    taken = {multibase(2)}

    assert refusal_of(after(nurse()), AddKey(a_key(NURSE, 2)), held_elsewhere=taken) == "key-in-use"
    assert refusal_of(PartyState(), nurse(keys=(a_key(NURSE, 2),)), held_elsewhere=taken) == "key-in-use"


def test_a_party_has_sixteen_keys_at_most() -> None:
    state = after(nurse(keys=tuple(a_key(NURSE, seed) for seed in range(1, 17))))

    assert refusal_of(state, AddKey(a_key(NURSE, 17))) == "too-many-keys"
    assert refusal_of(PartyState(), nurse(keys=())) == "too-many-keys"


def test_a_party_whose_keys_were_revoked_gets_another() -> None:
    # Red team 4: a thief added fifteen keys; once they were revoked, the party had no key for ever.
    state = after(nurse())
    for seed in range(2, 40):
        state = evolve(
            state, decide(state, AddKey(a_key(NURSE, seed)), actor=OPERATOR, at=NOW, catalogue=CATALOGUE)
        )
        revoke = RevokeKey(f"{NURSE}#key-{seed - 1}", "compromised")
        state = evolve(state, decide(state, revoke, actor=OPERATOR, at=NOW, catalogue=CATALOGUE))

    assert [key.id for key in state.keys if key.revoked is None] == [f"{NURSE}#key-39"]


def test_the_last_key_is_not_rotated_away() -> None:
    assert refusal_of(after(nurse()), RevokeKey(f"{NURSE}#key-1", "rotated")) == "last-key"
    assert refusal_of(after(nurse()), RevokeKey(f"{NURSE}#key-1", "unspecified")) == "last-key"


def test_a_stolen_last_key_is_revoked_all_the_same() -> None:
    state = after(nurse(), RevokeKey(f"{NURSE}#key-1", "compromised"))

    assert [key.revoked for key in state.keys] == ["compromised"]


def test_an_expired_key_does_not_count_as_another_key() -> None:
    short = PublicKey(
        id=f"{NURSE}#short", multibase=multibase(2), valid_from=NOW, valid_until=NOW + timedelta(hours=1)
    )
    state = after(nurse(), AddKey(short))

    assert (
        refusal_of(state, RevokeKey(f"{NURSE}#key-1", "rotated"), at=NOW + timedelta(hours=1)) == "last-key"
    )


def test_a_stolen_key_is_revoked_back_to_the_moment_when_it_was_stolen() -> None:
    stolen, earlier = NOW - timedelta(days=2), NOW - timedelta(days=3)
    key = f"{NURSE}#key-1"
    state = after(nurse(), RevokeKey(key, "compromised", stolen))
    assert state.keys[0].doubted_since == stolen

    # It turns out to have been stolen before that: doubt grows, and does not go back.
    again = after(nurse(), RevokeKey(key, "compromised", stolen), RevokeKey(key, "compromised", earlier))
    assert again.keys[0].doubted_since == earlier
    assert refusal_of(again, RevokeKey(key, "compromised", stolen)) == "since-not-earlier"
    # A key that was given up as rotated may turn out to have been stolen.
    rotated = after(
        nurse(), AddKey(a_key(NURSE, 2)), RevokeKey(key, "rotated"), RevokeKey(key, "compromised", stolen)
    )
    assert (rotated.keys[0].revoked, rotated.keys[0].doubted_since) == ("compromised", stolen)


def test_a_key_names_the_one_that_asked_for_it() -> None:
    # case R13-F5: who had the stolen key went on by one that he added with it.
    stolen = LocalSigner(Ed25519PrivateKey.from_private_bytes((1).to_bytes(32)), f"{NURSE}#key-1")
    asked = truly_asked(KeyAdded(NURSE, a_key(NURSE, 2), request=UNASKED), stolen, at=NOW)
    before = after(nurse())
    state = evolve(before, asked)

    assert [key.asked_by for key in state.keys] == [None, f"{NURSE}#key-1"]
    unread = msgspec.structs.replace(asked, request=msgspec.structs.replace(asked.request, proof="no.token"))
    assert evolve(before, unread).keys[1].asked_by is None


def test_doubt_says_why_and_not_when_it_cannot_be() -> None:
    state, key = after(nurse(), AddKey(a_key(NURSE, 2))), f"{NURSE}#key-1"
    assert refusal_of(state, RevokeKey(key, "rotated", NOW)) == "since-not-for-reason"
    later = NOW + timedelta(seconds=1)
    assert refusal_of(state, RevokeKey(key, "compromised", later)) == "since-in-future"


def test_who_may_revoke_a_key_puts_a_month_in_doubt_and_operators_more() -> None:
    state, key = after(nurse(), AddKey(a_key(NURSE, 2))), f"{NURSE}#key-1"
    month, more = NOW - timedelta(days=31), NOW - timedelta(days=31, microseconds=1)
    herself = Actor(did=NURSE, kind="person", roles=frozenset(), request=UNASKED, member=HOSPITAL)
    for actor in (herself, MEMBER):
        decide(state, RevokeKey(key, "compromised", month), actor=actor, at=NOW, catalogue=CATALOGUE)
        with pytest.raises(Refusal) as refused:
            decide(state, RevokeKey(key, "compromised", more), actor=actor, at=NOW, catalogue=CATALOGUE)
        assert (refused.value.code, refused.value.status) == ("not-permitted", 403)
    two = (Operator(OPERATOR.did, OPERATOR.did), Operator("did:web:second", "did:web:second"))
    with pytest.raises(Refusal) as alone:
        decide(
            state,
            RevokeKey(key, "compromised", more),
            actor=OPERATOR,
            at=NOW,
            catalogue=CATALOGUE,
            operators=two,
        )
    assert alone.value.code == "second-operator-needed"
    seconded = replace(OPERATOR, second="did:web:second")
    decide(
        state,
        RevokeKey(key, "compromised", more),
        actor=seconded,
        at=NOW,
        catalogue=CATALOGUE,
        operators=two,
    )


def test_an_unknown_or_revoked_key_is_not_revoked() -> None:
    state = after(nurse(), RevokeKey(f"{NURSE}#key-1", "left"))

    assert refusal_of(state, RevokeKey(f"{NURSE}#key-1", "left")) == "unknown-key"
    assert refusal_of(state, RevokeKey(f"{NURSE}#nine", "left")) == "unknown-key"


def test_roles_belong_to_kinds() -> None:
    assert refusal_of(PartyState(), nurse(roles=("storage",))) == "role-not-for-kind"
    assert refusal_of(after(nurse()), GrantRole("consent")) == "role-not-for-kind"
    hospital = Register(HOSPITAL, "member", (a_key(HOSPITAL),), ("clinician",))
    assert refusal_of(PartyState(), hospital) == "role-not-for-kind"
    assert refusal_of(PartyState(), nurse(roles=("midwife",))) == "unknown-role"
    assert refusal_of(after(nurse()), GrantRole("midwife")) == "unknown-role"


def test_a_role_is_granted_and_withdrawn_once() -> None:
    assert refusal_of(after(nurse()), GrantRole("clinician")) == "role-held"
    assert refusal_of(after(nurse(), WithdrawRole("clinician")), WithdrawRole("clinician")) == "role-not-held"


def test_a_person_acts_for_a_registered_member_only() -> None:
    assert refusal_of(PartyState(), nurse(organisation=None)) == "unknown-member"
    assert refusal_of(PartyState(), nurse(organisation=PartyState())) == "unknown-member"
    assert (
        refusal_of(PartyState(), nurse(organisation=PartyState(did=HOSPITAL, kind="person")))
        == "unknown-member"
    )


@pytest.mark.parametrize(("kind", "roles"), [("member", ()), ("service", ("audit",))])
def test_only_people_and_devices_act_for_a_member(kind: str, roles: tuple[str, ...]) -> None:
    # A single operator could register a "member" that acts for another, and so ask in its name.
    assert refusal_of(PartyState(), nurse(kind=kind, roles=roles)) == "member-not-for-kind"


def test_people_have_no_names_here() -> None:
    assert refusal_of(PartyState(), nurse(name="Somebody")) == "name-not-for-kind"


@pytest.mark.parametrize(
    "command",
    [
        nurse(member=None, organisation=None),
        nurse(
            member="did:web:else.example", organisation=PartyState(did="did:web:else.example", kind="member")
        ),
        nurse(roles=("operator",)),
        Register(HOSPITAL, "member", (a_key(HOSPITAL),)),
        nurse(kind="service", roles=()),
    ],
)
def test_a_member_registers_its_own_people_and_devices_only(command: Register) -> None:
    assert refusal_of(PartyState(), command, actor=MEMBER) == "not-permitted"


@pytest.mark.parametrize("did", ["did:web:other.example", f"{HOSPITAL}.evil.example", f"{HOSPITAL}%3A1:a"])
def test_a_member_takes_no_did_web_of_others(did: str) -> None:
    # Case security.md, medium, proof of possession: another's did:web was taken before its owner joined.
    command = nurse(did=did, keys=(a_key(did),))

    assert refusal_of(PartyState(), command, actor=MEMBER) == "did-not-of-member"
    assert after(command, actor=OPERATOR).did == did


def test_a_member_keeps_its_own_people() -> None:
    state = after(
        nurse(),
        AddKey(a_key(NURSE, 2)),
        RevokeKey(f"{NURSE}#key-1", "rotated"),
        GrantRole("researcher"),
        actor=MEMBER,
    )

    assert state.roles == ("clinician", "researcher")


@pytest.mark.parametrize(
    "command",
    [
        AddKey(a_key(NURSE, 2)),
        RevokeKey(f"{NURSE}#key-1", "left"),
        GrantRole("patient"),
        WithdrawRole("clinician"),
    ],
)
def test_another_member_keeps_its_hands_off(command: Command) -> None:
    assert refusal_of(after(nurse()), command, actor=STRANGER) == "not-permitted"


def test_a_party_keeps_its_own_keys_but_not_its_own_roles() -> None:
    self_ = Actor(did=NURSE, kind="person", roles=frozenset({"clinician"}), request=UNASKED)

    assert isinstance(
        decide(after(nurse()), AddKey(a_key(NURSE, 2)), actor=self_, at=NOW, catalogue=CATALOGUE), KeyAdded
    )
    assert refusal_of(after(nurse()), GrantRole("privacy-officer"), actor=self_) == "not-permitted"


def test_a_member_makes_nobody_operator() -> None:
    assert refusal_of(after(nurse()), GrantRole("operator"), actor=MEMBER) == "not-permitted"


def test_not_even_an_operator_gives_the_identity_service_a_key() -> None:
    root = "did:web:identity.salus.example"
    founding = Actor(did=root, kind="service", roles=frozenset({"identity"}), founding=True, request=UNASKED)
    itself = Actor(did=root, kind="service", roles=frozenset({"identity"}), request=UNASKED)
    state = after(Register(root, "service", (a_key(root),), ("identity",)), actor=founding)

    assert refusal_of(state, AddKey(a_key(root, 2)), actor=OPERATOR) == "not-permitted"
    assert isinstance(
        decide(state, AddKey(a_key(root, 2)), actor=itself, at=NOW, catalogue=CATALOGUE), KeyAdded
    )


def test_not_even_an_operator_makes_a_second_identity_service() -> None:
    did = "did:web:fake.example"
    service = Register(did, "service", (a_key(did),), ("identity",))

    assert refusal_of(PartyState(), service) == "not-permitted"
    plain = after(Register(did, "service", (a_key(did),)))
    assert refusal_of(plain, GrantRole("identity")) == "not-permitted"


# --- laws -----------------------------------------------------------------------------------------

_keys = st.integers(1, 6).map(lambda seed: a_key(NURSE, seed))
_role_names: tuple[RoleName, ...] = ("clinician", "researcher", "patient")
_reasons: tuple[RevocationReason, ...] = ("rotated", "compromised", "left")
_roles = st.sampled_from(_role_names)
_moments = st.sampled_from([None, NOW, NOW - timedelta(days=1), NOW - timedelta(days=40)])
_events: st.SearchStrategy[EventData] = st.one_of(
    st.lists(_keys, min_size=1, max_size=3, unique_by=lambda k: k.id).map(
        lambda keys: PartyRegistered(did=NURSE, kind="person", keys=tuple(keys), request=UNASKED)
    ),
    _keys.map(lambda key: KeyAdded(did=NURSE, key=key, request=UNASKED)),
    _keys.map(lambda key: KeyRevoked(did=NURSE, key_id=key.id, reason="rotated", request=UNASKED)),
    st.builds(
        lambda key, since: KeyRevoked(NURSE, key.id, "compromised", since, request=UNASKED), _keys, _moments
    ),
    _roles.map(lambda role: RoleGranted(did=NURSE, role=role, request=UNASKED)),
    _roles.map(lambda role: RoleWithdrawn(did=NURSE, role=role, request=UNASKED)),
)
_commands: st.SearchStrategy[Command] = st.one_of(
    st.just(nurse()),
    _keys.map(AddKey),
    st.builds(lambda key, *said: RevokeKey(key.id, *said), _keys, st.sampled_from(_reasons), _moments),
    _roles.map(GrantRole),
    _roles.map(WithdrawRole),
)


def fold(events: list[EventData]) -> PartyState:
    state = PartyState()
    for event in events:
        state = evolve(state, event)
    return state


@given(st.lists(_events, max_size=12))
def test_the_fold_is_the_same_every_time(events: list[EventData]) -> None:
    assert fold(events) == fold(events)


@given(st.lists(_events, max_size=8))
def test_the_contract_and_the_key_ring_agree_whatever_the_events(events: list[EventData]) -> None:
    state, ring = PartyState(), KeyRing(CATALOGUE, NETWORK)
    for event in events:
        state = evolve(state, event)
        ring.apply(event)

    held = {key.id for key in state.keys if key.may_sign(NOW)}
    assert (
        held == {key_id for key_id in ring.keys if _may_sign(ring, key_id)} == ring.valid_keys(at=NOW).keys()
    )
    assert {key.id: key.doubted_since for key in state.keys} == {
        key_id: key.doubted_since for key_id, key in ring.keys.items()
    }
    assert (NURSE in ring.parties) == bool(state.did)
    if state.did:
        assert ring.parties[NURSE].roles == frozenset(state.roles)


def _may_sign(ring: KeyRing, key_id: str) -> bool:
    try:
        ring.key_for(key_id, at=NOW)
    except RejectedError:
        return False
    return True


@given(st.lists(_commands, max_size=12))
def test_what_was_decided_always_takes_effect_and_is_refused_when_repeated(commands: list[Command]) -> None:
    state = PartyState()
    for command in commands:
        try:
            event = decide(state, command, actor=OPERATOR, at=NOW, catalogue=CATALOGUE)
        except Refusal:
            continue
        state, before = evolve(state, event), state

        assert state != before
        assert evolve(state, event) == state
        with pytest.raises(Refusal):
            decide(state, command, actor=OPERATOR, at=NOW, catalogue=CATALOGUE)
