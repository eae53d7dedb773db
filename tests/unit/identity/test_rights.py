"""Who may do what to whom: every cell of the table, as the contract decides it (cases SEC2, SEC8)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st
from tests.asking import NETWORK, UNASKED, proofs_of, truly_asked
from tests.unit.events.samples import for_each_type
from tools.rights_document import FILE, render

from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import (
    KeyAdded,
    KeyRevoked,
    MemberExpelled,
    MemberReinstated,
    MemberSuspended,
    PartyKind,
    PartyRegistered,
    PublicKey,
    RoleGranted,
    RoleWithdrawn,
)
from salus.events.did import LocalSigner, multibase_of
from salus.events.effect import Applied, NoEffect, WithoutEffect
from salus.events.envelope import Event, decode_event, encode_event
from salus.events.event_types import type_of
from salus.events.fields import RoleName
from salus.events.keyring import KeyRing
from salus.events.membership import Membership
from salus.events.parties import Founder, Operator
from salus.events.party_form import KEYS_MAX
from salus.events.requests import Request, RequestedData
from salus.events.rights import RIGHTS, Act, Actor, Permission, Relation, Target
from salus.identity.domain import (
    AddKey,
    Command,
    Expel,
    GrantRole,
    PartyState,
    Register,
    Reinstate,
    RevokeKey,
    Suspend,
    WithdrawRole,
    decide,
    evolve,
)
from salus.identity.held_keys import HeldKey
from salus.runtime.refusal import Refusal

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOSPITAL = "did:web:hospital.example"
OTHER = "did:web:other.example"
ALPHA, BETA = "did:web:alpha.example", "did:web:beta.example"
OPERATORS = (Operator(ALPHA, ALPHA), Operator(BETA, BETA))
# Of each target: its kind, the roles it has, its member, the role that is granted to it or taken.
TARGETS: dict[Target, tuple[PartyKind, tuple[RoleName, ...], str | None, RoleName]] = {
    Target.IDENTITY: ("service", ("identity",), None, "identity"),
    Target.OPERATOR: ("person", ("operator",), HOSPITAL, "operator"),
    Target.SERVICE: ("service", ("consent",), None, "storage"),
    Target.MEMBER: ("member", (), None, "patient"),
    Target.PEOPLE: ("person", ("clinician",), HOSPITAL, "researcher"),
    Target.INDEPENDENT: ("person", ("clinician",), None, "researcher"),
    Target.UNATTACHED: ("person", (), None, "patient"),
}
# Whom these acts are done to is suspended before.
OF_SUSPENDED = {Act.REINSTATE, Act.EXPEL}
# A did:key needs no proof but its own; for a did:web operators vouch.
PARTY = LocalSigner.from_seed((1).to_bytes(32)).did
STRANGER = "did:web:stranger.example"


# Those about event types are in `test_event_types`, about login providers in `test_logins`.
CELLS = [cell for cell in RIGHTS if cell[1] not in {Target.TYPE, Target.PROVIDER}]


def signer(seed: int, did: str = PARTY) -> LocalSigner:
    named = LocalSigner.from_seed(seed.to_bytes(32))
    return named if named.did == did else LocalSigner.from_seed(seed.to_bytes(32), f"{did}#{seed}")


def key(seed: int, did: str = PARTY) -> PublicKey:
    holder = signer(seed, did)
    return PublicKey(holder.verification_method, multibase_of(holder.public_key), NOW)


def held(seed: int, until: datetime | None = None) -> HeldKey:
    return HeldKey(key(seed).id, key(seed).multibase, NOW, until)


def state_of(target: Target, act: Act) -> PartyState:
    kind, roles, member, role = TARGETS[target]
    if act is Act.GRANT_ROLE:
        roles = tuple(has for has in roles if has != role)
    if act is Act.WITHDRAW_ROLE:
        roles = (*roles, role)
    return PartyState(PARTY, kind, (held(1), held(2)), roles, member)


def command_of(target: Target, act: Act) -> Command:
    kind, roles, member, role = TARGETS[target]
    organisation = PartyState(HOSPITAL, "member") if member else None
    commands: dict[Act, Command] = {
        Act.REGISTER: Register(PARTY, kind, (key(1),), roles, member, organisation=organisation),
        Act.ADD_KEY: AddKey(key(3)),
        Act.REVOKE_KEY: RevokeKey(key(2).id, "rotated"),
        Act.GRANT_ROLE: GrantRole(role, (key(1).id, key(2).id)),
        Act.WITHDRAW_ROLE: WithdrawRole(role),
        Act.SUSPEND: Suspend("inquiry"),
        Act.REINSTATE: Reinstate("unfounded"),
        Act.EXPEL: Expel("left"),
    }
    return commands[act]


def actor_of(relation: Relation, target: Target, second: str | None) -> Actor:
    kind, roles, member, _ = TARGETS[target]
    match relation:
        case Relation.ITSELF:
            return Actor(PARTY, kind, frozenset(roles), UNASKED, member=member, second=second)
        case Relation.ITS_MEMBER:
            return Actor(member or HOSPITAL, "member", frozenset(), UNASKED, second=second)
        case Relation.OPERATOR:
            return Actor(ALPHA, "person", frozenset({"operator"}), UNASKED, second=second)
        case Relation.OTHER:
            return Actor(OTHER, "member", frozenset(), UNASKED, second=second)


def answer(act: Act, target: Target, actor: Actor, operators: tuple[Operator, ...] = OPERATORS) -> str:
    state = PartyState() if act is Act.REGISTER else state_of(target, act)
    membership = Membership.SUSPENDED if act in OF_SUSPENDED else Membership.ACTIVE
    try:
        decide(
            state,
            command_of(target, act),
            actor=actor,
            at=NOW,
            catalogue=CATALOGUE,
            operators=operators,
            membership=membership,
        )
    except Refusal as refusal:
        return refusal.code
    return "done"


@pytest.mark.parametrize(("act", "target", "relation"), CELLS, ids=str)
def test_the_contract_decides_as_the_table_says(act: Act, target: Target, relation: Relation) -> None:
    alone = answer(act, target, actor_of(relation, target, None))
    seconded = answer(act, target, actor_of(relation, target, BETA))
    by_nobody = answer(act, target, actor_of(relation, target, STRANGER))
    by_own = answer(act, target, actor_of(relation, target, ALPHA))

    match RIGHTS[act, target, relation]:
        case Permission.ALONE:
            assert alone == seconded == "done"
        case Permission.SECONDED:
            assert (alone, by_nobody, seconded) == ("second-operator-needed",) * 2 + ("done",)
            assert by_own == ("done" if relation is Relation.ITSELF else "second-operator-needed")
        case Permission.NEVER:
            assert {alone, seconded, by_nobody, by_own} == {"not-permitted"}


def ring_of(target: Target, act: Act) -> KeyRing:
    """The key ring of a network where everybody is registered who acts."""
    people = ((ALPHA, "person", ("operator",)), (BETA, "person", ("operator",)), (STRANGER, "person", ()))
    members = ((HOSPITAL, "member", ()), (OTHER, "member", ()))
    ring = KeyRing(CATALOGUE, NETWORK)
    for number, (did, kind, roles) in enumerate((*people, *members), start=10):
        ring.apply(PartyRegistered(did, kind, (key(number, did),), roles, request=UNASKED))  # type: ignore[arg-type]  # the rows above
    state = state_of(target, act)
    if act is not Act.REGISTER:
        keys = (key(1), key(2))
        ring.apply(PartyRegistered(PARTY, state.kind, keys, state.roles, state.member, request=UNASKED))
    if act in OF_SUSPENDED:
        ring.apply(MemberSuspended(PARTY, "inquiry", request=UNASKED))
    return ring


SEEDS = {PARTY: 1, ALPHA: 10, BETA: 11, STRANGER: 12, HOSPITAL: 13, OTHER: 14}


def event_of(target: Target, act: Act, actor: Actor, *, request: Request | None = None) -> Event:
    """The event of identity's own making, whatever the contract says."""
    kind, roles, member, role = TARGETS[target]
    facts: dict[Act, RequestedData] = {
        Act.REGISTER: PartyRegistered(PARTY, kind, (key(1),), roles, member, request=UNASKED),
        Act.ADD_KEY: KeyAdded(PARTY, key(3), request=UNASKED),
        Act.REVOKE_KEY: KeyRevoked(PARTY, key(2).id, "rotated", request=UNASKED),
        Act.GRANT_ROLE: RoleGranted(PARTY, role, request=UNASKED),
        Act.WITHDRAW_ROLE: RoleWithdrawn(PARTY, role, request=UNASKED),
        Act.SUSPEND: MemberSuspended(PARTY, "inquiry", request=UNASKED),
        Act.REINSTATE: MemberReinstated(PARTY, "unfounded", request=UNASKED),
        Act.EXPEL: MemberExpelled(PARTY, "left", request=UNASKED),
    }
    data = truly_asked(
        facts[act],
        signer(SEEDS[actor.did], actor.did),
        at=NOW,
        proofs=proofs_of(signer(1), signer(3), member=member, at=NOW),
        seen=(key(1).id, key(2).id) if act is Act.GRANT_ROLE else None,
        second=signer(SEEDS[actor.second], actor.second) if actor.second else None,
    )
    if request is not None:
        data = msgspec.structs.replace(data, request=request)
    return decode_event(
        encode_event(data, id="1", source=ALPHA, subject=PARTY, time=NOW, expected_version=0), CATALOGUE
    )


