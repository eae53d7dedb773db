"""Members' own event types at identity: every cell of the table of rights, and the routes (issue 13, 1)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from tests.asking import NETWORK, UNASKED, FixedCallers, truly_asked
from tests.own_types import HOSPITAL, SEALED, activated, dataschema, name_of, proposed, schema_of, withdrawn

from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import PartyRegistered, PublicKey, RoleWithdrawn
from salus.events.did import LocalSigner, multibase_of
from salus.events.effect import Applied, NoEffect, WithoutEffect
from salus.events.envelope import decode_event, encode_event
from salus.events.errors import Reason, RejectedError
from salus.events.event_types import schema_file
from salus.events.judging import judge
from salus.events.keyring import KeyRing
from salus.events.parties import Party
from salus.events.requests import Request
from salus.events.rights import RIGHTS, Act, Actor, Permission, Relation, Target
from salus.events.signature import sign_values
from salus.events.type_definition import definition
from salus.events.type_registry import TypeFact
from salus.identity.event_types import (
    ActivateType,
    EventTypeState,
    ProposeType,
    TypeCommand,
    WithdrawType,
    decide,
    evolve,
    is_done,
)
from salus.identity.event_types_api import EventTypeView, event_type_routes
from salus.runtime import problems
from salus.runtime.limits import Rate
from salus.runtime.refusal import Refusal

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
BEFORE = datetime(2026, 11, 22, 11, tzinfo=UTC)
ALPHA, BETA = "did:web:alpha.example", "did:web:beta.example"
OTHER, STRANGER, NURSE = "did:web:other.example", "did:web:stranger.example", "did:web:hospital.example:nurse"
SIGNERS = {
    did: LocalSigner.from_seed(bytes([number]) * 32, f"{did}#1")
    for number, did in enumerate((HOSPITAL, OTHER, ALPHA, BETA, STRANGER, NURSE), start=1)
}
SCHEMA = schema_of()
NAME = name_of(SCHEMA)
BREAKING = schema_of(required=("patient", "ward", "beds"))
CELLS = [cell for cell in RIGHTS if cell[1] is Target.TYPE]


def network() -> KeyRing:
    """The ring of a network with two operators, two members, a nurse of one and a stranger."""
    ring = KeyRing(CATALOGUE, NETWORK)
    for did, signer in SIGNERS.items():
        kind = "member" if did in {HOSPITAL, OTHER} else "person"
        roles = ("operator",) if did in {ALPHA, BETA} else ()
        member = HOSPITAL if did == NURSE else None
        key = PublicKey(signer.verification_method, multibase_of(signer.public_key), BEFORE)
        ring.apply(PartyRegistered(did, kind, (key,), roles, member, request=UNASKED))  # type: ignore[arg-type]  # the kinds above
    return ring


def before(act: Act) -> KeyRing:
    """The network where an act may be done."""
    ring = network()
    if act is not Act.PROPOSE_TYPE:
        ring.apply(proposed(SCHEMA))
    if act is Act.WITHDRAW_TYPE:
        ring.apply(activated(SCHEMA))
    return ring


FACTS: dict[Act, TypeFact] = {
    Act.PROPOSE_TYPE: proposed(SCHEMA),
    Act.ACTIVATE_TYPE: activated(SCHEMA),
    Act.WITHDRAW_TYPE: withdrawn(SCHEMA),
}
COMMANDS: dict[Act, TypeCommand] = {
    Act.PROPOSE_TYPE: ProposeType(NAME, SCHEMA),
    Act.ACTIVATE_TYPE: ActivateType(NAME, dataschema(SCHEMA)),
    Act.WITHDRAW_TYPE: WithdrawType(NAME),
}
WHO = {
    Relation.ITSELF: HOSPITAL,
    Relation.ITS_MEMBER: NURSE,
    Relation.OPERATOR: ALPHA,
    Relation.OTHER: OTHER,
}


def answer(act: Act, who: str, second: str | None) -> str:
    """What the contract says to this command, and if it is proposed by another, of the type of that one."""
    ring = before(act)
    party = ring.parties[who]
    actor = Actor(who, party.kind, party.roles, UNASKED, member=party.member, second=second)
    try:
        decide(COMMANDS[act], actor=actor, types=ring.types, operators=ring.operators(at=NOW))
    except Refusal as refusal:
        return refusal.code
    return "done"


def effect(act: Act, who: str, second: str | None, *, request: Request | None = None) -> Any:
    """What everybody says of this event of identity's making, whatever the contract says."""
    ring, signed = before(act), SIGNERS[second] if second else None
    data = truly_asked(FACTS[act], SIGNERS[who], at=NOW, second=signed)
    if request is not None:
        data = msgspec.structs.replace(data, request=request)
    value = encode_event(data, id="1", source=ALPHA, subject=NAME, time=NOW, expected_version=0)
    return ring.fold(decode_event(value, CATALOGUE), appended=NOW)


