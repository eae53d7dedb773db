"""The services' accounts at a Kafka that is started here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from salus.devkit import kafka_rights
from salus.devkit.kafka_rights import allow_services
from salus.messaging import Acl
from salus.runtime.kafka_principals import PrincipalFileError, read_principals
from salus.runtime.manifests import services

SERVICES = [manifest.name for manifest in services() if manifest.is_party]


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> set[Acl]:
    there: set[Acl] = set()

    async def in_force(_: Any) -> frozenset[Acl]:
        return frozenset(there)

    async def add(_: Any, acls: Iterable[Acl]) -> None:
        there.update(acls)

    monkeypatch.setattr(kafka_rights, "acls_in_force", in_force)
    monkeypatch.setattr(kafka_rights, "add_acls", add)
    return there


async def test_every_service_is_named_by_its_certificate_and_allowed(
    tmp_path: Path, brokers: set[Acl]
) -> None:
    file = tmp_path / "principals.toml"

    await allow_services("kafka:9092", file)

    listed = read_principals(file, services=SERVICES)
    assert {one.name: one.party for one in listed} == {
        f"CN={name}": name for name in (*SERVICES, "administrator")
    }
    assert {acl.principal for acl in brokers} == {f"User:CN={name}" for name in SERVICES}


async def test_a_service_that_joins_later_is_put_there_and_the_others_stay(
    tmp_path: Path, brokers: set[Acl]
) -> None:
    file = tmp_path / "principals.toml"
    before = '[[principal]]\nname = "CN=lab"\nparty = "did:web:lab.example"\ngroups = "lab-"\n'
    own = '[[principal]]\nname = "another-name"\nparty = "storage"\n'
    file.write_text(before + own)

    await allow_services("kafka:9092", file)
    text = file.read_text()
    await allow_services("kafka:9092", file)

    assert text == file.read_text()
    assert text.startswith(before + own)
    assert "CN=storage" not in text
    assert {acl.principal for acl in brokers} == {
        "User:another-name",
        *(f"User:CN={name}" for name in SERVICES if name != "storage"),
    }


@pytest.mark.usefixtures("brokers")
async def test_a_file_that_is_something_else_is_left_and_named(tmp_path: Path) -> None:
    file = tmp_path / "principals.toml"
    file.write_text("something = 1")

    with pytest.raises(PrincipalFileError, match=r"principals\.toml"):
        await allow_services("kafka:9092", file)

    assert file.read_text() == "something = 1"