@pytest.mark.parametrize(("act", "target", "relation"), CELLS, ids=str)
@pytest.mark.parametrize("second", [None, BETA, STRANGER])
def test_everybody_who_folds_says_what_the_contract_says(
    act: Act, target: Target, relation: Relation, second: str | None
) -> None:
    # What identity states though nobody had the right has no effect: its key alone gives nobody power.
    actor = actor_of(relation, target, second)
    nobody = (act, relation) == (Act.REGISTER, Relation.ITSELF)
    if nobody or (act, target, relation) == (Act.GRANT_ROLE, Target.OPERATOR, Relation.ITSELF):
        return
    ring = ring_of(target, act)
    allowed = answer(act, target, actor) == "done"
    effect = ring.fold(event_of(target, act, actor), appended=NOW)

    assert effect == (Applied(1) if allowed else WithoutEffect(NoEffect.NOT_ENTITLED))
    assert (0 in ring.unentitled) is not allowed
    assert ring.took_effect(0) is allowed


@pytest.mark.parametrize(("act", "target"), [*dict.fromkeys(cell[:2] for cell in CELLS)])
def test_identity_alone_does_nothing_to_anybody(act: Act, target: Target) -> None:
    ring = ring_of(target, act)
    unasked = event_of(target, act, actor_of(Relation.OPERATOR, target, BETA), request=UNASKED)

    assert ring.fold(unasked, appended=NOW) == WithoutEffect(NoEffect.NOT_ENTITLED)


