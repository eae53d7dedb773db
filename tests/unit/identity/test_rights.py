"""Who may do what to whom: every cell of the table, as the contract decides it (cases SEC2, SEC8)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.asking import UNASKED
from tools.rights_document import FILE, render

from salus.events.catalogue import PartyKind, PublicKey, Role
from salus.events.did import multibase_of
from salus.identity.domain import (
    AddKey,
    Command,
    GrantRole,
    HeldKey,
    PartyState,
    Register,
    RevokeKey,
    WithdrawRole,
    decide,
    evolve,
)
from salus.identity.rights import RIGHTS, Act, Actor, Operator, Permission, Relation, Target
from salus.runtime.refusal import Refusal

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOSPITAL = "did:web:hospital.example"
OTHER = "did:web:other.example"
ALPHA, BETA = "did:web:alpha.example", "did:web:beta.example"
OPERATORS = (Operator(ALPHA, ALPHA), Operator(BETA, BETA))
# Of each target: its kind, the roles it has, its member, the role that is granted to it or taken.
TARGETS: dict[Target, tuple[PartyKind, tuple[Role, ...], str | None, Role]] = {
    Target.IDENTITY: ("service", ("identity",), None, "identity"),
    Target.OPERATOR: ("person", ("operator",), HOSPITAL, "operator"),
    Target.SERVICE: ("service", ("consent",), None, "storage"),
    Target.MEMBER: ("member", (), None, "patient"),
    Target.PEOPLE: ("person", ("clinician",), HOSPITAL, "researcher"),
    Target.UNATTACHED: ("person", ("clinician",), None, "researcher"),
}
PARTY = f"{HOSPITAL}:party"


def key(seed: int, did: str = PARTY) -> PublicKey:
    public = Ed25519PrivateKey.from_private_bytes(seed.to_bytes(32)).public_key()
    return PublicKey(f"{did}#{seed}", multibase_of(public), NOW)


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
        Act.GRANT_ROLE: GrantRole(role),
        Act.WITHDRAW_ROLE: WithdrawRole(role),
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
    try:
        decide(state, command_of(target, act), actor=actor, at=NOW, operators=operators)
    except Refusal as refusal:
        return refusal.code
    return "done"


@pytest.mark.parametrize(("act", "target", "relation"), RIGHTS, ids=str)
def test_the_contract_decides_as_the_table_says(act: Act, target: Target, relation: Relation) -> None:
    alone = answer(act, target, actor_of(relation, target, None))
    seconded = answer(act, target, actor_of(relation, target, BETA))
    by_nobody = answer(act, target, actor_of(relation, target, "did:web:stranger.example"))
    by_own = answer(act, target, actor_of(relation, target, ALPHA))

    match RIGHTS[act, target, relation]:
        case Permission.ALONE:
            assert alone == seconded == "done"
        case Permission.SECONDED:
            assert (alone, by_nobody, seconded) == ("second-operator-needed",) * 2 + ("done",)
            assert by_own == ("done" if relation is Relation.ITSELF else "second-operator-needed")
        case Permission.NEVER:
            assert {alone, seconded, by_nobody, by_own} == {"not-permitted"}


@pytest.mark.parametrize(("act", "target"), [(act, target) for act in Act for target in Target])
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
        decide(state, command, actor=member, at=NOW, operators=OPERATORS)


@pytest.mark.parametrize("role", ["identity", "operator"])
@pytest.mark.parametrize("reason", ["rotated", "compromised", "left", "unspecified"])
@pytest.mark.parametrize("other", [None, held(2, NOW + timedelta(days=1))])
def test_who_nobody_could_help_keeps_a_key_that_has_no_end(
    role: Role, reason: str, other: HeldKey | None
) -> None:
    # Case SEC8: identity's only key went as `compromised`, and the network was lost.
    kind: PartyKind = "service" if role == "identity" else "person"
    keys = (held(1),) if other is None else (held(1), other)
    state = PartyState(PARTY, kind, keys, (role,))
    itself = Actor(PARTY, kind, frozenset({role}), UNASKED)
    revoke = RevokeKey(key(1).id, reason)  # type: ignore[arg-type]  # the tests choose
    with pytest.raises(Refusal, match="last-key"):
        decide(state, revoke, actor=itself, at=NOW, operators=(Operator(PARTY, PARTY),))

    successor = PartyState(PARTY, kind, (*keys, held(3)), (role,))
    decide(successor, revoke, actor=itself, at=NOW, operators=(Operator(PARTY, PARTY),))


@pytest.mark.parametrize("target", [Target.SERVICE, Target.MEMBER, Target.PEOPLE, Target.UNATTACHED])
def test_whoever_lost_the_last_key_gets_another_by_two_operators(target: Target) -> None:
    # Case SEC8: no accepted act leads to a state without a way out.
    kind, roles, member, _ = TARGETS[target]
    state = PartyState(PARTY, kind, (held(1),), roles, member)
    operator = Actor(ALPHA, "person", frozenset({"operator"}), UNASKED)
    stolen = RevokeKey(key(1).id, "compromised")
    state = evolve(state, decide(state, stolen, actor=operator, at=NOW, operators=OPERATORS))
    seconded = Actor(ALPHA, "person", frozenset({"operator"}), UNASKED, second=BETA)
    state = evolve(state, decide(state, AddKey(key(3)), actor=seconded, at=NOW, operators=OPERATORS))

    assert [held_key.id for held_key in state.keys if held_key.may_sign(NOW)] == [key(3).id]


def test_nobody_makes_an_operator_of_itself() -> None:
    state = PartyState(PARTY, "person", (held(1),), ("clinician",), HOSPITAL)
    itself = Actor(PARTY, "person", frozenset({"clinician"}), UNASKED, member=HOSPITAL, second=BETA)
    with pytest.raises(Refusal, match="not-permitted"):
        decide(state, GrantRole("operator"), actor=itself, at=NOW, operators=())


def test_the_last_operator_who_can_sign_keeps_the_role() -> None:
    state = PartyState(PARTY, "person", (held(1),), ("operator",))
    itself = Actor(PARTY, "person", frozenset({"operator"}), UNASKED)
    gone = (Operator(PARTY, PARTY), Operator(BETA, BETA, signs=False, endures=False))
    with pytest.raises(Refusal, match="last-operator"):
        decide(state, WithdrawRole("operator"), actor=itself, at=NOW, operators=gone)


def test_the_document_is_what_the_table_says() -> None:
    assert FILE.read_text(encoding="utf-8") == render()