@pytest.mark.parametrize(("act", "target", "relation"), CELLS, ids=str)
def test_the_contract_and_everybody_who_folds_say_what_the_table_says(
    act: Act, target: Target, relation: Relation
) -> None:
    who = WHO[relation]
    # Whoever proposes proposes in their own name: of another's type, it is the name that is refused.
    refused = {"not-permitted", "invalid-schema"} if act is Act.PROPOSE_TYPE else {"not-permitted"}
    said = {second: answer(act, who, second) for second in (None, BETA, STRANGER, ALPHA)}

    match RIGHTS[act, target, relation]:
        case Permission.ALONE:
            assert set(said.values()) == {"done"}
        case Permission.SECONDED:
            assert said == {BETA: "done"} | dict.fromkeys((None, STRANGER, ALPHA), "second-operator-needed")
        case Permission.NEVER:
            assert set(said.values()) <= refused
    for second in (None, BETA, STRANGER):
        allowed = said[second] == "done"
        assert effect(act, who, second) == (Applied(1) if allowed else WithoutEffect(NoEffect.NOT_ENTITLED))


@pytest.mark.parametrize("act", COMMANDS)
def test_identity_alone_does_nothing_with_anybodys_types(act: Act) -> None:
    assert effect(act, ALPHA, BETA, request=UNASKED) == WithoutEffect(NoEffect.NOT_ENTITLED)


def test_a_network_with_operators_of_one_organisation_activates_with_one() -> None:
    ring = before(Act.ACTIVATE_TYPE)
    actor = Actor(ALPHA, "person", frozenset({"operator"}), UNASKED)
    alone = [operator for operator in ring.operators(at=NOW) if operator.did == ALPHA]

    assert decide(COMMANDS[Act.ACTIVATE_TYPE], actor=actor, types=ring.types, operators=alone)


@pytest.mark.parametrize(
    ("history", "fact", "who", "code"),
    [
        ([], proposed(schema_of(OTHER), HOSPITAL), HOSPITAL, "invalid-schema"),
        ([proposed(SCHEMA), activated(SCHEMA)], proposed(BREAKING), HOSPITAL, "incompatible-schema"),
        ([proposed(SCHEMA)], activated(BREAKING), ALPHA, "not-proposed"),
        ([], withdrawn(SCHEMA), ALPHA, "not-active"),
    ],
)
def test_what_cannot_be_has_no_effect_though_identity_states_it(
    history: list[TypeFact], fact: TypeFact, who: str, code: str
) -> None:
    ring = ring_of(history)
    data = truly_asked(fact, SIGNERS[who], at=NOW, second=SIGNERS[BETA])
    value = encode_event(data, id="1", source=ALPHA, subject=fact.type, time=NOW, expected_version=0)

    effect = ring.fold(decode_event(value, CATALOGUE), appended=NOW)

    assert effect == WithoutEffect(NoEffect.NOT_ENTITLED)
    assert ring.unentitled[0].code == code
    assert ring.types.catalogue_at(NOW).types() == ring_of(history).types.catalogue_at(NOW).types()


def ring_of(history: list[TypeFact]) -> KeyRing:
    ring = network()
    for each in history:
        ring.apply(each)
    return ring


@pytest.mark.parametrize(
    ("act", "other"),
    [
        (Act.PROPOSE_TYPE, proposed(BREAKING)),
        (Act.PROPOSE_TYPE, withdrawn(SCHEMA)),
        (Act.ACTIVATE_TYPE, activated(BREAKING)),
        (Act.ACTIVATE_TYPE, activated(schema_of(fact="other.v1"))),
        (Act.ACTIVATE_TYPE, withdrawn(SCHEMA)),
        (Act.WITHDRAW_TYPE, withdrawn(schema_of(fact="other.v1"))),
        (Act.WITHDRAW_TYPE, activated(SCHEMA)),
    ],
)
def test_a_request_for_something_else_is_no_request_for_it(act: Act, other: TypeFact) -> None:
    ring = before(act)
    data = truly_asked(FACTS[act], SIGNERS[ALPHA], at=NOW, second=SIGNERS[BETA])
    wrong = msgspec.structs.replace(other, request=data.request)
    signer = LocalSigner.from_seed(b"idty" * 8)
    key = PublicKey(signer.verification_method, multibase_of(signer.public_key), BEFORE)
    ring.apply(PartyRegistered(signer.did, "service", (key,), ("identity",), request=UNASKED))
    verdicts: list[Reason | None] = []
    for fact in (data, wrong):
        value = encode_event(fact, id="1", source=signer.did, subject=fact.type, time=NOW, expected_version=0)
        try:
            judge(
                topic="salus.identity.events",
                key=fact.type.encode(),
                value=value,
                signature=sign_values([value], signer)[0],
                ring=ring,
                at=NOW,
            )
            verdicts.append(None)
        except RejectedError as error:
            verdicts.append(error.reason)

    assert verdicts == [None, Reason.INVALID_REQUEST]


