"""A policy is read strictly: whoever is misread here would be trusted wrongly."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ledger.network import World

from salus.ledger.checkpoint import Checkpoint, sign_checkpoint
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.errors import PolicyError
from salus.ledger.policy import Policy

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def network(world: World) -> dict[str, Any]:
    return {
        "origin": "salus.example",
        "root": {"did": "did:key:z"},
        "log": {"origin": world.log.name, "verifier_key": world.log.vkey},
        "shards": [{"id": 0, "origin": world.shard.name, "verifier_key": world.shard.vkey, "topics": {}}],
        "witnesses": {"quorum": 2, "keys": [witness.vkey for witness in world.witnesses]},
    }


def test_a_policy_comes_out_of_the_networks_description(world: World, network: dict[str, Any]) -> None:
    policy = Policy.from_network(json.dumps(network).encode())

    assert policy.log.vkey == world.log.vkey
    assert [verifier.vkey for verifier in policy.shards.values()] == [world.shard.vkey]
    assert [witness.name for witness in policy.witnesses] == [witness.name for witness in world.witnesses]
    assert policy.quorum == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda n: n.pop("log"),
        lambda n: n.pop("shards"),
        lambda n: n.pop("witnesses"),
        lambda n: n["log"].update(origin="other"),
        lambda n: n["log"].update(verifier_key="x"),
        lambda n: n["log"].update(verifier_key=5),
        lambda n: n["shards"][0].update(origin="other"),
        lambda n: n["shards"].append(5),
        lambda n: n.update(shards=5),
        lambda n: n["witnesses"].update(quorum=4),
        lambda n: n["witnesses"].update(quorum=-1),
        lambda n: n["witnesses"].update(quorum=True),
        lambda n: n["witnesses"].update(quorum="1"),
        lambda n: n["witnesses"].update(keys=[n["log"]["verifier_key"]]),
        lambda n: n["witnesses"]["keys"].append(n["witnesses"]["keys"][0]),
    ],
)
def test_a_description_that_is_not_exact_is_refused(network: dict[str, Any], change: Change) -> None:
    change(network)

    with pytest.raises(PolicyError, match="malformed-policy"):
        Policy.from_network(json.dumps(network).encode())


@given(st.binary(max_size=50) | st.sampled_from([b"[" * 100_000, b'{"log": null}', b"5", b"[]", b"\xff"]))
def test_arbitrary_bytes_are_no_policy(data: bytes) -> None:
    with pytest.raises(PolicyError, match="malformed-policy"):
        Policy.from_network(data)


def test_a_quorum_counts_witnesses_not_keys(world: World) -> None:
    one, other, _ = world.witnesses
    both = CosignatureSigner(one.name, other._key)

    with pytest.raises(PolicyError):
        Policy(log=world.log.verifier, shards={}, witnesses=(one.verifier, both.verifier), quorum=2)


def test_a_shards_key_bears_the_shards_name(world: World) -> None:
    with pytest.raises(PolicyError):
        Policy(log=world.log.verifier, shards={"other": world.shard.verifier})


def test_a_header_of_an_unknown_shard_is_not_opened(world: World) -> None:
    policy = Policy(log=world.log.verifier, shards={})

    with pytest.raises(PolicyError, match="unknown-shard"):
        policy.open_header(world.header_note, world.shard.name)


def test_what_is_remembered_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salus.ledger.policy._REMEMBERED_MAX", 2)
    policy = world.policy

    for size in range(1, 6):
        head = Checkpoint(world.log.name, size, bytes(32))
        assert policy.open_checkpoint(sign_checkpoint(head, [world.log])).checkpoint == head
        assert len(policy._checkpoints) <= 2