@pytest.mark.parametrize("changes", [{"roles": ("operator",)}, {"kind": "person"}, {"key": key(3)}, None])
def test_whom_the_network_file_names_joins_as_it_says(changes: dict[str, Any] | None) -> None:
    ring = ring_of(Target.MEMBER, Act.REGISTER)
    founder = Founder(PARTY, "member", (), key(1))
    ring.founders[PARTY] = replace(founder, **(changes or {}))
    operator = actor_of(Relation.OPERATOR, Target.MEMBER, None)
    effect = ring.fold(event_of(Target.MEMBER, Act.REGISTER, operator, request=UNASKED), appended=NOW)

    assert isinstance(effect, Applied) is (changes is None)


@pytest.mark.parametrize("act", [Act.REGISTER, Act.ADD_KEY])
@pytest.mark.parametrize("proofs", [{}, proofs_of(signer(1), signer(3), member=OTHER, at=NOW)])
def test_no_key_joins_that_its_holder_did_not_offer(act: Act, proofs: dict[str, str]) -> None:
    ring, target = ring_of(Target.PEOPLE, act), Target.PEOPLE
    actor = actor_of(Relation.ITS_MEMBER, target, None)
    data = event_of(target, act, actor).data
    assert isinstance(data, PartyRegistered | KeyAdded)
    asked = truly_asked(data, signer(13, HOSPITAL), at=NOW, proofs=proofs)
    ring.fold(event_of(target, act, actor, request=asked.request), appended=NOW)

    assert ring.unentitled[0].code == "key-not-proven"


