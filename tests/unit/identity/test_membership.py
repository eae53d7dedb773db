"""Who suspends, reinstates and expels a member, and what may change of it then: by contract and key ring."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.asking import NETWORK, UNASKED, proofs_of, truly_asked

from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import (
    KeyAdded,
    KeyRevoked,
    MemberExpelled,
    MemberReinstated,
    MemberSuspended,
    PartyRegistered,
    PublicKey,
    RoleGranted,
    RoleWithdrawn,
)
from salus.events.did import LocalSigner, multibase_of
from salus.events.effect import Applied
from salus.events.envelope import decode_event, encode_event
from salus.events.event_types import EventData
from salus.events.keyring import KeyRing
from salus.events.requests import RequestedData
from salus.events.rights import Actor
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
    evolve,
)
from salus.identity.domain import decide as decide_alone
from salus.identity.handlers import as_known, membership_of
from salus.runtime.refusal import Refusal

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
# Three hospitals, each with an operator; a fourth without; and an operator of none.
NORTH, SOUTH, WEST = (f"did:web:{name}.example" for name in ("north", "south", "west"))
SMALL = "did:web:small.example"
NINA, SVEN, WIM = f"{NORTH}:nina", f"{SOUTH}:sven", f"{WEST}:wim"
NORA, PAT, PUMP = f"{NORTH}:nora", f"{NORTH}:pat", f"{NORTH}:pump"
NEW = f"{NORTH}:new"
PARTIES: dict[str, tuple[str, tuple[str, ...], str | None]] = {
    NORTH: ("member", (), None),
    SOUTH: ("member", (), None),
    WEST: ("member", (), None),
    SMALL: ("member", (), None),
    NINA: ("person", ("operator",), NORTH),
    SVEN: ("person", ("operator",), SOUTH),
    WIM: ("person", ("operator",), WEST),
    NORA: ("person", ("clinician",), NORTH),
    PAT: ("person", ("clinician", "patient"), NORTH),
    PUMP: ("device", (), NORTH),
}
SEEDS = {did: number for number, did in enumerate((*PARTIES, NEW), start=1)}
OLD, FRESH = 100, 200


def signer(did: str, more: int = 0) -> LocalSigner:
    seed = SEEDS[did] + more
    return LocalSigner.from_seed(seed.to_bytes(32), f"{did}#{seed}")


def key(did: str, more: int = 0, until: datetime | None = None) -> PublicKey:
    holder = signer(did, more)
    return PublicKey(
        holder.verification_method, multibase_of(holder.public_key), NOW - timedelta(days=1), until
    )


@dataclass
class Town:
    """A network as identity has it, and as everybody has it who folds its topic."""

    without: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    ring: KeyRing = field(default_factory=lambda: KeyRing(CATALOGUE, NETWORK))
    states: dict[str, PartyState] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for did, (kind, roles, member) in PARTIES.items():
            if did not in self.without:
                until = NOW + timedelta(days=1) if did in self.ends else None
                keys = (key(did, until=until), key(did, OLD, until))
                self.take(PartyRegistered(did, kind, keys, roles, member, request=UNASKED))  # type: ignore[arg-type]  # the rows above

    def take(self, data: EventData) -> None:
        did: str = data.did  # type: ignore[attr-defined]  # each fact here is about a party
        self.ring.apply(data, at=NOW - timedelta(hours=1))
        self.states[did] = evolve(self.states.get(did, PartyState()), data)

    def do(self, by: str, command: Command, did: str, second: str | None = None) -> str:
        """Do what identity's handler does, and let everybody fold the event; return the code, or `done`.

        What identity refuses everybody refuses, for the same reason, if it is stated all the same.
        """
        fact = fact_of(command, did)
        event = self.asked(fact, by, command, second)
        party = self.ring.parties[by]
        actor = Actor(by, party.kind, party.roles, event.request, member=party.member, second=second)
        organisation = self.states.get(command.member or "") if isinstance(command, Register) else None
        if isinstance(command, Register):
            command = Register(**{**vars(command), "organisation": organisation})
        code = "done"
        try:
            decide_alone(
                self.states.get(did, PartyState()),
                command,
                actor=as_known(actor, self.ring, at=NOW),
                at=NOW,
                catalogue=CATALOGUE,
                operators=self.ring.operators(at=NOW),
                membership=membership_of(command, did, self.ring),
            )
        except Refusal as refusal:
            code = refusal.code
        version, offset = self.ring.versions.get(did, 0), self.ring.position
        value = encode_event(
            event, id=str(offset), source=NORTH, subject=did, time=NOW, expected_version=version
        )
        effect = self.ring.fold(decode_event(value, CATALOGUE), appended=NOW)
        self.ring.position = offset + 1
        folded = self.ring.unentitled[offset].code if offset in self.ring.unentitled else "done"
        assert folded == code
        if isinstance(effect, Applied):
            self.states[did] = evolve(self.states.get(did, PartyState()), fact)
        return code

    def asked(self, fact: Any, by: str, command: Command, second: str | None) -> Any:
        member = PARTIES[fact.did][2] if fact.did in PARTIES else NORTH
        return truly_asked(
            fact,
            signer(by),
            at=NOW,
            proofs=proofs_of(signer(fact.did), signer(fact.did, FRESH), member=member, at=NOW),
            seen=command.keys if isinstance(command, GrantRole) else None,
            second=signer(second) if second else None,
        )


def fact_of(command: Command, did: str) -> RequestedData:  # noqa: PLR0911  # one per command
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


SUSPEND, REINSTATE, EXPEL = Suspend("inquiry"), Reinstate("unfounded"), Expel("left")
BAR = {"suspended": "member-suspended", "expelled": "member-expelled"}


def barred(how: str) -> Town:
    """A town in which NORTH is suspended, or expelled."""
    town = Town()
    assert town.do(SVEN, SUSPEND, NORTH, WIM) == "done"
    if how == "expelled":
        assert town.do(WIM, EXPEL, NORTH, SVEN) == "done"
    return town


def test_a_member_is_suspended_reinstated_and_expelled_by_two_operators_of_other_members() -> None:
    town = Town()
    said = [
        town.do(SVEN, SUSPEND, NORTH, WIM),
        town.do(WIM, REINSTATE, NORTH, SVEN),
        town.do(SVEN, SUSPEND, NORTH, WIM),
        town.do(WIM, EXPEL, NORTH, SVEN),
    ]

    assert said == ["done"] * 4
    assert town.states[NORTH].membership == "expelled"
    assert town.states[NORTH].standing_reason == "left"


@pytest.mark.parametrize("command", [SUSPEND, REINSTATE, EXPEL], ids=lambda command: type(command).__name__)
def test_nobody_of_the_member_has_a_say_and_nobody_alone(command: Command) -> None:
    town = Town() if command == SUSPEND else barred("suspended")
    own = "not-permitted" if command == SUSPEND else "member-suspended"

    assert town.do(SVEN, command, NORTH) == "second-operator-needed"
    assert town.do(NINA, command, NORTH, SVEN) == own
    assert town.do(SVEN, command, NORTH, NINA) == ("second-operator-needed" if command == SUSPEND else own)
    assert town.do(SOUTH, command, NORTH, SVEN) == "not-permitted"
    assert town.do(NORTH, command, NORTH, SVEN) == own


def test_two_operators_of_one_member_are_one() -> None:
    town = Town()
    town.take(RoleGranted(NORA, "operator", request=UNASKED))

    assert town.do(NINA, SUSPEND, SOUTH, NORA) == "second-operator-needed"


def test_an_accuser_is_not_suspended_by_whom_he_accuses_and_a_friend_of_the_same_member() -> None:
    # North and South only have operators: neither gets rid of the other.
    town = Town(without=(WIM,))

    assert town.do(NINA, SUSPEND, SOUTH) == "last-operators"
    assert town.do(NINA, SUSPEND, SOUTH, SVEN) == "last-operators"
    # A member that has none is another matter.
    assert town.do(NINA, SUSPEND, SMALL, SVEN) == "done"


@pytest.mark.parametrize("ends", [(SVEN,), (WIM,), (SVEN, WIM)])
def test_two_other_organisations_with_operators_stay_whose_keys_have_no_end(ends: tuple[str, ...]) -> None:
    assert Town(ends=ends).do(SVEN, SUSPEND, NORTH, WIM) == "last-operators"


def test_in_a_network_of_one_organisations_operators_that_is_never_suspended() -> None:
    town = Town(without=(SVEN, WIM))

    assert town.do(NINA, SUSPEND, NORTH) == "not-permitted"
    assert town.do(NINA, SUSPEND, SOUTH) == "done"
    assert town.do(NINA, REINSTATE, SOUTH) == "done"


def test_each_act_fits_the_standing() -> None:
    town = Town()

    assert town.do(SVEN, REINSTATE, NORTH, WIM) == "not-suspended"
    assert town.do(SVEN, EXPEL, NORTH, WIM) == "not-suspended"
    assert town.do(SVEN, SUSPEND, NORTH, WIM) == "done"
    assert town.do(SVEN, SUSPEND, NORTH, WIM) == "already-suspended"
    assert town.do(SVEN, EXPEL, NORTH, WIM) == "done"
    assert [town.do(SVEN, act, NORTH, WIM) for act in (SUSPEND, REINSTATE, EXPEL)] == ["already-expelled"] * 3


@pytest.mark.parametrize("did", [NORA, PUMP])
def test_only_members_are_suspended(did: str) -> None:
    assert Town().do(SVEN, SUSPEND, did, WIM) == "not-a-member"


@pytest.mark.parametrize("how", BAR)
def test_of_a_barred_member_nobody_asks_for_anything(how: str) -> None:
    town = barred(how)
    register = Register(NEW, "person", (key(NEW),), (), NORTH)

    assert town.do(NORTH, register, NEW) == BAR[how]
    assert town.do(NORTH, AddKey(key(NORTH, FRESH)), NORTH) == BAR[how]
    assert town.do(NORTH, RevokeKey(key(NORA).id, "rotated"), NORA) == BAR[how]
    assert town.do(NINA, GrantRole("clinician"), NORA, SVEN) == BAR[how]
    # Nor do its operators count for others: neither as the second one nor as one that would be needed.
    assert town.do(SVEN, AddKey(key(SMALL, FRESH)), SMALL, NINA) == BAR[how]
    assert {one.did for one in town.ring.operators(at=NOW) if one.signs or one.endures} == {SVEN, WIM}


@pytest.mark.parametrize("how", BAR)
def test_nobody_joins_a_barred_member_or_gets_a_role_there(how: str) -> None:
    town = barred(how)

    assert town.do(SVEN, Register(NEW, "person", (key(NEW),), (), NORTH), NEW, WIM) == BAR[how]
    assert town.do(SVEN, GrantRole("researcher"), NORA, WIM) == BAR[how]


@pytest.mark.parametrize("how", BAR)
def test_what_takes_away_goes_on(how: str) -> None:
    town = barred(how)

    assert town.do(SVEN, RevokeKey(key(NORTH, OLD).id, "compromised"), NORTH) == "done"
    assert town.do(SVEN, RevokeKey(key(NINA, OLD).id, "compromised"), NINA, WIM) == "done"
    assert town.do(SVEN, WithdrawRole("clinician"), NORA) == "done"
    assert town.do(SVEN, WithdrawRole("operator"), NINA, WIM) == "done"


def test_a_stolen_key_is_replaced_while_the_member_is_suspended_and_not_after_it_was_expelled() -> None:
    suspended, expelled = barred("suspended"), barred("expelled")

    assert suspended.do(SVEN, AddKey(key(NORTH, FRESH)), NORTH, WIM) == "done"
    assert expelled.do(SVEN, AddKey(key(NORTH, FRESH)), NORTH, WIM) == "member-expelled"


@pytest.mark.parametrize("how", BAR)
def test_a_patient_of_a_barred_member_acts_for_herself_and_as_nothing_else(how: str) -> None:
    town = barred(how)

    assert town.ring.caller(PAT).roles == {"patient"}
    assert town.do(PAT, RevokeKey(key(PAT, OLD).id, "compromised"), PAT) == "done"
    assert town.do(PAT, AddKey(key(PAT, FRESH)), PAT) == "done"
    assert town.do(PAT, GrantRole("operator"), PAT) == "not-permitted"


def test_a_reinstated_member_has_what_it_has_now_and_what_was_revoked_stays_revoked() -> None:
    town, never = barred("suspended"), Town()
    town.do(SVEN, RevokeKey(key(NORTH).id, "compromised"), NORTH)
    town.do(WIM, REINSTATE, NORTH, SVEN)
    never.do(SVEN, RevokeKey(key(NORTH).id, "compromised"), NORTH)

    assert town.ring.keys == never.ring.keys
    assert town.ring.parties == never.ring.parties
    assert town.ring.operators(at=NOW) == never.ring.operators(at=NOW)
    assert town.do(NORTH, RevokeKey(key(NORA, OLD).id, "rotated"), NORA) == "key-revoked"
    assert town.do(NORA, RevokeKey(key(NORA, OLD).id, "rotated"), NORA) == "done"


def test_an_expulsion_is_final_whatever_is_stated() -> None:
    town = barred("expelled")
    town.take(MemberReinstated(NORTH, "resolved", request=UNASKED))
    town.take(MemberSuspended(NORTH, "inquiry", request=UNASKED))

    assert town.ring.membership_of(NORA) == town.states[NORTH].membership == "expelled"
    with pytest.raises(Refusal, match="party-exists"):
        decide_alone(
            town.states[NORTH],
            Register(NORTH, "member", (key(NORTH, FRESH),)),
            actor=Actor(SVEN, "person", frozenset({"operator"}), UNASKED, member=SOUTH, second=WIM),
            at=NOW,
            catalogue=CATALOGUE,
            operators=town.ring.operators(at=NOW),
        )


def test_an_approval_that_was_given_before_is_none_after_the_suspension() -> None:
    town = Town()
    add = AddKey(key(SMALL, FRESH))
    approved = town.asked(fact_of(add, SMALL), SVEN, add, NINA)
    town.do(SVEN, SUSPEND, NORTH, WIM)
    value = encode_event(approved, id="late", source=NORTH, subject=SMALL, time=NOW, expected_version=0)
    town.ring.fold(decode_event(value, CATALOGUE), appended=NOW, offset=77)

    assert town.ring.unentitled[77].code == "member-suspended"
