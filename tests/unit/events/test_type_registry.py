"""Members' own event types join, change and go at a moment; verdicts before it stay (issue 13, section 1)."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.asking import NETWORK, UNASKED
from tests.own_types import (
    HOSPITAL,
    SEALED,
    WARD,
    activated,
    dataschema,
    name_of,
    proposed,
    schema_of,
    withdrawn,
)
from tests.unit.events.samples import (
    MORNING,
    NOON,
    PATIENT,
    ROOT,
    Row,
    document,
    encoded,
    public_key,
    records_of,
    row,
    verdict,
)
from tests.unit.events.samples import party as registered

from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import EventTypeProposed
from salus.events.did import LocalSigner
from salus.events.event_types import EventData, EventType, schema_file
from salus.events.judging import Judged, judge_batch
from salus.events.keyring import KeyRing
from salus.events.type_definition import definition
from salus.events.type_registry import TYPES_MAX, TypeFact, TypeRegistry
from salus.ledger.records import appended_at, timestamp_at

SIGNER = LocalSigner.from_seed(b"hosp" * 8, f"{HOSPITAL}#1")
OTHER = LocalSigner.from_seed(b"else" * 8, "did:web:other.example#1")
FIRST = schema_of()
WIDER = schema_of(fields={"floor": {"type": "integer", "minimum": 0, "maximum": 99}})
NARROWER = schema_of(required=("patient", "ward", "beds"))
COMMON = schema_of(fact="ward-closed.v1", about={"owner": "member"})
FACTS: list[TypeFact] = [
    *(proposed(schema) for schema in (FIRST, WIDER, NARROWER, COMMON)),
    *(activated(schema) for schema in (FIRST, WIDER, NARROWER, COMMON)),
    withdrawn(FIRST),
    withdrawn(COMMON),
]


def entry_of(schema: dict[str, Any]) -> EventType:
    return definition(schema_file(schema))


def record(schema: dict[str, Any], *, signer: LocalSigner = SIGNER, **data: Any) -> Row:
    fields = entry_of(schema).data(**({"patient": PATIENT, "ward": "A", "beds": 1} | data))
    return row(encoded(fields, source=signer.did, time=MORNING), signer=signer)


RECORDS = [
    *(record(schema) for schema in (FIRST, WIDER, NARROWER, COMMON)),
    record(COMMON, signer=OTHER),
    record(FIRST, signer=OTHER),
    record(WIDER, floor=3),
    row(encoded(document(), source=SIGNER.did, time=MORNING), signer=SIGNER),
]
MILLISECONDS = st.integers(0, 8)
Fact = tuple[TypeFact, int]
HISTORIES = st.lists(st.tuples(st.sampled_from(FACTS), MILLISECONDS), max_size=8).map(
    lambda facts: sorted(facts, key=lambda fact: fact[1])
)
MANY = st.lists(st.tuples(st.sampled_from(RECORDS), MILLISECONDS), min_size=1, max_size=8)
LIFE: list[Fact] = [
    (proposed(FIRST), 0),
    (activated(FIRST), 1),
    (proposed(WIDER), 2),
    (activated(WIDER), 4),
    (withdrawn(FIRST), 6),
]


def ring_of(facts: list[Fact]) -> KeyRing:
    """The ring after these facts, as far as they can be: who asked is not looked at here."""
    ring = KeyRing.rooted(CATALOGUE, network=NETWORK, did=ROOT.did, key=public_key(ROOT))
    for signer in (SIGNER, OTHER):
        ring.apply(registered(signer))
    for fact, ms in facts:
        if ring.types.objection(fact) is None:
            ring.apply(fact, at=NOON + timedelta(milliseconds=ms))
    return ring


def at(record: Row, ms: int) -> Row:
    return record.but(timestamp_ms=timestamp_at(NOON) + ms)


def said(record: Row, ring: KeyRing) -> str:
    found = verdict(record, at=appended_at(record.timestamp_ms), ring=ring)
    return "accepted" if isinstance(found, Judged) else str(found.reason)


@given(HISTORIES, MANY)
@example(LIFE, [(record, ms) for record in RECORDS for ms in range(8)])
def test_a_record_is_judged_by_the_types_of_its_moment_however_far_somebody_folded(
    history: list[Fact], many: list[tuple[Row, int]]
) -> None:
    for record_, ms in many:
        judged = at(record_, ms)
        begun = sum(fact_ms < ms for _, fact_ms in history)

        verdicts = {said(judged, ring_of(history[:end])) for end in range(begun, len(history) + 1)}

        assert len(verdicts) == 1


@given(HISTORIES, MANY)
@example(LIFE, [(record, ms) for record in RECORDS for ms in range(8)])
def test_many_together_are_judged_as_each_alone(history: list[Fact], many: list[tuple[Row, int]]) -> None:
    ring = ring_of(history)
    rows = [at(record_, ms) for record_, ms in many]

    refused = judge_batch(records_of(rows), ring=ring).refused

    together = [
        str(refused[number].reason) if number in refused else "accepted" for number in range(len(rows))
    ]
    assert together == [said(judged, ring) for judged in rows]


@given(HISTORIES)
def test_what_was_accepted_can_be_read_for_ever(history: list[Fact]) -> None:
    ring = ring_of(history)

    for ms in range(10):
        for entry in ring.types.catalogue_at(NOON + timedelta(milliseconds=ms)).types():
            known = ring.types.known.type_named(entry.name)
            assert known is not None
            assert {entry.dataschema, *entry.older_dataschemas} <= {
                known.dataschema,
                *known.older_dataschemas,
            }
            assert ring.types.release.type_named(entry.name) in {None, entry}


def test_what_the_laws_are_about_happens() -> None:
    ring = ring_of(LIFE)
    verdicts = [[said(at(record_, ms), ring) for ms in range(8)] for record_ in RECORDS]
    before, after = ["unknown-type"] * 2, ["unknown-type"]

    assert verdicts[0] == [*before, *["accepted"] * 5, *after]
    # The revision counts from its own activation on; what the one before allowed is still taken.
    assert verdicts[1] == [*before, *["schema-violation"] * 3, *["accepted"] * 2, *after]
    assert verdicts[5] == [*before, *["not-owner"] * 5, *after]
    assert verdicts[6] == verdicts[1]
    assert verdicts[7] == ["accepted"] * 8


def test_a_type_for_all_members_is_stated_by_each_of_them() -> None:
    ring = ring_of([(proposed(COMMON), 0), (activated(COMMON), 0)])

    assert [said(at(record_, 1), ring) for record_ in RECORDS[3:6]] == [
        "accepted",
        "accepted",
        "unknown-type",
    ]


def test_a_clock_that_is_set_back_changes_no_verdict_before() -> None:
    ring = ring_of([(proposed(FIRST), 0), (proposed(COMMON), 0), (activated(FIRST), 2)])
    ring.apply(activated(COMMON), at=NOON)

    assert [said(at(RECORDS[0], ms), ring) for ms in range(4)] == ["unknown-type"] * 3 + ["accepted"]
    assert [said(at(RECORDS[3], ms), ring) for ms in range(4)] == ["unknown-type"] * 3 + ["accepted"]


# --- what cannot be -----------------------------------------------------------------------------------


def code(registry: TypeRegistry, fact: TypeFact) -> str:
    objection = registry.objection(fact)
    return "" if objection is None else objection.code


def test_a_schema_that_breaks_who_reads_or_writes_is_refused_and_the_break_is_named() -> None:
    types = ring_of(LIFE[:2]).types
    objection = types.objection(proposed(NARROWER))

    assert objection is not None
    assert objection == ("incompatible-schema", "$.beds: it was optional and is required (breaks writers)")
    for changes, words in (
        ({"fields": {"ward": {**WARD, "maxLength": 4}}}, "$.ward: maxLength: 8 became 4 (breaks writers)"),
        ({"fields": {"ward": {**WARD, "maxLength": 9}}}, "$.ward: maxLength: 8 became 9 (breaks readers)"),
        ({"about": {"topic": "salus.lab.events"}}, "$ x-salus: topic: 'salus.clinical.events' became"),
        ({"about": {"owner": "member"}}, "$ x-salus: owner"),
        ({"about": {"retention": "access"}}, "$ x-salus: retention"),
    ):
        found = types.objection(proposed(schema_of(**changes)))
        assert found is not None
        assert found.code == "incompatible-schema"
        assert words in found.why


def test_another_version_of_a_type_is_another_type() -> None:
    types = ring_of(LIFE[:2]).types

    assert (
        code(types, proposed(schema_of(fact="bed-occupied.v2", required=("patient", "ward", "beds")))) == ""
    )


@pytest.mark.parametrize(
    ("history", "fact", "expected"),
    [
        ([], activated(FIRST), "not-proposed"),
        (LIFE[:1], activated(WIDER), "not-proposed"),
        (LIFE[:2], activated(FIRST), "not-proposed"),
        ([*LIFE[:1], (proposed(WIDER), 0)], activated(FIRST), "not-proposed"),
        ([*LIFE[:1], (proposed(WIDER), 0)], activated(WIDER), ""),
        (LIFE[:2], proposed(FIRST), "type-active"),
        ([], withdrawn(FIRST), "not-active"),
        (LIFE[:1], withdrawn(FIRST), ""),
        (LIFE, withdrawn(FIRST), "not-active"),
        (LIFE, activated(WIDER), "not-proposed"),
        (LIFE, proposed(WIDER), ""),
        # What was withdrawn comes back compatible or not at all.
        (LIFE, proposed(NARROWER), "incompatible-schema"),
        (LIFE, proposed(FIRST), "incompatible-schema"),
    ],
)
def test_a_fact_that_cannot_be_has_no_effect(history: list[Fact], fact: TypeFact, expected: str) -> None:
    assert code(ring_of(history).types, fact) == expected


@pytest.mark.parametrize("schema", ["", "{}", "[]", "{", '{"a":1,"a":2}', "5", "[" * 10_000])
def test_what_is_no_schema_is_no_proposal(schema: str) -> None:
    types = ring_of([]).types

    assert code(types, EventTypeProposed(name_of(FIRST), HOSPITAL, schema, request=None)) == "invalid-schema"  # type: ignore[arg-type]  # not looked at


def test_what_is_said_of_a_schema_is_bounded() -> None:
    keywords = {letter * 9000: True for letter in "abcdef"}
    extra = {"type": "boolean", **keywords}
    objection = ring_of([]).types.objection(proposed(schema_of(fields={"extra": extra})))

    assert objection is not None
    assert (objection.code, objection.why.endswith("; and 1 more")) == ("invalid-schema", True)
    assert len(objection.why) < 2000  # a few sentences


def test_a_proposal_is_of_the_type_that_its_event_is_about() -> None:
    fact = msgspec.structs.replace(proposed(FIRST), type="example.hospital.other.v1")

    assert code(ring_of([]).types, fact) == "invalid-schema"


def test_nobody_proposes_below_another_ones_prefix() -> None:
    fact = msgspec.structs.replace(proposed(FIRST), member=OTHER.did)

    assert code(ring_of([]).types, fact) == "invalid-schema"


def test_a_member_brings_so_many_types_and_no_more() -> None:
    many: list[Fact] = [(proposed(schema_of(fact=f"fact{n}.v1")), 0) for n in range(TYPES_MAX)]
    types = ring_of(many).types

    assert len(types.proposed) == TYPES_MAX
    assert code(types, proposed(FIRST)) == "too-many-types"
    # Those that are there change all the same, and others are not in their way.
    assert code(types, many[0][0]) == ""
    assert code(types, proposed(schema_of(OTHER.did), OTHER.did)) == ""


def test_a_revision_knows_all_schemas_before_it() -> None:
    own = ring_of([*LIFE, (proposed(WIDER), 7), (activated(WIDER), 7)]).types.own[name_of(FIRST)]

    assert (own.revision, own.until, own.member) == (3, None, HOSPITAL)
    assert own.entry.older_dataschemas == {dataschema(FIRST)}


def test_types_of_other_rings_are_nobodys_business() -> None:
    ring, data = ring_of(LIFE), EventData()
    ring.apply(data)

    assert ring_of([]).types.known.digest == CATALOGUE.digest
    assert ring.types.known.digest != CATALOGUE.digest


VALUES: list[Any] = [
    *(None, True, 0, -1, 2**53, "", "a", "#/$defs/Ward", "#/$defs/Sealed", "object", "string", "^a$", "^(a$"),
    *("date-time", "patient", "\u2028", [], {}, ["a"], [1], [[]], {"a": 1}, {"$ref": "#/$defs/Ward"}),
    *({"$ref": ["#/$defs/Ward"]}, {"$ref": {}}, {"type": "null"}, ["string", "null"], {"anyOf": []}),
]
KEYS = [
    *("type", "$ref", "anyOf", "enum", "const", "items", "properties", "required", "additionalProperties"),
    *("maxLength", "minLength", "pattern", "format", "minimum", "maximum", "maxItems", "title", "default"),
    *("x-salus-sealed", "x-salus-extensible", "$defs", "x-salus", "$id", "owner", "topic", "subject"),
    *("allOf", "$anchor", "patient", "object", "Ward", "Sealed"),
]


def nodes(part: Any) -> list[Any]:
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return [part, *(node for one in inner for node in nodes(one) if isinstance(node, dict | list))]


# redA6: a `$ref` that is a list ended every process that folds identity, and the service answered 500.
@given(st.data())
def test_of_any_schema_it_is_said_what_is_wrong_or_it_becomes_a_type(data: st.DataObject) -> None:
    ward = {"type": "string", "maxLength": 9, "minLength": 1}
    schema = schema_of(
        fields={
            "content": SEALED,
            "wards": {"type": "array", "maxItems": 3, "items": {"$ref": "#/$defs/Ward"}},
            "note": {"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}], "default": None},
        },
    )
    schema["$defs"]["Ward"] = ward
    schema = msgspec.json.decode(schema_file(schema))
    for _ in range(data.draw(st.integers(1, 3))):
        node = data.draw(st.sampled_from(nodes(schema)))
        value = copy.deepcopy(data.draw(st.sampled_from(VALUES)))
        if isinstance(node, list):
            node.append(value)
        else:
            node[data.draw(st.sampled_from([*KEYS, *node]))] = value
    text = schema_file(schema).decode()
    found = ring_of([]).types.objection(EventTypeProposed(name_of(FIRST), HOSPITAL, text, request=UNASKED))

    if found is None:
        assert definition(text.encode()).name == name_of(FIRST)
    else:
        assert found.code == "invalid-schema"