def test_what_is_done_already_is_found_done() -> None:
    state, done = EventTypeState(), []
    for fact in (proposed(SCHEMA), activated(SCHEMA), withdrawn(SCHEMA)):
        done.append(is_done(state, fact))
        state = evolve(state, fact)
        done.append(is_done(state, fact))

    assert done == [False, True] * 3
    # What was withdrawn, or is proposed anew while another is active, is not done.
    assert not is_done(state, proposed(SCHEMA))
    again = evolve(evolve(state, proposed(SCHEMA)), activated(SCHEMA))
    assert is_done(again, proposed(SCHEMA))
    assert not is_done(evolve(again, proposed(BREAKING)), activated(SCHEMA))


# --- over HTTP ----------------------------------------------------------------------------------------


@dataclass
class Host:
    """The aggregate and the ring; whatever is decided is folded at once."""

    caller: str = HOSPITAL
    ring: KeyRing = field(default_factory=network)
    stated: dict[str, EventTypeState] = field(default_factory=dict)
    facts: list[TypeFact] = field(default_factory=list)

    async def state(self, name: str) -> EventTypeState:
        return self.stated.get(name, EventTypeState())

    async def execute(self, name: str, rule: Callable[[EventTypeState], Awaitable[TypeFact]]) -> None:
        fact = await rule(await self.state(name))
        self.stated[name] = evolve(await self.state(name), fact)
        self.ring.apply(fact, at=NOW)
        self.facts.append(fact)

    async def catch_up(self) -> KeyRing:
        return self.ring

    def _party(self, _: object) -> Party:
        return self.ring.parties[self.caller]

    async def ask(self, method: str, path: str, body: Any = None, *, burst: int = 100) -> httpx.Response:
        app, host = FastAPI(), self
        problems.install(app)
        stands: Any = host
        routes = event_type_routes(
            stands,
            authenticate=FixedCallers(self._party),
            ring=self,
            now=lambda: NOW,
            commands=Rate(burst=burst, per_minute=1),
        )
        app.include_router(routes)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://identity") as client:
            return await client.request(method, path, json=body)

    async def live(self) -> None:
        """Propose the type and activate it; one operator is enough in this network."""
        self.ring.apply(withdraw_operator(), at=BEFORE)
        await self.ask("POST", "/event-types", {"schema": SCHEMA})
        self.caller = ALPHA
        await self.ask("POST", f"/event-types/{NAME}/activate", {"dataschema": dataschema(SCHEMA)})


def withdraw_operator() -> Any:
    return RoleWithdrawn(BETA, "operator", request=UNASKED)


async def test_a_type_is_proposed_activated_shown_and_withdrawn() -> None:
    host = Host()
    await host.live()
    shown = (await host.ask("GET", f"/event-types/{NAME}")).json()

    assert shown == {
        "type": NAME,
        "status": "active",
        "meaning": "A bed of a ward is occupied.",
        "topic": "salus.clinical.events",
        "owner": HOSPITAL,
        "subject": "patient",
        "sealed": [],
        "retention": "record",
        "dataschema": dataschema(SCHEMA),
        "member": HOSPITAL,
        "revision": 1,
        "activated_by": UNASKED.by,
        "since": "2026-11-22T12:00:00Z",
        "until": None,
        "proposed": None,
    }
    schema = (await host.ask("GET", f"/event-types/{NAME}/schema")).content
    assert dataschema(SCHEMA).endswith(sha256(schema).hexdigest())
    document = (await host.ask("GET", "/asyncapi.json")).json()
    assert NAME in document["components"]["messages"]
    names = [each["type"] for each in (await host.ask("GET", "/event-types")).json()["types"]]
    assert names == sorted([NAME, *(entry.name for entry in CATALOGUE.types())])

    assert (await host.ask("POST", f"/event-types/{NAME}/withdraw")).json()["status"] == "withdrawn"
    assert NAME not in (await host.ask("GET", "/asyncapi.json")).json()["components"]["messages"]
    assert (await host.ask("GET", f"/event-types/{NAME}/schema")).content == schema


