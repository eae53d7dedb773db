"""A key counts in its period only, wherever it signs: headers, checkpoints and cosignatures."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.unit.ledger.network import Following, World, key_of

from salus.ledger.block import open_header, sign_header
from salus.ledger.check_blocks import check_chain
from salus.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.errors import BlockError, NoteError, PolicyError
from salus.ledger.key_periods import KeyHistory, KeyPeriod, is_last, is_void, read_history
from salus.ledger.note import NoteSigner, sign_note
from salus.ledger.policy import Policy
from salus.ledger.quorum import Group, Quorum, Witness

OLD, NEW = NoteSigner("example/log", key_of("old log")), NoteSigner("example/log", key_of("new log"))
positions = st.integers(0, 30)


def keys(*, first: int, end: int | None) -> KeyHistory:
    """The new key from `first` on, the old one until `end`."""
    return KeyHistory(OLD.name, (KeyPeriod(OLD.verifier, 0, end), KeyPeriod(NEW.verifier, first)))


def checkpoint(size: int, *signers: NoteSigner) -> bytes:
    root = key_of(str(size)).public_key().public_bytes_raw()
    return sign_checkpoint(Checkpoint(OLD.name, size + 1, root), signers)


@given(
    size=positions,
    first=positions,
    end=st.integers(1, 40),
    signers=st.sets(st.sampled_from("on"), min_size=1),
)
def test_a_checkpoint_counts_if_and_only_if_a_key_in_its_period_signed_it(
    size: int, first: int, end: int, signers: set[str]
) -> None:
    assume(first <= end)
    log = keys(first=first, end=end).require_gapless()
    note = checkpoint(size, *([OLD] if "o" in signers else []), *([NEW] if "n" in signers else []))
    good = ("o" in signers and size + 1 < end) or ("n" in signers and size + 1 >= first)
    policy = Policy(logs=log.verifiers, shards={}, periods=log.periods)

    for opened in (lambda: open_checkpoint(note, log)[0], lambda: policy.open_checkpoint(note).checkpoint):
        if good:
            assert opened().size == size + 1
        else:
            with pytest.raises(NoteError) as refused:
                opened()
            assert refused.value.code == "key-period"


@given(
    periods=st.lists(
        st.tuples(positions, st.one_of(st.none(), st.integers(1, 40))).filter(
            lambda period: period[1] is None or period[0] < period[1]
        ),
        min_size=1,
        max_size=5,
    )
)
def test_a_history_is_refused_if_and_only_if_some_position_has_no_key(
    periods: list[tuple[int, int | None]],
) -> None:
    signers = [NoteSigner("example/log", key_of(str(n))) for n in range(len(periods))]
    history = KeyHistory(
        "example/log",
        tuple(KeyPeriod(s.verifier, *period) for s, period in zip(signers, periods, strict=True)),
    )

    if all(history.signing(position) for position in range(100)):
        assert history.require_gapless() is history
    else:
        with pytest.raises(PolicyError):
            history.require_gapless()
    # A shard may end: then its blocks are those of the heights at which a key signs, and all others are void.
    signed = [bool(history.signing(position)) for position in range(100)]
    if signed == sorted(signed, reverse=True) and signed[0]:
        assert history.require_gapless(may_end=True) is history
        assert [not is_void(history, position) for position in range(100)] == signed
        assert [is_last(history, position) for position in range(99)].count(True) == (False in signed)
    else:
        with pytest.raises(PolicyError):
            history.require_gapless(may_end=True)


def test_a_header_that_a_retired_key_signed_after_the_hand_over_is_a_finding(
    world: World, following: Following
) -> None:
    new = NoteSigner(world.shard.name, key_of("the shard's new key"))
    height = world.header.height
    held = KeyHistory(
        world.shard.name,
        (KeyPeriod(world.shard.verifier, 0, height + 1), KeyPeriod(new.verifier, height + 1)),
    )
    after = following()

    assert open_header(world.header_note, held) == world.header
    assert open_header(sign_header(after, new), held) == after
    for header, signer in ((after, world.shard), (world.header, new)):
        with pytest.raises(BlockError) as refused:
            open_header(sign_header(header, signer), held)
        assert refused.value.code == "key-period"


def test_a_chain_names_the_block_that_a_retired_key_signed(world: World) -> None:
    first = replace(world.header, height=0, previous=bytes(32), handovers=())
    new = NoteSigner(world.shard.name, key_of("the shard's new key"))
    note = sign_header(first, world.shard)
    held = KeyHistory(new.name, (KeyPeriod(new.verifier), KeyPeriod(world.shard.verifier, 5)))

    assert [f.code for f in check_chain([note], held, shard=0)] == ["key-period"]
    assert check_chain([note], world.shard.verifier, shard=0) == []


def test_both_keys_may_sign_while_one_takes_over_from_the_other(world: World) -> None:
    new = NoteSigner(world.shard.name, key_of("the shard's new key"))
    both = sign_note(world.header.text(), [world.shard, new])

    for holder in (world.shard.verifier, new.verifier):
        assert open_header(both, holder) == world.header


def test_a_retired_witness_counts_below_the_size_at_which_it_retired(world: World) -> None:
    old, new = (CosignatureSigner("example/witness", key_of(f"{age} witness")) for age in ("old", "new"))
    witnesses = (Witness("old", old.verifier), Witness("new", new.verifier))
    quorum = Quorum(witnesses, (Group("either", 1, ("old", "new")),), "either")
    policy = Policy(
        logs=(world.log.verifier,),
        shards={},
        quorum=quorum,
        periods=(KeyPeriod(old.verifier, 0, 10), KeyPeriod(new.verifier, 9)),
    )

    def is_final(size: int, witness: CosignatureSigner) -> bool:
        head = replace(world.checkpoint, size=size)
        note = sign_checkpoint(head, [world.log]) + witness.cosign(head, seconds=5).line().encode()
        return policy.open_checkpoint(note).is_final

    assert [is_final(size, old) for size in (9, 10, 99)] == [True, False, False]
    assert [is_final(size, new) for size in (8, 9, 99)] == [False, True, True]


def test_old_and_new_receipts_verify_with_the_description_after_a_rotation(world: World) -> None:
    new = NoteSigner(world.log.name, key_of("new"))
    size = world.checkpoint.size
    described = _network(world, new, until=size + 1)
    policy = Policy.from_network(json.dumps(described).encode())

    assert policy.open_checkpoint(sign_checkpoint(world.checkpoint, [world.log])).checkpoint.size == size
    grown = replace(world.checkpoint, size=size + 1)
    assert policy.open_checkpoint(sign_checkpoint(grown, [new])).checkpoint == grown
    with pytest.raises(NoteError, match="key-period"):
        policy.open_checkpoint(sign_checkpoint(grown, [world.log]))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda n: n["log"].update(keys="x"), "not a list"),
        (lambda n: n["log"].update(keys=[n["log"]["keys"][0]]), "not among its keys"),
        (lambda n: n["log"].update(keys=[n["log"]["keys"][1]]), "signs at 0"),
        (lambda n: n["log"]["keys"][0].update(until=1), "signs at 1"),
        (lambda n: n["log"]["keys"][0].update(until=0), "from 0 until 0"),
        (lambda n: n["log"]["keys"][0].update(until="9"), "not an integer"),
        (lambda n: n["log"]["keys"][0].update({"from": True}), "not an integer"),
        (lambda n: n["log"]["keys"][0].update({"from": -1}), "from -1"),
        (lambda n: n["log"]["keys"][0].update(more=1), "with `from` and `until`"),
        (lambda n: n["log"]["keys"].append(n["log"]["keys"][1]), "there twice"),
        (lambda n: n["log"]["keys"].append({"verifier_key": "x"}), "malformed-vkey"),
        (lambda n: n["log"]["keys"].append(5), "with `from` and `until`"),
        (lambda n: n["log"].update(origin="other"), "another name"),
        (lambda n: n.update(witness_periods=5), "not a list"),
        (lambda n: n.update(witness_periods=[{"verifier_key": _stranger(), "from": 1}]), "no witness"),
    ],
)
def test_a_description_whose_keys_make_no_sense_is_refused(world: World, spoil: Any, why: str) -> None:
    described = _network(world, NoteSigner(world.log.name, key_of("new")), until=9)
    Policy.from_network(json.dumps(described).encode())
    spoil(described)

    with pytest.raises(PolicyError, match=why):
        Policy.from_network(json.dumps(described).encode())


def test_a_name_without_a_list_of_keys_has_the_one_key(world: World) -> None:
    history = read_history(world.log.name, world.log.vkey)

    assert [(p.verifier.key_id, p.first, p.end) for p in history.periods] == [(world.log.key_id, 0, None)]


def _network(world: World, new: NoteSigner, *, until: int) -> dict[str, Any]:
    return {
        "log": {
            "origin": world.log.name,
            "verifier_key": new.vkey,
            "keys": [
                {"verifier_key": world.log.vkey, "until": until},
                {"verifier_key": new.vkey, "from": until - 1},
            ],
        },
        "shards": [{"origin": world.shard.name, "verifier_key": world.shard.vkey}],
        "policy": ["quorum none"],
    }


def _stranger() -> str:
    return CosignatureSigner("example/stranger", key_of("stranger")).vkey
