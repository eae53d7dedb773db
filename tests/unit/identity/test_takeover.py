"""A search for a way in: an attacker who holds one member, among honest acts (cases SEC2, SEC8).

The attacker holds the member MALLORY and every key that it made itself. Operators of several organisations
and another member act honestly, in any order. Whatever happens, the attacker holds no role, key or party that
nobody with the right gave it, and the network can go on. What identity states takes effect for everybody who
folds its topic; and where the attacker holds identity's key as well, and states what it likes, all of this
holds still.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.asking import NETWORK, UNASKED, truly_asked
from tests.effort import tries

from salus.client.auth import make_possession
from salus.events.catalogue import Catalogue
from salus.events.context import Context
from salus.events.contexts import CATALOGUE, CONTEXTS
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
from salus.events.effect import Applied, Effect, claims_of
from salus.events.envelope import Event, decode_event, encode_event
from salus.events.event_types import EventData, Retention
from salus.events.fields import RoleName
from salus.events.keyring import KeyRing
from salus.events.rights import Actor
from salus.identity.domain import (
    AddKey,
    Command,
    Expel,
    GrantRole,
    MembershipCommand,
    PartyState,
    Register,
    Reinstate,
    RevokeKey,
    Suspend,
    WithdrawRole,
    decide,
    evolve,
)
from salus.identity.handlers import held_keys, is_lookalike, membership_of, require_possession
from salus.identity.held_keys import RevocationReason
from salus.runtime.refusal import Refusal

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ROOT, CONSENT = "did:web:identity.example", "did:web:consent.example"
ALPHA, BETA = "did:web:alpha.example", "did:web:beta.example"
GOOD, MALLORY = "did:web:good.example", "did:web:mallory.example"
NURSE, MOLE, BOSS = f"{GOOD}:nurse", f"{MALLORY}:mole", f"{MALLORY}:boss"
FRESH, PORT, PATH = f"{MALLORY}:fresh", "did:web:x.example%3A1", "did:web:x.example:1"
EVERYBODY = (ROOT, CONSENT, ALPHA, BETA, GOOD, MALLORY, NURSE, MOLE, BOSS, FRESH, PORT, PATH)
KINDS: dict[str, PartyKind] = {ROOT: "service", CONSENT: "service", GOOD: "member", MALLORY: "member"}
ROLES: tuple[RoleName, ...] = ("identity", "consent", "operator", "privacy-officer", "clinician", "patient")
ROLES_OF_PACKAGE = ("supply", "supplier")
# A service that joins a running network, of a package beside the release; nobody else may have its role.
SUPPLY = "did:web:supply.example"
SUPPLY_SEED = 70
PACKAGE = Context("supply")
PACKAGE.package = "salus-supply"
PACKAGE.role("supply", "service", "states what is supplied")
PACKAGE.role("supplier", "person", "supplies")


@PACKAGE.event("salus.supply.supplied.v1", owner="supply", retention=Retention.RECORD)
class Supplied(EventData):
    """Something was supplied."""


WITH_PACKAGE = Catalogue([*CONTEXTS, PACKAGE])
STANDINGS: tuple[MembershipCommand, ...] = (Suspend("inquiry"), Reinstate("resolved"), Expel("rule-breach"))
REASONS: tuple[RevocationReason, ...] = ("rotated", "compromised", "left", "unspecified")
# BOSS is a person of the attacker's member whom the operators made one of theirs; she holds her own key.
HONEST = (ROOT, CONSENT, ALPHA, BETA, GOOD, NURSE, BOSS)
OF_ATTACKER = (MALLORY, MOLE, FRESH)


@cache
def signer(did: str, seed: int) -> LocalSigner:
    return LocalSigner.from_seed(seed.to_bytes(32), f"{did}#{seed}")


def key_of(did: str, seed: int, until: datetime | None = None) -> PublicKey:
    return PublicKey(f"{did}#{seed}", multibase_of(signer(did, seed).public_key), NOW, until)


@cache
def proof(did: str, seed: int, member: str | None) -> str:
    return make_possession(signer(did, seed), member=member, network=NETWORK, now=NOW)


FOUNDERS: tuple[tuple[str, tuple[RoleName, ...], str | None], ...] = (
    (ROOT, ("identity",), None),
    (CONSENT, ("consent",), None),
    (ALPHA, ("operator",), None),
    (BETA, ("operator",), None),
    (GOOD, (), None),
    (MALLORY, (), None),
    (NURSE, ("clinician",), GOOD),
    (BOSS, ("operator",), MALLORY),
)
# Seeds below 100 are honest parties' keys, which the attacker knows the public half of; from 100 on, its own.
FIRST_SEED = {did: 1 + index for index, did in enumerate(EVERYBODY)}
OWN_SEEDS = range(100, 106)
# Keys of people who are not registered yet. The attacker has proofs of theirs, for another id or member.
OF_VICTIMS = range(60, 63)
seeds = st.sampled_from((*FIRST_SEED.values(), *OF_VICTIMS, *OWN_SEEDS))
# The did:key of somebody who is not registered yet.
VICTIM = LocalSigner.from_seed((63).to_bytes(32)).did


def event_did(data: EventData) -> str:
    did: str = data.did  # type: ignore[attr-defined]  # all of identity's facts that are stated here have one
    return did


class Takeover(RuleBasedStateMachine):
    """One attacker against the contract and the key ring."""

    def __init__(self) -> None:
        super().__init__()
        self.parties: dict[str, PartyState] = {}
        self.ring = KeyRing(WITH_PACKAGE, NETWORK)
        # Of somebody who has not installed the package.
        self.bare = KeyRing(Catalogue(CONTEXTS), NETWORK)
        self.stated = 0
        # What honest parties with the right have given: who has which roles, which keys are whose.
        self.given: dict[str, set[RoleName]] = {}
        # Keys that the attacker's member added to BOSS while she was no operator. Whoever makes her an
        # operator again sees them; until then she is a person of that member.
        self.seen: set[str] = set()

    @initialize()
    def found(self) -> None:
        founding = Actor(ROOT, "service", frozenset({"identity"}), UNASKED, founding=True)
        for did, roles, member in FOUNDERS:
            assert self.do(founding, self.registration(did, FIRST_SEED[did], roles, member))
        self.given = {did: set(party.roles) for did, party in self.parties.items()}

    def registration(
        self, did: str, seed: int, roles: tuple[RoleName, ...] = (), member: str | None = None
    ) -> Register:
        kind = KINDS.get(did, "person")
        return Register(did, kind, (key_of(did, seed),), roles, member)

    def actor(self, did: str, second: str | None = None) -> Actor:
        """Return a registered party as it is authenticated: by the ring."""
        party = self.ring.caller(did) if self.ring.may_ask(did) else self.ring.parties[did]
        return Actor(did, party.kind, party.roles, UNASKED, member=party.member, second=second)

    def do(self, actor: Actor, command: Command, did: str | None = None) -> EventData | None:
        """Do what the handler does, and return the event, or None if it is refused."""
        if isinstance(command, Register):
            did = command.did
            organisation = None if command.member is None else self.parties.get(command.member)
            command = replace(command, organisation=organisation, lookalike=is_lookalike(did, self.ring))
        assert did is not None
        if not actor.founding and any(self.has_ended(who) for who in (actor.did, actor.second)):
            # As `as_known` of the handlers refuses it.
            return None
        state = self.parties.get(did, PartyState())
        try:
            event = decide(
                state,
                command,
                actor=actor,
                at=NOW,
                catalogue=self.ring.types.catalogue_for(
                    command.kind if isinstance(command, Register) else state.kind
                ),
                held_elsewhere=held_keys(command, did, self.ring),
                operators=self.ring.operators(at=NOW),
                membership=membership_of(command, did, self.ring),
            )
            if not actor.founding:
                require_possession(command, event, state=state, network=NETWORK, at=NOW)
        except Refusal:
            return None
        if actor.founding:
            self.found_party(event)
        else:
            effect = self.state(event, actor.did, command, second=actor.second)
            assert isinstance(effect, Applied), "whoever folds the topic says what the contract says"
        return event

    def has_ended(self, did: str | None) -> bool:
        """Tell whether the key that somebody signs with here is revoked, or nothing is taken from them."""
        known = None if did is None else self.ring.keys.get(f"{did}#{FIRST_SEED[did]}")
        return known is not None and (known.revoked_at is not None or not self.ring.may_ask(known.did))

    def found_party(self, event: EventData) -> None:
        """Let somebody be there from the beginning."""
        self.ring.apply(event, at=NOW)
        self.bare.apply(event, at=NOW)
        fact = self.as_event(event, event_did(event))
        self.ring.claims.update(claims_of(fact))
        self.bare.claims.update(claims_of(fact))
        self.parties[event_did(event)] = evolve(PartyState(), event)

    def as_event(self, data: EventData, did: str) -> Event:
        self.stated += 1
        value = encode_event(
            data,
            id=str(self.stated),
            source=ROOT,
            subject=did,
            time=NOW,
            expected_version=self.ring.versions.get(did, 0),
        )
        return decode_event(value, CATALOGUE)

    def state(
        self, data: EventData, by: str, command: Command, *, second: str | None, asked: bool = True
    ) -> Effect:
        """Sign with identity's key what somebody asked for, and let everybody fold it."""
        did = event_did(data)
        if asked:
            data = truly_asked(
                data,  # type: ignore[type-var]  # all that identity states is asked for
                signer(by, FIRST_SEED[by]),
                at=NOW,
                proofs=command.proofs if isinstance(command, Register | AddKey) else {},
                seen=command.keys if isinstance(command, GrantRole) else None,
                second=signer(second, FIRST_SEED[second]) if second else None,
            )
        event = self.as_event(data, did)
        barred = any(who in self.ring.parties and not self.ring.may_ask(who) for who in (by, second))
        effect = self.ring.fold(event, appended=NOW, offset=self.stated)
        self.bare.fold(event, appended=NOW, offset=self.stated)
        assert not (barred and isinstance(effect, Applied)), "of a suspended member nothing takes effect"
        if isinstance(effect, Applied):
            self.parties[did] = evolve(self.parties.get(did, PartyState()), data)
        return effect

    # --- the attacker ---

    def attackers(self) -> list[str]:
        return [did for did in OF_ATTACKER if did in self.ring.parties]

    def attack(self, who: int, command: Command, did: str | None, second: str | None) -> None:
        attackers = self.attackers()
        # It can sign approvals as its own people only; naming an honest operator would take a signature.
        self.do(self.actor(attackers[who % len(attackers)], second), command, did)

    @rule(
        who=st.integers(0, 2),
        did=st.sampled_from((*EVERYBODY, SUPPLY, VICTIM)),
        seed=seeds,
        role=st.sampled_from((*ROLES, *ROLES_OF_PACKAGE, None)),
        member=st.sampled_from((MALLORY, GOOD, None)),
        kind=st.sampled_from(("person", "service", "member", "device")),
        second=st.sampled_from((*OF_ATTACKER, None)),
    )
    def attacker_registers(  # noqa: PLR0917  # all that a body may say
        self,
        who: int,
        did: str,
        seed: int,
        role: RoleName | None,
        member: str | None,
        kind: PartyKind,
        second: str | None,
    ) -> None:
        # It proves what it holds; of others' keys it has the proof that they gave to their own member.
        if seed in OWN_SEEDS:
            proofs = {f"{did}#{seed}": proof(did, seed, member)}
        else:
            proofs = {f"{did}#{seed}": proof(f"{GOOD}:{seed}", seed, GOOD)}
        command = Register(did, kind, (key_of(did, seed),), (role,) if role else (), member, proofs=proofs)
        self.attack(who, command, None, second)

    @rule(
        who=st.integers(0, 2),
        did=st.sampled_from((*EVERYBODY, SUPPLY)),
        seed=st.sampled_from(OWN_SEEDS),
        second=st.sampled_from((*OF_ATTACKER, None)),
    )
    def attacker_adds_a_key(self, who: int, did: str, seed: int, second: str | None) -> None:
        member = self.parties.get(did, PartyState()).member
        proofs = {f"{did}#{seed}": proof(did, seed, member)}
        self.attack(who, AddKey(key_of(did, seed), proofs), did, second)
        if "operator" not in self.ring.parties[BOSS].roles:
            self.seen.update(key_id for key_id, known in self.ring.keys.items() if known.did == BOSS)

    @rule(
        who=st.integers(0, 2),
        did=st.sampled_from(EVERYBODY),
        seed=seeds,
        reason=st.sampled_from(REASONS),
        second=st.sampled_from((*OF_ATTACKER, None)),
    )
    def attacker_revokes_a_key(
        self, who: int, did: str, seed: int, reason: RevocationReason, second: str | None
    ) -> None:
        self.attack(who, RevokeKey(f"{did}#{seed}", reason), did, second)

    @rule(
        who=st.integers(0, 2),
        did=st.sampled_from((*EVERYBODY, SUPPLY)),
        role=st.sampled_from((*ROLES, *ROLES_OF_PACKAGE)),
        how=st.sampled_from(("grant", "withdraw")),
        second=st.sampled_from((*OF_ATTACKER, None)),
    )
    def attacker_changes_a_role(
        self,
        who: int,
        did: str,
        role: RoleName,
        how: str,
        second: str | None,
    ) -> None:
        self.attack(who, WithdrawRole(role) if how == "withdraw" else self.grant(role, did), did, second)

    @rule(
        who=st.integers(0, 2),
        did=st.sampled_from(EVERYBODY),
        command=st.sampled_from(STANDINGS),
        second=st.sampled_from((*OF_ATTACKER, None)),
    )
    def attacker_changes_a_standing(
        self, who: int, did: str, command: MembershipCommand, second: str | None
    ) -> None:
        before = self.ring.memberships.now(did)
        self.attack(who, command, did, second)
        assert self.ring.memberships.now(did) is before

    def grant(self, role: RoleName, did: str) -> GrantRole:
        held = self.parties.get(did, PartyState()).keys
        return GrantRole(role, tuple(key.id for key in held if key.revoked is None))

    # --- everybody else: what is right to do, by whoever may ---

    @rule(
        by=st.sampled_from((ROOT, ALPHA, BETA, BOSS)),
        second=st.sampled_from((ALPHA, BETA, BOSS, None)),
        did=st.sampled_from(HONEST),
        seed=st.integers(50, 56),
        days=st.sampled_from((None, 1)),
    )
    def honest_key_is_added(
        self,
        by: str,
        second: str | None,
        did: str,
        seed: int,
        days: int | None,
    ) -> None:
        until = None if days is None else NOW + timedelta(days=days)
        proofs = {f"{did}#{seed}": proof(did, seed, self.parties[did].member)}
        self.do(self.actor(by, second), AddKey(key_of(did, seed, until), proofs), did)

    @rule(by=st.sampled_from((ALPHA, BETA, BOSS, GOOD)), second=st.sampled_from((ALPHA, BETA, BOSS, None)))
    def operators_let_a_service_join(self, by: str, second: str | None) -> None:
        proofs = {f"{SUPPLY}#{SUPPLY_SEED}": proof(SUPPLY, SUPPLY_SEED, None)}
        key = key_of(SUPPLY, SUPPLY_SEED)
        command = Register(SUPPLY, "service", (key,), ("supply",), proofs=proofs)
        if self.do(self.actor(by, second), command) is not None:
            self.given[SUPPLY] = {"supply"}

    @rule(
        by=st.sampled_from(HONEST),
        second=st.sampled_from((ALPHA, BETA, BOSS, None)),
        did=st.sampled_from(EVERYBODY),
        seed=st.one_of(st.integers(50, 56), seeds),
        reason=st.sampled_from(REASONS),
    )
    def somebody_revokes_a_key(
        self, by: str, second: str | None, did: str, seed: int, reason: RevocationReason
    ) -> None:
        self.do(self.actor(by, second), RevokeKey(f"{did}#{seed}", reason), did)

    @rule(
        by=st.sampled_from((ALPHA, BETA, BOSS)),
        second=st.sampled_from((ALPHA, BETA, BOSS, None)),
        did=st.sampled_from((ALPHA, BETA, BOSS, NURSE)),
        role=st.sampled_from(("operator", "clinician")),
        how=st.sampled_from(("grant", "withdraw")),
    )
    def operators_change_a_role(
        self,
        by: str,
        second: str | None,
        did: str,
        role: RoleName,
        how: str,
    ) -> None:
        if (
            self.do(
                self.actor(by, second),
                WithdrawRole(role) if how == "withdraw" else self.grant(role, did),
                did,
            )
            is not None
        ):
            self.given[did].symmetric_difference_update({role})

    @rule(
        by=st.sampled_from((ALPHA, BETA, BOSS, GOOD)),
        second=st.sampled_from((ALPHA, BETA, BOSS, None)),
        did=st.sampled_from((GOOD, MALLORY, BOSS, ALPHA)),
        command=st.sampled_from((*STANDINGS[:2], *STANDINGS)),
    )
    def somebody_changes_a_standing(
        self, by: str, second: str | None, did: str, command: MembershipCommand
    ) -> None:
        keys, parties = dict(self.ring.keys), dict(self.ring.parties)
        if self.do(self.actor(by, second), command, did) is None:
            return

        assert did in {GOOD, MALLORY}
        assert not (did == MALLORY and BOSS in {by, second}), "nobody of the member itself has a say"
        assert (self.ring.keys, self.ring.parties) == (keys, parties), "keys and roles are as they were"

    # --- what must hold ---

    @invariant()
    def nobody_got_power_that_was_not_given(self) -> None:
        for did, party in self.ring.parties.items():
            powerful = party.roles & {"identity", "consent", "operator", "supply"}
            assert powerful <= self.given.get(did, set()), did

    @invariant()
    def a_packages_types_hold_once_operators_let_its_service_join(self) -> None:
        holds = self.ring.types.present.type_named("salus.supply.supplied.v1") is not None
        assert holds == (SUPPLY in self.given)

    @invariant()
    def who_lacks_the_package_knows_it_and_has_the_same_parties(self) -> None:
        assert self.bare.lacking == ({"supply"} if SUPPLY in self.given else set())
        assert self.bare.keys == self.ring.keys
        assert self.bare.parties == self.ring.parties

    @invariant()
    def no_key_of_the_attacker_signs_for_anybody_else(self) -> None:
        for key_id, known in self.ring.keys.items():
            mine = int(key_id.partition("#")[2]) in OWN_SEEDS
            assert not (mine and known.did in {*HONEST, SUPPLY} and key_id not in self.seen), key_id

    @invariant()
    def no_key_is_registered_whose_holder_did_not_agree(self) -> None:
        seeds = {int(key_id.partition("#")[2]) for key_id in self.ring.keys}
        assert not seeds & set(OF_VICTIMS)

    @invariant()
    def the_attacker_takes_no_name_of_others(self) -> None:
        joined = {SUPPLY} & self.given.keys()
        assert self.ring.parties.keys() <= {*HONEST, *OF_ATTACKER, *joined}

    @invariant()
    def nobody_acts_for_a_member_that_did_not_ask(self) -> None:
        people = {did for did, party in self.ring.parties.items() if party.member == GOOD}
        assert people <= {NURSE}

    @invariant()
    def there_is_always_a_way_out(self) -> None:
        if not self.parties:
            return
        assert any(key.endures(NOW) for key in self.parties[ROOT].keys)
        # Whoever is suspended can be reinstated: by somebody whose member is not.
        enduring = [operator for operator in self.ring.operators(at=NOW) if operator.endures]
        assert enduring
        assert all(self.ring.may_ask(operator.did) for operator in enduring)

    @invariant()
    def the_state_of_parties_says_who_is_suspended(self) -> None:
        for did, party in self.parties.items():
            assert party.membership is self.ring.memberships.now(did)