async def test_who_repeats_a_command_states_nothing_twice() -> None:
    host = Host()
    await host.live()
    activate = await host.ask("POST", f"/event-types/{NAME}/activate", {"dataschema": dataschema(SCHEMA)})
    host.caller = HOSPITAL
    propose = await host.ask("POST", "/event-types", {"schema": SCHEMA})
    twice = [await host.ask("POST", f"/event-types/{NAME}/withdraw") for _ in range(2)]

    assert [each.status_code for each in (activate, propose, *twice)] == [200, 201, 200, 200]
    assert len(host.facts) == 3  # one each


@pytest.mark.parametrize(
    ("caller", "path", "body", "answer", "named"),
    [
        (HOSPITAL, "/event-types", {"schema": {}}, (422, "invalid-schema"), "$.$schema"),
        (HOSPITAL, "/event-types", {"schema": schema_of(OTHER)}, (422, "invalid-schema"), "$.x-salus.type"),
        (HOSPITAL, "/event-types", {"schema": {"x-salus": {"type": "a\0b"}}}, (422, "invalid-schema"), "$"),
        (HOSPITAL, "/event-types", {"schema": BREAKING}, (409, "incompatible-schema"), "$.beds"),
        (NURSE, "/event-types", {"schema": schema_of(NURSE)}, (403, "not-permitted"), "member"),
        (ALPHA, "/event-types", {"schema": schema_of(ALPHA)}, (403, "not-permitted"), "member"),
        (HOSPITAL, f"/event-types/{NAME}/activate", {"dataschema": "x"}, (403, "not-permitted"), "activate"),
        (OTHER, f"/event-types/{NAME}/withdraw", None, (403, "not-permitted"), "withdraw"),
        (ALPHA, f"/event-types/{NAME}/activate", {"dataschema": "x"}, (409, "not-proposed"), "dataschema"),
        (ALPHA, "/event-types/example.none.x.v1/withdraw", None, (404, "not-active"), "type"),
        (ALPHA, "/event-types/X/withdraw", None, (422, "invalid-request"), "type"),
    ],
)
async def test_what_is_refused_names_the_place(  # a row of the table
    caller: str, path: str, body: Any, answer: tuple[int, str], named: str
) -> None:
    host = Host()
    await host.live()
    host.caller = caller
    told = await host.ask("POST", path, body)

    assert (told.status_code, told.json()["code"]) == answer
    assert named in json.dumps(told.json())
    assert len(host.facts) == 2  # those of `live`


async def test_an_account_proposes_so_often() -> None:
    host = Host()

    assert (await host.ask("POST", "/event-types", {"schema": SCHEMA}, burst=0)).status_code == 429


@pytest.mark.parametrize("path", ["/event-types/example.none.x.v1", "/event-types/example.none.x.v1/schema"])
async def test_a_type_that_is_not_there_is_not_found(path: str) -> None:
    assert (await Host().ask("GET", path)).json()["code"] == "unknown-type"


async def test_what_is_proposed_is_shown_before_it_is_activated() -> None:
    host = Host()
    await host.ask("POST", "/event-types", {"schema": SCHEMA})
    shown = (await host.ask("GET", f"/event-types/{NAME}")).json()

    assert (shown["status"], shown["revision"], shown["since"]) == ("proposed", 0, None)
    assert shown["proposed"]["dataschema"] == dataschema(SCHEMA)
    assert (await host.ask("GET", f"/event-types/{NAME}/schema")).status_code == 404
    assert (await host.ask("GET", f"/event-types/{NAME}/schema?proposed=true")).json() == SCHEMA


async def test_a_proposal_is_not_compiled_to_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is its view another than that of the type (redA7, finding 1): anybody may ask for all of them."""
    optional = {"anyOf": [{"$ref": SEALED["$ref"]}, {"type": "null"}], "x-salus-sealed": True}
    schema = schema_of(fields={"note": SEALED, "other": optional})
    host = Host()
    assert (await host.ask("POST", "/event-types", {"schema": schema})).status_code == 201

    def compiled(*_: object, **__: object) -> None:
        raise AssertionError("a proposal was compiled")

    with monkeypatch.context() as patched:
        patched.setattr("salus.events.type_definition.engine_schema", compiled)
        name = schema["x-salus"]["type"]
        shown = (await host.ask("GET", f"/event-types/{name}")).json()
        [listed] = [t for t in (await host.ask("GET", "/event-types")).json()["types"] if t["type"] == name]
    assert listed == shown
    entry = EventTypeView.of(definition(schema_file(schema))).model_dump()
    of_type = {"meaning", "topic", "owner", "subject", "sealed", "retention", "dataschema"}
    assert {key: shown[key] for key in of_type} == {key: entry[key] for key in of_type}
    assert shown["sealed"] == ["note", "other"]
