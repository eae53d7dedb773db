"""A contract service is one declared value; what it is called, reads and owns is in its manifest."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace as changed

from salus.contracts.projection import Contract
from salus.contracts.service import ContractService, _require_hosts
from salus.contracts.testing.domain_laws import EvolveLaws
from salus.identity.folded import PARTIES
from salus.runtime.errors import ManifestError
from salus.runtime.manifests import Role, Topics, manifest_of, services
from salus.storage.adapters.facts import ERASURE

UNIT = Path(__file__).parents[1]
CONTRACTS = [manifest.name for manifest in services() if manifest.role is Role.CONTRACT]


def declared(name: str) -> ContractService[Any, Any]:
    """Return what a service declares itself to be."""
    service = import_module(f"salus.{name}.__main__").SERVICE
    assert isinstance(service, ContractService)
    return service


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_contract_service_is_one_value_and_its_manifest_says_the_rest(name):
    service = declared(name)

    assert service.manifest == manifest_of(f"salus.{name}")
    assert service.manifest.own_topic == f"salus.{name}.events"
    assert {contract.topic for contract in service.folds} <= set(service.manifest.topics.reads)


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_laws_of_a_domain_are_tried_on_every_contract(name):
    """Issue 13: determinism, totality, evolve after decide, and that a replay equals the live state."""
    files = sorted((UNIT / name).glob("test_*.py"))
    with_laws = [path.stem for path in files if "Laws" in path.read_text()]
    modules = [import_module(f"tests.unit.{name}.{stem}") for stem in with_laws]
    tried = {
        id(laws.contract)
        for module in modules
        for laws in vars(module).values()
        if isinstance(laws, type) and issubclass(laws, EvolveLaws) and hasattr(laws, "contract")
    }

    assert [contract.kind for contract in declared(name).folds if id(contract) not in tried] == []


def test_a_topic_that_is_folded_and_not_in_the_manifest_stops_the_start():
    lab: Contract[Any] = replace(PARTIES, topic="salus.lab.events")

    with pytest.raises(ManifestError, match=r"topics\.reads lacks salus\.lab\.events"):
        _ = replace(declared("identity"), folds=(PARTIES, lab)).manifest


def test_a_reactor_that_nobody_settles_and_one_that_two_do_stop_the_start():
    """Else what is owed would stay so, without a line that says so."""
    hosts: Any = [SimpleNamespace(name="erasure"), SimpleNamespace(name="notices")]
    _require_hosts([ERASURE], hosts[:1])

    for wrong in ([], hosts, [hosts[0], hosts[0]]):
        with pytest.raises(ValueError, match="are declared"):
            _require_hosts([ERASURE], wrong)


def test_a_package_without_a_manifest_is_named():
    with pytest.raises(ManifestError, match=r"salus\.nobody is not installed"):
        manifest_of("salus.nobody")
    with pytest.raises(ManifestError, match=r"contracts.service\.toml is not a manifest"):
        manifest_of("salus.contracts")


def test_who_owns_two_topics_has_no_topic_of_its_own():
    manifest = manifest_of("salus.identity")
    two = changed(manifest, topics=Topics(owns=("salus.a.events", "salus.b.events")))

    with pytest.raises(ManifestError, match=r"identity: topics\.owns has 2"):
        _ = two.own_topic
