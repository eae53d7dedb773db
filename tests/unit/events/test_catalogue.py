"""Contexts make a catalogue, and a catalogue is a value: what one more context adds changes no other."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from tests.asking import UNASKED
from tests.unit.events.samples import (
    OTHER_PATIENT,
    PATIENT,
    Row,
    document,
    encoded,
    network_ring,
    records_of,
    row,
    verdict,
)
from tests.unit.events.test_canonical import needs_library

from salus.events import canonical
from salus.events.catalogue import Catalogue
from salus.events.context import Context
from salus.events.contexts import CATALOGUE, CONTEXTS
from salus.events.contexts.identity import RoleGranted, RoleWithdrawn
from salus.events.errors import Reason, RejectedError
from salus.events.event_types import MEMBER, EventData, Retention, type_of
from salus.events.fields import Pseudonym
from salus.events.judging import Judged, judge_batch
from salus.events.keyring import KeyRing
from salus.events.party_form import objection_to_roles
from salus.events.signed_request import Asked


class Enrolled(EventData):
    """A patient takes part in a trial."""

    patient: Pseudonym


def a_class(base: type[EventData] = Enrolled) -> type[EventData]:
    """A class of its own: one is the data of one type."""
    return type("Enrolled", (base,), {"__doc__": base.__doc__})


def trials(name: str = "trials", *, topic: str | None = None, owner: str | None = None) -> Context:
    """A context of the tests: a service, a role of people, and one event type."""
    context = Context(name)
    service = context.role(f"{name}-registry", "service", "keeps the register of trials")
    context.role(f"{name}-monitor", "person", "watches over trials")
    context.event(
        f"salus.{name}.enrolled.v1",
        owner=owner or service,
        retention=Retention.RECORD,
        topic=topic,
        subject_field="patient",
    )(a_class())
    return context


def test_one_more_context_changes_no_byte_of_the_schemas_of_others() -> None:
    before = {entry.name: (entry.schema, entry.dataschema) for entry in CATALOGUE.types()}
    more = Catalogue([*CONTEXTS, trials()])
    after = {entry.name: (entry.schema, entry.dataschema) for entry in more.types()}

    assert after.keys() - before.keys() == {"salus.trials.enrolled.v1"}
    assert {name: after[name] for name in before} == before
    assert set(more.input_topics()) - set(CATALOGUE.input_topics()) == {"salus.trials.events"}
    assert more.roles_of("service") - CATALOGUE.roles_of("service") == {"trials-registry"}
    assert more.roles_of("person") - CATALOGUE.roles_of("person") == {"trials-monitor"}


@pytest.mark.parametrize("kind", [RoleGranted, RoleWithdrawn])
def test_no_schema_names_the_roles_there_are(kind: Any) -> None:
    schema = json.loads(type_of(kind).schema)

    for role in CATALOGUE.roles():
        assert f'"{role.name}"' not in json.dumps(schema["$defs"])
    for name, valid in (("clinician", True), ("trials-monitor", True), ("Monitor", False), ("a" * 65, False)):
        data = json.loads(msgspec.json.encode(kind(did="did:web:a.example", role=name, request=UNASKED)))
        assert Draft202012Validator(schema).is_valid(data) is valid


def test_a_catalogue_does_not_know_what_another_does() -> None:
    one, other = Catalogue([trials()]), Catalogue([trials("supply")])

    assert one.type_named("salus.trials.enrolled.v1") is not None
    assert one.digest == Catalogue([trials()]).digest
    assert len({one.digest, other.digest, CATALOGUE.digest, Catalogue([]).digest}) == 4
    assert other.type_named("salus.trials.enrolled.v1") is None
    assert CATALOGUE.type_named("salus.trials.enrolled.v1") is None


def test_what_a_context_gains_later_is_in_no_catalogue_that_was_made_before() -> None:
    context = Context("trials")
    before = Catalogue([context])
    context.event("salus.trials.enrolled.v1", owner=MEMBER, retention=Retention.RECORD)(a_class())

    assert before.types() == []
    assert [entry.name for entry in Catalogue([context]).types()] == ["salus.trials.enrolled.v1"]


def test_contexts_that_do_not_fit_together_make_no_catalogue() -> None:
    taken = Context("supply")
    taken.role("trials-monitor", "person", "another one")

    for contexts, why in (
        ([trials(), trials()], "context trials"),
        ([trials(), trials("supply", topic="salus.trials.events")], "salus.trials.events of supply"),
        ([trials(), taken], "role trials-monitor"),
        ([trials(owner="keeper")], "no service has the role keeper"),
        ([trials(owner="trials-monitor")], "no service has the role trials-monitor"),
    ):
        with pytest.raises(ValueError, match=why):
            Catalogue(contexts)


@pytest.mark.parametrize("name", ["salus.lab.x", "lab.x.v1", "salus.lab.x.v0", "salus.clinical.x.v1"])
def test_a_name_of_another_form_or_context_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not of the form"):
        Context("lab").event(name, owner=MEMBER, retention=Retention.RECORD)


def test_a_name_a_class_and_a_role_are_declared_once() -> None:
    context = trials()

    with pytest.raises(ValueError, match="is taken"):
        context.event("salus.trials.enrolled.v1", owner=MEMBER, retention=Retention.RECORD)
    with pytest.raises(ValueError, match="is the data of"):
        context.event("salus.trials.enrolled.v2", owner=MEMBER, retention=Retention.RECORD)(
            context.types[0].data
        )
    with pytest.raises(ValueError, match="is taken"):
        context.role("trials-monitor", "service", "another one")


@pytest.mark.parametrize("name", ["", "Monitor", "-x", "a b", "a" * 65, "x\n"])
def test_a_role_is_a_text_of_one_form(name: str) -> None:
    with pytest.raises(ValueError, match="not a role"):
        Context("lab").role(name, "person", "nobody")


def test_a_class_below_a_declared_one_is_the_data_of_nothing() -> None:
    declared = trials().types[0].data

    assert type_of(declared).name == "salus.trials.enrolled.v1"
    with pytest.raises(LookupError):
        type_of(a_class(declared))


# --- what is judged by a catalogue ------------------------------------------------------------------


MORE = Catalogue([*CONTEXTS, trials(owner=MEMBER)])
ENROLLED = MORE.type_named("salus.trials.enrolled.v1")


def ring_of(catalogue: Catalogue) -> KeyRing:
    """The ring of the other tests, with another catalogue."""
    return replace(network_ring(), catalogue=catalogue)


def enrolment(number: int = 0) -> Row:
    assert ENROLLED is not None
    value = encoded(ENROLLED.data(patient=PATIENT), number=number)
    return row(value, topic=ENROLLED.topic)


def test_a_verdict_follows_from_the_catalogue_of_the_ring_and_from_nothing_else() -> None:
    found = verdict(enrolment(), ring=ring_of(MORE))
    refused = verdict(enrolment(), ring=ring_of(CATALOGUE))

    assert isinstance(found, Judged)
    assert found.event.type is ENROLLED
    assert isinstance(refused, RejectedError)
    assert refused.reason is Reason.UNKNOWN_TYPE
    assert isinstance(verdict(enrolment(), ring=ring_of(MORE)), Judged)


def test_many_records_are_judged_by_the_catalogue_of_the_ring() -> None:
    records = records_of([enrolment(number) for number in range(3)] + [row(encoded(document()))])
    more, fewer = (judge_batch(records, ring=ring_of(c)) for c in (MORE, CATALOGUE))

    assert more.refused == {}
    assert {row: error.reason for row, error in fewer.refused.items()} == dict.fromkeys(
        range(3), Reason.UNKNOWN_TYPE
    )


@needs_library
def test_a_catalogue_is_compiled_once_and_each_by_itself() -> None:
    one, other = canonical._reader(CATALOGUE), canonical._reader(MORE)

    assert one is canonical._reader(CATALOGUE)
    assert one is not None
    assert other is not None
    assert {entry.name for entry in other.types} - {entry.name for entry in one.types} == {
        ENROLLED and ENROLLED.name
    }


@pytest.mark.parametrize(("catalogue", "objection"), [(CATALOGUE, "unknown-role"), (MORE, None)])
def test_a_role_of_another_context_is_granted_where_the_catalogue_has_it(
    catalogue: Catalogue, objection: str | None
) -> None:
    found = objection_to_roles(["trials-monitor"], "person", catalogue=catalogue)

    assert (found.code if found else None) == objection
    assert objection_to_roles(["trials-registry"], "service", catalogue=MORE) is None
    assert objection_to_roles(["trials-registry"], "person", catalogue=MORE) is not None


def test_who_may_ask_for_what_is_said_by_the_catalogue_too() -> None:
    context = trials()
    context.form("POST", "trials", body_bytes_max=0)

    @context.asked(context.types[0].data)
    def asks(_: Asked, data: EventData) -> bool:
        return bool(getattr(data, "patient") == PATIENT)  # noqa: B009  # not of all data

    more, data = Catalogue([context]), context.types[0].data
    asked = Asked.of(method="POST", target="/trials", body=None, digest=None)

    assert more.asks_for(asked, data(patient=PATIENT))
    assert not more.asks_for(asked, data(patient=OTHER_PATIENT))
    assert not CATALOGUE.asks_for(asked, data(patient=PATIENT))
    assert more.form_of(asked, service="trials-registry") is not None
    assert more.form_of(asked, service="consent") is None
    assert CATALOGUE.form_of(asked, service="trials-registry") is None
