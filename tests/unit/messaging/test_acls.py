"""ACLs as brokers list them, also those of kinds that are newer than this version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from salus.messaging import Acl, Operation, Pattern, ResourceType, acls, acls_in_force

ALLOW = 3


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str, int, list[tuple[str, str, int, int]]]]:
    """What the brokers list."""
    resources: list[Any] = []

    async def answer(_: Any) -> Any:
        return SimpleNamespace(error_code=0, error_message=None, resources=resources)

    @asynccontextmanager
    async def administration(_: Any) -> AsyncIterator[Any]:
        yield SimpleNamespace(_send_request=answer)

    monkeypatch.setattr(acls, "administration", administration)
    return resources


# readC6, 9
async def test_an_acl_of_a_kind_that_is_not_known_hides_no_other(listed: list[Any]) -> None:
    listed += [(2, "orders", 3, [("User:x", "*", 3, ALLOW), ("User:x", "*", 77, ALLOW)])]
    listed += [(99, "new", 88, [("User:y", "*", 2, 66)])]

    found = await acls_in_force("kafka:9092")

    known = [acl for acl in found if acl.is_known]
    assert known == [Acl("User:x", ResourceType.TOPIC, "orders", Pattern.LITERAL, Operation.READ)]
    assert {acl.operation.word for acl in found} == {"Read", "Unknown77", "All"}
    strange = max(found)
    assert (strange.resource.word, strange.pattern.word, strange.permission.word) == (
        "Unknown99",
        "Unknown88",
        "Unknown66",
    )
    assert strange == Acl("User:y", ResourceType(99), "new", Pattern(88), Operation.ALL, acls.Permission(66))
    assert hash(strange) == hash(max(await acls_in_force("kafka:9092")))


def test_what_is_no_number_is_no_word() -> None:
    with pytest.raises(ValueError, match="Topic"):
        ResourceType("Topic")  # type: ignore[arg-type]
