"""The profile checker itself: BALP's own examples hold, and broken ones are caught."""

import copy
import json
from typing import Any

import pytest
from tests.unit.audit import balp

EXAMPLES = {
    example["id"]: example
    for path in sorted((balp.FOLDER / "examples").glob("AuditEvent-*.json"))
    if "SAML" not in (example := json.loads(path.read_bytes()))["id"]  # slices within slices; not ours
}
READ = EXAMPLES["ex-auditBasicReadServer"]
DECISION = EXAMPLES["ex-auditAuthZconsent"]


def profile_of(example: dict[str, Any]) -> str:
    return str(example["meta"]["profile"][0])


def test_there_are_examples_to_check_the_checker_with() -> None:
    assert len(EXAMPLES) > 25


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_ihe_holds_its_profile(name: str) -> None:
    assert balp.violations(EXAMPLES[name], profile_of(EXAMPLES[name])) == []


@pytest.mark.parametrize("place", ["agent", "entity", "subtype", "outcome", "action"])
def test_a_missing_element_is_caught(place: str) -> None:
    broken = {key: value for key, value in READ.items() if key != place}

    if place != "action":  # its pattern holds only where there is an action
        assert balp.violations(broken, profile_of(READ))


def test_a_missing_slice_is_caught() -> None:
    for index in range(2):
        broken = copy.deepcopy(READ)
        del broken["agent"][index]

        assert balp.violations(broken, profile_of(READ))


def test_a_code_outside_a_required_value_set_is_caught() -> None:
    broken = copy.deepcopy(READ)
    broken["subtype"][0]["code"] = "create"

    assert balp.violations(broken, profile_of(READ))


def test_an_element_that_a_profile_forbids_is_caught() -> None:
    broken = copy.deepcopy(DECISION)
    broken["agent"][3]["network"] = {"address": "somewhere"}

    assert balp.violations(broken, profile_of(DECISION))


def test_an_entity_outside_a_closed_slicing_is_caught() -> None:
    broken = copy.deepcopy(DECISION)
    broken["entity"].append({"type": {"system": "urn:example", "code": "more"}})

    assert balp.violations(broken, profile_of(DECISION))
