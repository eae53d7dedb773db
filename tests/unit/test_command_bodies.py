"""A body that does not fit makes few errors, whatever it holds. Case: `POST /shards` takes 262,144 values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

import salus.consent.models
import salus.identity.api
import salus.identity.event_types_api
import salus.storage.api  # noqa: F401  # with the other three: every body of a command
from salus.contracts.http_fields import CommandBody
from salus.identity.shards_api import SHARDS_MAX, AssignBody
from salus.runtime.problems import ERRORS_MAX

MANY = 40_000
TOPICS: Mapping[str, Any] = {f"topic-{n}": [] for n in range(MANY)}
STRANGERS: Mapping[str, Any] = {f"n{n}": 0 for n in range(MANY)}


def errors_of(kind: type[CommandBody], body: object) -> int:
    with pytest.raises(ValidationError) as refused:
        kind.model_validate(body)
    return refused.value.error_count()


@pytest.mark.parametrize("kind", CommandBody.__subclasses__())
def test_names_that_a_body_does_not_have_make_few_errors(kind: type[CommandBody]) -> None:
    assert errors_of(kind, STRANGERS) <= ERRORS_MAX


@pytest.mark.parametrize(
    "body",
    [
        {"epoch": 1, "shards": [{"id": 0, "topics": TOPICS}]},
        {"epoch": 1, "shards": [{"id": 0, "topics": dict.fromkeys(TOPICS, 0)}]},
        {"epoch": 1, "shards": [{"id": 0, "topics": {"a": [None] * MANY}}]},
        {"epoch": 1, "shards": [{"id": 0, "topics": {}, **STRANGERS}] * SHARDS_MAX},
        {"epoch": 1, "shards": [0] * MANY},
        {"epoch": 1, "shards": [{"id": 0, "topics": {}}], "added": [{}] * MANY},
    ],
    ids=["topics", "no-lists", "partitions", "strangers", "shards", "added"],
)
def test_an_assignment_that_does_not_fit_makes_few_errors(body: object) -> None:
    assert errors_of(AssignBody, body) <= ERRORS_MAX


def test_names_that_a_body_does_not_have_are_told_one_by_one_if_they_are_few() -> None:
    body = {"epoch": 1, "shards": [{"id": 0, "topics": {}}], "a": 1, "b": 2}

    assert errors_of(AssignBody, body) == 2
