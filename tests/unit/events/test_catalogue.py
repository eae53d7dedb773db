"""Contexts make a catalogue, and a catalogue is a value: what one more context adds changes no other."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from tests.asking import UNASKED

from salus.events.catalogue import Catalogue
from salus.events.contexts import CATALOGUE, CONTEXTS
from salus.events.contexts.identity import RoleGranted, RoleWithdrawn
from salus.events.event_types import MEMBER, Context, EventData, Retention, type_of
from salus.events.fields import Pseudonym


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