@pytest.mark.parametrize(
    ("did", "by", "code"),
    [
        ("did:web:else.example:nurse", HOSPITAL, "did-not-of-member"),
        ("did:web:else.example", ALPHA, "second-operator-needed"),
    ],
)
def test_nobody_alone_takes_a_name_that_is_not_proven(did: str, by: str, code: str) -> None:
    ring = ring_of(Target.PEOPLE, Act.REGISTER)
    member = HOSPITAL if by == HOSPITAL else None
    data = PartyRegistered(did, "person", (key(1, did),), (), member, request=UNASKED)
    proofs = proofs_of(signer(1, did), member=member, at=NOW)
    asked = truly_asked(data, signer(SEEDS[by], by), at=NOW, proofs=proofs)
    value = encode_event(asked, id="1", source=ALPHA, subject=did, time=NOW, expected_version=0)
    ring.fold(decode_event(value, CATALOGUE), appended=NOW)

    assert ring.unentitled[0].code == code
    organisation = PartyState(HOSPITAL, "member") if member else None
    register = Register(did, "person", (key(1, did),), (), member, organisation=organisation)
    actor = Actor(by, "member" if member else "person", ring.parties[by].roles, UNASKED)
    with pytest.raises(Refusal, match=code):
        decide(PartyState(), register, actor=actor, at=NOW, catalogue=CATALOGUE, operators=OPERATORS)


def test_a_key_that_was_revoked_before_asks_for_nothing_whatever_the_clocks_say() -> None:
    # By its own clock, which is behind, identity states it before the revocation that stands before it.
    for revoked in (key(10, ALPHA), key(11, BETA)):
        ring = ring_of(Target.OPERATOR, Act.ADD_KEY)
        ring.apply(KeyAdded(ALPHA, key(4, ALPHA), request=UNASKED))
        did = revoked.id.partition("#")[0]
        ring.apply(KeyRevoked(did, revoked.id, "compromised", request=UNASKED), at=NOW + timedelta(minutes=1))
        operator = actor_of(Relation.OPERATOR, Target.OPERATOR, BETA)
        effect = ring.fold(event_of(Target.OPERATOR, Act.ADD_KEY, operator), appended=NOW)

        assert effect == WithoutEffect(NoEffect.NOT_ENTITLED)
        assert ring.unentitled[0].code == "key-revoked"


def key_added(ring: KeyRing, seed: int) -> str | None:
    """Fold one more key of the party, as its member asks for it; return why it has no effect."""
    proofs = proofs_of(signer(seed), member=HOSPITAL, at=NOW)
    data = KeyAdded(PARTY, key(seed), request=UNASKED)
    asked = truly_asked(data, signer(SEEDS[HOSPITAL], HOSPITAL), at=NOW, proofs=proofs)
    version, offset = ring.versions.get(PARTY, 0), ring.position
    value = encode_event(asked, id=str(seed), source=ALPHA, subject=PARTY, time=NOW, expected_version=version)
    ring.fold(decode_event(value, CATALOGUE), appended=NOW)
    ring.position = offset + 1
    return ring.unentitled[offset].code if offset in ring.unentitled else None