class StolenKey(Takeover):
    """The attacker holds identity's key as well, and states what it likes; its own requests it can sign."""

    def attack(self, who: int, command: Command, did: str | None, second: str | None) -> None:
        attackers = self.attackers()
        by = attackers[who % len(attackers)]
        did = command.did if isinstance(command, Register) else did
        assert did is not None
        data = data_of(command, did)
        self.state(data, by, command, second=None, asked=False)
        self.state(data, by, command, second=second)


def data_of(command: Command, did: str) -> EventData:  # noqa: PLR0911  # one per command
    """What a command comes to if no contract is asked."""
    match command:
        case Register():
            return PartyRegistered(
                did, command.kind, command.keys, command.roles, command.member, request=UNASKED
            )
        case AddKey():
            return KeyAdded(did, command.key, request=UNASKED)
        case RevokeKey():
            return KeyRevoked(did, command.key_id, command.reason, request=UNASKED)
        case GrantRole():
            return RoleGranted(did, command.role, request=UNASKED)
        case WithdrawRole():
            return RoleWithdrawn(did, command.role, request=UNASKED)
        case Suspend():
            return MemberSuspended(did, command.reason, request=UNASKED)
        case Reinstate():
            return MemberReinstated(did, command.reason, request=UNASKED)
        case Expel():
            return MemberExpelled(did, command.reason, request=UNASKED)


TestStolenKey = StolenKey.TestCase
TestStolenKey.settings = settings(max_examples=tries(30, long=1_000), stateful_step_count=40, deadline=None)
TestTakeover = Takeover.TestCase
TestTakeover.settings = settings(max_examples=tries(30, long=1_000), stateful_step_count=40, deadline=None)
