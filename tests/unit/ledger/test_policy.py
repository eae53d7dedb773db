"""A policy is read strictly: whoever is misread here would be trusted wrongly."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ledger.network import World, key_of

from salus.ledger.checkpoint import Checkpoint, sign_checkpoint
from salus.ledger.errors import CheckpointError, NoteError, PolicyError
from salus.ledger.key_periods import history_of
from salus.ledger.note import NoteSigner
from salus.ledger.policy import Policy
from salus.ledger.quorum import Group, Quorum
from salus.ledger.tlog_policy import Log, TlogPolicy, parse_tlog_policy

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def network(world: World) -> dict[str, Any]:
    return {
        "origin": "salus.example",
        "root": {"did": "did:key:z"},
        "log": {"origin": world.log.name, "verifier_key": world.log.vkey},
        "shards": [{"id": 0, "origin": world.shard.name, "verifier_key": world.shard.vkey, "topics": {}}],
        "policy": [
            *(f"witness {n} {witness.vkey}" for n, witness in enumerate(world.witnesses)),
            "group two-of-three 2 0 1 2",
            "quorum two-of-three",
        ],
    }


def test_a_policy_comes_out_of_the_networks_description(world: World, network: dict[str, Any]) -> None:
    policy = Policy.from_network(json.dumps(network).encode())

    assert [log.key_id for log in policy.logs] == [world.log.key_id]
    assert [key.key_id for key in history_of(policy.shards[world.shard.name]).verifiers] == [
        world.shard.key_id
    ]
    assert [v.vkey for v in policy.quorum.verifiers] == [witness.vkey for witness in world.witnesses]
    assert policy.quorum.groups == (Group("two-of-three", 2, ("0", "1", "2")),)
    assert policy.quorum.required == "two-of-three"


@pytest.mark.parametrize(
    "change",
    [
        lambda n: n.pop("log"),
        lambda n: n.pop("shards"),
        lambda n: n.pop("policy"),
        lambda n: n["log"].update(origin="other"),
        lambda n: n["log"].update(verifier_key="x"),
        lambda n: n["log"].update(verifier_key=5),
        lambda n: n["shards"][0].update(origin="other"),
        lambda n: n["shards"].append(5),
        lambda n: n.update(shards=5),
        lambda n: n.update(policy="quorum none"),
        lambda n: n.update(policy=["quorum none", 5]),
        lambda n: n.update(policy=["# two\nquorum none"]),
        lambda n: n.update(policy=["# \ud800", "quorum none"]),
        lambda n: n.update(policy=["quorum nobody"]),
        lambda n: n["policy"].insert(0, f"log {n['log']['verifier_key']}"),
        lambda n: n.update(witnesses={"quorum": 0, "keys": []}),
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


def test_a_description_of_an_earlier_version_is_told_what_to_write_instead(network: dict[str, Any]) -> None:
    lines = network.pop("policy")
    keys = [line.split()[2] for line in lines[:3]]
    network["witnesses"] = {"quorum": 2, "keys": keys}

    with pytest.raises(PolicyError, match='"witnesses" is not read any more') as refused:
        Policy.from_network(json.dumps(network).encode())
    del network["witnesses"]
    network["policy"] = json.loads(refused.value.detail.partition('write "policy": ')[2])
    policy = Policy.from_network(json.dumps(network).encode())
    assert [verifier.vkey for verifier in policy.quorum.verifiers] == keys
    assert [group.threshold for group in policy.quorum.groups] == [2]


@pytest.mark.parametrize("witnesses", [5, {}, {"quorum": 4, "keys": []}, {"quorum": 1, "keys": ["x"]}])
def test_also_an_earlier_description_that_was_wrong_is_told(
    network: dict[str, Any], witnesses: object
) -> None:
    with pytest.raises(PolicyError, match="the lines of a C2SP tlog-policy"):
        Policy.from_network(json.dumps(network | {"witnesses": witnesses}).encode())


def test_a_line_of_the_description_that_is_wrong_is_named(network: dict[str, Any]) -> None:
    network["policy"][3] = "group two-of-three 4 0 1 2"

    with pytest.raises(PolicyError, match="line 4: group two-of-three asks for 4 of 3 members"):
        Policy.from_network(json.dumps(network).encode())


def test_a_policy_file_takes_the_place_of_the_networks(world: World) -> None:
    third = world.witnesses[2]
    file = TlogPolicy((), Quorum.of(1, [third.verifier]))
    networks = world.policy
    policy = networks.under(file)

    assert (policy.logs, policy.shards) == (networks.logs, networks.shards)
    assert policy.open_checkpoint(world.checkpoint_note).shortfall == f"{third.name} has not cosigned"
    others_log = TlogPolicy((Log(NoteSigner("other.example/log", key_of("other")).verifier),), Quorum())
    with pytest.raises(NoteError, match="no signature by a known key"):
        world.policy.under(others_log).open_checkpoint(world.checkpoint_note)


def test_what_a_policy_file_can_say_of_a_policy_survives_it(world: World) -> None:
    again = world.policy.under(parse_tlog_policy(world.policy.tlog_policy.encode()))

    assert again.tlog_policy.encode() == world.policy.tlog_policy.encode()
    assert again.open_checkpoint(world.checkpoint_note).is_final


def test_a_checkpoint_may_be_signed_by_any_of_the_logs_under_its_own_name(world: World) -> None:
    other = NoteSigner("other.example/log", key_of("other"))
    renewed = NoteSigner(world.log.name, key_of("renewed"))
    policy = replace(world.policy, logs=(other.verifier, world.log.verifier, renewed.verifier))

    for signers in ([world.log], [renewed], [renewed, world.log], [other, renewed]):
        assert (
            policy.open_checkpoint(sign_checkpoint(world.checkpoint, signers)).checkpoint == world.checkpoint
        )
    with pytest.raises(NoteError, match="the log's own signature is missing"):
        policy.open_checkpoint(sign_checkpoint(world.checkpoint, [other]))


def test_a_log_s_key_speaks_for_its_own_log_only(world: World) -> None:
    head = replace(world.checkpoint, origin="other.example/log")

    with pytest.raises(CheckpointError, match="another log's"):
        world.policy.open_checkpoint(sign_checkpoint(head, [world.log]))


def test_a_policy_trusts_some_log(world: World) -> None:
    with pytest.raises(PolicyError, match="no log"):
        Policy((), world.policy.shards)


def test_nobody_has_two_roles_with_one_key(world: World) -> None:
    with pytest.raises(PolicyError, match="a key is there twice"):
        Policy((world.log.verifier,), {world.log.name: world.log.verifier})


def test_a_shards_key_bears_the_shards_name(world: World) -> None:
    with pytest.raises(PolicyError):
        Policy(logs=(world.log.verifier,), shards={"other": world.shard.verifier})


def test_a_header_of_an_unknown_shard_is_not_opened(world: World) -> None:
    policy = Policy(logs=(world.log.verifier,), shards={})

    with pytest.raises(PolicyError, match="unknown-shard"):
        policy.open_header(world.header_note, world.shard.name)


def test_what_is_remembered_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salus.ledger.policy._REMEMBERED_MAX", 2)
    policy = world.policy

    for size in range(1, 6):
        head = Checkpoint(world.log.name, size, bytes(32))
        assert policy.open_checkpoint(sign_checkpoint(head, [world.log])).checkpoint == head
        assert len(policy._checkpoints) <= 2


@pytest.mark.parametrize("spoil", [b'{"log":{},', b"\xef\xbb\xbf{"])
def test_a_description_is_json_that_is_read_in_one_way_only(network: dict[str, Any], spoil: bytes) -> None:
    # case F1: the trust anchor must not say two things.
    with pytest.raises(PolicyError, match=r"given twice in one object, in \$\.log|byte order mark"):
        Policy.from_network(json.dumps(network).encode().replace(b"{", spoil, 1))