def test_sixteen_keys_that_are_not_revoked_are_as_many_as_everybody_takes() -> None:
    # Red team 4: revoked ones counted, so a thief of one key, or honest rotation, ended a party for ever.
    ring = ring_of(Target.PEOPLE, Act.ADD_KEY)
    added = [key_added(ring, seed) for seed in range(100, 115)]
    state = PartyState(PARTY, "person", tuple(held(seed) for seed in range(1, KEYS_MAX + 1)), (), HOSPITAL)
    member = Actor(HOSPITAL, "member", frozenset(), UNASKED)
    with pytest.raises(Refusal, match="too-many-keys"):
        decide(state, AddKey(key(115)), actor=member, at=NOW, catalogue=CATALOGUE, operators=OPERATORS)
    ring.apply(KeyRevoked(PARTY, key(100).id, "compromised", request=UNASKED))

    assert added == [None] * 14 + ["too-many-keys"]
    assert key_added(ring, 116) is None
    assert key_added(ring, 117) == "too-many-keys"


VICTIM = LocalSigner.from_seed((63).to_bytes(32)).did


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"did": VICTIM, "keys": (key(3, VICTIM),)}, "key-not-of-did"),
        ({"keys": (key(1), key(3, VICTIM))}, "key-not-of-did"),
        ({"roles": ("consent",)}, "role-not-for-kind"),
        ({"roles": ("midwife",)}, "unknown-role"),
        ({"kind": "device", "roles": ("privacy-officer",)}, "role-not-for-kind"),
        ({"did": "did:example:1", "keys": (key(3, "did:example:1"),)}, "unsupported-did-method"),
        ({"keys": (key(1), msgspec.structs.replace(key(3), multibase="z6Mk"))}, "invalid-key"),
        ({"kind": "service", "member": HOSPITAL}, "member-not-for-kind"),
        ({"member": OTHER}, "not-permitted"),
    ],
)
def test_what_no_party_may_be_joins_nowhere(changes: dict[str, Any], code: str) -> None:
    # A thief of identity's key with a member took the did:key of somebody who had not joined yet.
    ring = ring_of(Target.PEOPLE, Act.REGISTER)
    person = PartyRegistered(PARTY, "person", (key(1),), (), HOSPITAL, request=UNASKED)
    data = msgspec.structs.replace(person, **changes)
    proofs = proofs_of(signer(1), signer(3, data.did), signer(3, VICTIM), member=HOSPITAL, at=NOW)
    asked = truly_asked(data, signer(SEEDS[HOSPITAL], HOSPITAL), at=NOW, proofs=proofs)
    value = encode_event(asked, id="1", source=ALPHA, subject=data.did, time=NOW, expected_version=0)

    assert ring.fold(decode_event(value, CATALOGUE), appended=NOW) == WithoutEffect(NoEffect.NOT_ENTITLED)
    assert ring.unentitled[0].code == code


@for_each_type(st.data(), of=[entry for entry in CATALOGUE.types() if entry.owner == "identity"])
def test_the_fold_says_something_of_everything(data: Any, draw: st.DataObject) -> None:
    # One record that raises would stop all who fold the topic, for good.
    ring = ring_of(Target.PEOPLE, Act.ADD_KEY)
    texts = st.sampled_from(["", "{", "[]", '{"keys": 1}', '{"key": {"id": "a", "multibase": "z6Mk"}}'])
    subject = draw.draw(st.sampled_from([ALPHA, PARTY, HOSPITAL]))
    by = draw.draw(st.sampled_from([ALPHA, PARTY, HOSPITAL, "did:web:nobody.example"]))
    proof = draw.draw(st.sampled_from([None, "a.b.c", *proofs_of(signer(1), at=NOW).values()]))
    request = Request(by, "did-jwt", proof=proof, body=draw.draw(st.none() | texts), approval=proof)
    changes: dict[str, Any] = {"request": request}
    if "did" in data.__struct_fields__ and draw.draw(st.booleans()):
        changes["did"] = subject
    operator = actor_of(Relation.OPERATOR, Target.PEOPLE, None)
    envelope = event_of(Target.PEOPLE, Act.ADD_KEY, operator).envelope
    event = Event(envelope=envelope, type=type_of(data), data=msgspec.structs.replace(data, **changes))

    assert isinstance(ring.fold(event, appended=NOW), Applied | WithoutEffect)


@pytest.mark.parametrize("seen", [None, (key(1).id,), (key(1).id, key(2).id, key(3).id)])
def test_who_makes_an_operator_names_the_keys_that_will_govern(seen: tuple[str, ...] | None) -> None:
    ring = ring_of(Target.OPERATOR, Act.GRANT_ROLE)
    data = RoleGranted(PARTY, "operator", request=UNASKED)
    asked = truly_asked(data, signer(10, ALPHA), at=NOW, seen=seen, second=signer(11, BETA))
    value = encode_event(asked, id="1", source=ALPHA, subject=PARTY, time=NOW, expected_version=0)
    ring.fold(decode_event(value, CATALOGUE), appended=NOW)

    assert ring.unentitled[0].code == "keys-not-named"
    state = state_of(Target.OPERATOR, Act.GRANT_ROLE)
    actor = actor_of(Relation.OPERATOR, Target.OPERATOR, BETA)
    with pytest.raises(Refusal, match="keys-not-named"):
        decide(
            state, GrantRole("operator", seen), actor=actor, at=NOW, catalogue=CATALOGUE, operators=OPERATORS
        )


@pytest.mark.parametrize("act", [Act.REVOKE_KEY, Act.WITHDRAW_ROLE])
def test_of_two_last_operators_that_go_at_the_same_moment_one_stays(act: Act) -> None:
    # Each is allowed to go by itself; the two commands are about two parties, whose versions do not clash.
    ring = ring_of(Target.MEMBER, Act.REGISTER)
    effects = []
    for number, (did, seed) in enumerate(((ALPHA, 10), (BETA, 11))):
        facts: dict[Act, RequestedData] = {
            Act.REVOKE_KEY: KeyRevoked(did, key(seed, did).id, "compromised", request=UNASKED),
            Act.WITHDRAW_ROLE: RoleWithdrawn(did, "operator", request=UNASKED),
        }
        other = signer(11, BETA) if did == ALPHA else signer(10, ALPHA)
        asked = truly_asked(facts[act], signer(seed, did), at=NOW, second=other)
        value = encode_event(asked, id=did, source=ALPHA, subject=did, time=NOW, expected_version=0)
        effects.append(ring.fold(decode_event(value, CATALOGUE), offset=number, appended=NOW))

    assert effects == [Applied(1), WithoutEffect(NoEffect.NOT_ENTITLED)]
    assert [operator.did for operator in ring.operators(at=NOW) if operator.endures] == [BETA]


@pytest.mark.parametrize(("act", "target"), [*dict.fromkeys(cell[:2] for cell in CELLS)])
def test_one_operator_acts_alone_where_nobody_could_approve(act: Act, target: Target) -> None:
    actor = actor_of(Relation.OPERATOR, target, None)
    silent = (Operator(ALPHA, ALPHA), Operator(BETA, BETA, signs=False, endures=False))
    colleagues = (Operator(ALPHA, ALPHA), Operator(BETA, ALPHA))

    permitted = RIGHTS[act, target, Relation.OPERATOR] is not Permission.NEVER
    for operators in (silent, colleagues):
        assert (answer(act, target, actor, operators) == "done") == permitted


def test_the_second_operator_is_of_another_organisation() -> None:
    # Case SEC2: two people of one member are not two organisations.
    operators = (
        Operator(ALPHA, HOSPITAL),
        Operator(BETA, HOSPITAL),
        Operator(OTHER, OTHER),
    )
    actor = Actor(ALPHA, "person", frozenset({"operator"}), UNASKED, member=HOSPITAL, second=BETA)

    assert answer(Act.ADD_KEY, Target.OPERATOR, actor, operators) == "second-operator-needed"


@pytest.mark.parametrize(
    "command",
    [AddKey(key(3)), RevokeKey(key(2).id, "left"), GrantRole("clinician"), WithdrawRole("operator")],
)
def test_a_member_does_nothing_to_its_person_who_is_an_operator(command: Command) -> None:
    # Case SEC2, as it was found: the member added a key to its operator, and was an operator.
    state = PartyState(PARTY, "person", (held(1), held(2)), ("operator",), HOSPITAL)
    member = Actor(HOSPITAL, "member", frozenset(), UNASKED)
    with pytest.raises(Refusal, match="not-permitted"):
        decide(state, command, actor=member, at=NOW, catalogue=CATALOGUE, operators=OPERATORS)


@pytest.mark.parametrize("role", ["identity", "operator"])
@pytest.mark.parametrize("reason", ["rotated", "compromised", "left", "unspecified"])
@pytest.mark.parametrize("other", [None, held(2, NOW + timedelta(days=1))])
def test_who_nobody_could_help_keeps_a_key_that_has_no_end(
    role: RoleName, reason: str, other: HeldKey | None
) -> None:
    # Case SEC8: identity's only key went as `compromised`, and the network was lost.
    kind: PartyKind = "service" if role == "identity" else "person"
    keys = (held(1),) if other is None else (held(1), other)
    state = PartyState(PARTY, kind, keys, (role,))
    itself = Actor(PARTY, kind, frozenset({role}), UNASKED)
    revoke = RevokeKey(key(1).id, reason)  # type: ignore[arg-type]  # the tests choose
    with pytest.raises(Refusal, match="last-key"):
        decide(state, revoke, actor=itself, at=NOW, catalogue=CATALOGUE, operators=(Operator(PARTY, PARTY),))

    successor = PartyState(PARTY, kind, (*keys, held(3)), (role,))
    decide(successor, revoke, actor=itself, at=NOW, catalogue=CATALOGUE, operators=(Operator(PARTY, PARTY),))


@pytest.mark.parametrize("target", [Target.SERVICE, Target.MEMBER, Target.PEOPLE, Target.UNATTACHED])
def test_whoever_lost_the_last_key_gets_another_by_two_operators(target: Target) -> None:
    # Case SEC8: no accepted act leads to a state without a way out.
    kind, roles, member, _ = TARGETS[target]
    state = PartyState(PARTY, kind, (held(1),), roles, member)
    operator = Actor(ALPHA, "person", frozenset({"operator"}), UNASKED)
    stolen = RevokeKey(key(1).id, "compromised")
    state = evolve(
        state, decide(state, stolen, actor=operator, at=NOW, catalogue=CATALOGUE, operators=OPERATORS)
    )
    seconded = Actor(ALPHA, "person", frozenset({"operator"}), UNASKED, second=BETA)
    state = evolve(
        state, decide(state, AddKey(key(3)), actor=seconded, at=NOW, catalogue=CATALOGUE, operators=OPERATORS)
    )

    assert [held_key.id for held_key in state.keys if held_key.may_sign(NOW)] == [key(3).id]


def test_nobody_makes_an_operator_of_itself() -> None:
    state = PartyState(PARTY, "person", (held(1),), ("clinician",), HOSPITAL)
    itself = Actor(PARTY, "person", frozenset({"clinician"}), UNASKED, member=HOSPITAL, second=BETA)
    with pytest.raises(Refusal, match="not-permitted"):
        decide(
            state,
            GrantRole("operator", (key(1).id,)),
            actor=itself,
            at=NOW,
            catalogue=CATALOGUE,
            operators=(),
        )


def test_the_last_operator_who_can_sign_keeps_the_role() -> None:
    state = PartyState(PARTY, "person", (held(1),), ("operator",))
    itself = Actor(PARTY, "person", frozenset({"operator"}), UNASKED)
    gone = (Operator(PARTY, PARTY), Operator(BETA, BETA, signs=False, endures=False))
    with pytest.raises(Refusal, match="last-operator"):
        decide(state, WithdrawRole("operator"), actor=itself, at=NOW, catalogue=CATALOGUE, operators=gone)


def test_the_document_is_what_the_table_says() -> None:
    assert FILE.read_text(encoding="utf-8") == render()
