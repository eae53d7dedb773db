"""A receipt proves one event to whoever holds the policy, and nothing else does."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ledger.network import World
from tests.unit.ledger.spoiled import network_json, spoiled

from salus.ledger.block import sign_header
from salus.ledger.checkpoint import Checkpoint, sign_checkpoint
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.errors import ReceiptError
from salus.ledger.merkle import root_of
from salus.ledger.note import NoteSignature, add_signatures, sign_note, split_note
from salus.ledger.policy import Cosigner, Policy
from salus.ledger.quorum import Quorum
from salus.ledger.receipt import (
    RECEIPT_CODES,
    Proof,
    Receipt,
    build_receipt,
    parse_proof,
    parse_receipt,
    verify_receipt,
)

# Source: c2sp.org/tlog-proof, shortened signatures replaced by whole ones of unknown keys.
C2SP_PROOF = (
    "c2sp.org/tlog-proof@v1\n"
    "extra YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6\n"
    "index 73894\n"
    "gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=\n"
    "B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=\n"
    "\n"
    "example.com/fancylog\n"
    "109482\n"
    "sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=\n"
    "\n"
    "— example.com/fancylog Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"  # noqa: E501
).encode()


def _code(receipt: bytes, policy: Policy, event: bytes | None = None) -> str:
    with pytest.raises(ReceiptError) as refused:
        verify_receipt(receipt, policy, event=event)
    return refused.value.code


def test_each_step_that_fails_is_named(world: World) -> None:
    policy = Policy.from_network(network_json(world))
    assert verify_receipt(world.receipt(), policy).cosigners[0].name == "witness.example/ed25519"

    for one in spoiled(world):
        assert _code(one.receipt, policy) == one.code
    assert {one.code for one in spoiled(world)} == set(RECEIPT_CODES) - {"malformed", "event-digest"}


def test_every_leaf_of_a_block_has_a_receipt(world: World) -> None:
    for index, leaf in enumerate(world.leaves):
        proven = verify_receipt(world.receipt(index), world.policy, event=b'{"id":"%d"}' % index)

        assert (proven.leaf, proven.index) == (leaf, index)
        assert (proven.header, proven.log_index) == (world.header, 6)
        assert proven.checkpoint == world.checkpoint
        assert proven.cosigners == (
            Cosigner("witness.example/ed25519", 1_700_000_000),
            Cosigner("witness.example/mldsa", 1_700_000_001),
        )


def test_the_receipt_of_a_rejected_record_says_so(world: World) -> None:
    assert not verify_receipt(world.receipt(6), world.policy).leaf.is_accepted


@given(data=st.data())
def test_no_flipped_bit_of_a_receipt_verifies(world: World, data: st.DataObject) -> None:
    receipt = world.receipt(data.draw(st.integers(0, 6)))
    # Half of the bits belong to the ML-DSA cosignature; the others deserve as many tries.
    bit = data.draw(st.integers(0, 2400 * 8 - 1) | st.integers(0, len(receipt) * 8 - 1))
    flipped = bytearray(receipt)
    flipped[bit // 8] ^= 1 << bit % 8

    assert _code(bytes(flipped), world.policy) in RECEIPT_CODES


def test_every_single_bit_counts(world: World) -> None:
    receipt = world.receipt()
    short = receipt[: receipt.index("— witness.example/mldsa".encode())]
    policy = replace(world.policy, quorum=Quorum.of(1, world.policy.quorum.verifiers))
    verify_receipt(short, policy)

    for bit in range(0, len(short) * 8, 3):
        flipped = bytearray(short)
        flipped[bit // 8] ^= 1 << bit % 8
        assert _code(bytes(flipped), policy) in RECEIPT_CODES


@given(st.binary(max_size=200))
def test_arbitrary_bytes_prove_nothing(world: World, junk: bytes) -> None:
    receipt = world.receipt()
    for data in (junk, b"c2sp.org/tlog-proof@v1\n" + junk, receipt[:300] + junk, receipt + junk + b"\n"):
        with suppress(ReceiptError):
            verify_receipt(data, world.policy)
            pytest.fail("it verified")


def test_parsing_undoes_building(world: World) -> None:
    receipt = world.receipt()

    assert parse_receipt(receipt).encode() == receipt


def test_the_specifications_proof_is_read() -> None:
    proof = parse_proof(C2SP_PROOF)

    assert (proof.index, len(proof.path), proof.extra) == (73894, 2, b"age-v1.2.1-darwin-arm64.tar.gz")
    assert proof.encode() == C2SP_PROOF


@given(
    st.builds(
        Proof,
        index=st.integers(0, 2**63 - 1),
        path=st.lists(st.binary(min_size=32, max_size=32), max_size=63).map(tuple),
        checkpoint=st.just(C2SP_PROOF[C2SP_PROOF.index(b"example.com") :]),
        extra=st.none() | st.binary(max_size=40),
    )
)
def test_parsing_a_proof_undoes_formatting(proof: Proof) -> None:
    assert parse_proof(proof.encode()) == proof


def test_the_wrong_event_is_refused(world: World) -> None:
    assert _code(world.receipt(3), world.policy, b'{"id":"4"}') == "event-digest"


def test_another_leaf_is_not_in_the_block(world: World) -> None:
    parsed = parse_receipt(world.receipt())
    forged = replace(world.leaves[3], status="rejected:duplicate").data()
    other = Receipt(replace(parsed.in_block, extra=forged), parsed.in_log)

    assert _code(other.encode(), world.policy) == "block-path"


def test_another_index_is_not_the_leafs(world: World) -> None:
    parsed = parse_receipt(world.receipt())

    in_block = Receipt(replace(parsed.in_block, index=2), parsed.in_log)
    assert _code(in_block.encode(), world.policy) == "block-path"
    in_log = Receipt(parsed.in_block, replace(parsed.in_log, index=5))
    assert _code(in_log.encode(), world.policy) == "log-path"


def test_garbage_for_a_leaf_is_named(world: World) -> None:
    parsed = parse_receipt(world.receipt())
    other = Receipt(replace(parsed.in_block, extra=b"not a leaf"), parsed.in_log)

    assert _code(other.encode(), world.policy) == "leaf"


def test_a_leaf_outside_the_blocks_ranges_is_refused_even_if_its_hash_is_in_the_tree(world: World) -> None:
    stray = replace(world.leaves[0], offset=99)
    note = sign_header(replace(world.header, leaves=1, accepted=1, root=root_of([stray.hash()])), world.shard)
    parsed = parse_receipt(world.receipt())
    receipt = Receipt(Proof(0, (), note, stray.data()), parsed.in_log)

    assert _code(receipt.encode(), world.policy) == "leaf"


def test_a_header_by_another_key_is_refused(world: World) -> None:
    forged = sign_note(world.header.text(), [world.log])
    parsed = parse_receipt(world.receipt())
    receipt = Receipt(replace(parsed.in_block, checkpoint=forged), parsed.in_log)

    assert _code(receipt.encode(), world.policy) == "header-signature"
    unknown = replace(world.policy, shards={})
    assert _code(world.receipt(), unknown) == "header-signature"


def test_a_header_that_is_not_in_the_log_is_refused(world: World) -> None:
    later = sign_header(replace(world.header, height=5), world.shard)
    parsed = parse_receipt(world.receipt())
    receipt = Receipt(replace(parsed.in_block, checkpoint=later), parsed.in_log)

    assert _code(receipt.encode(), world.policy) == "log-path"


def test_a_checkpoint_by_another_key_is_refused(world: World) -> None:
    forged = sign_note(world.checkpoint.text(), [world.shard])

    assert _code(world.receipt(checkpoint_note=forged), world.policy) == "checkpoint-signature"


def test_a_checkpoint_of_another_log_is_refused(world: World) -> None:
    other = sign_checkpoint(replace(world.checkpoint, origin="salus.example/other"), [world.log])

    assert _code(world.receipt(checkpoint_note=other), world.policy) == "checkpoint-signature"


def test_too_few_witnesses_are_no_quorum(world: World) -> None:
    alone = sign_checkpoint(world.checkpoint, [world.log])
    receipt = world.receipt(checkpoint_note=alone)

    assert _code(receipt, world.policy) == "quorum"
    assert verify_receipt(receipt, replace(world.policy, quorum=Quorum())).cosigners == ()


def test_one_witness_with_two_keys_counts_once(world: World) -> None:
    one, other, silent = world.witnesses
    double = CosignatureSigner(one.name, other._key)
    note = add_signatures(
        sign_checkpoint(world.checkpoint, [world.log]),
        [signer.cosign(world.checkpoint, seconds=5) for signer in (one, double)],
    )
    witnesses = (one.verifier, double.verifier, silent.verifier)

    assert (
        _code(world.receipt(checkpoint_note=note), replace(world.policy, quorum=Quorum.of(2, witnesses)))
        == "quorum"
    )


def test_a_witness_that_is_not_in_the_policy_counts_for_nothing(world: World) -> None:
    policy = replace(world.policy, quorum=Quorum.of(2, world.policy.quorum.verifiers[1:]))

    assert _code(world.receipt(), policy) == "quorum"


def test_a_wrong_cosignature_by_a_known_witness_spoils_the_receipt(world: World) -> None:
    silent = world.witnesses[2].verifier
    note = add_signatures(world.checkpoint_note, [NoteSignature(silent.name, silent.key_id, bytes(72))])

    assert _code(world.receipt(checkpoint_note=note), world.policy) == "checkpoint-signature"


def test_a_witness_of_another_root_does_not_count(world: World) -> None:
    elsewhere = Checkpoint(world.log.name, world.checkpoint.size, bytes(32))
    note = add_signatures(
        sign_checkpoint(world.checkpoint, [world.log]),
        [witness.cosign(elsewhere, seconds=5) for witness in world.witnesses],
    )

    assert _code(world.receipt(checkpoint_note=note), world.policy) == "checkpoint-signature"


def test_what_was_verified_once_is_verified_with_its_own_bytes_only(world: World) -> None:
    policy = world.policy
    verify_receipt(world.receipt(), policy)
    text, _ = split_note(world.checkpoint_note)
    forged = sign_note(text, [world.shard])

    assert _code(world.receipt(checkpoint_note=forged), policy) == "checkpoint-signature"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"index 3\n", b"index 03\n"),
        (b"index 3\n", b"index  3\n"),
        (b"index 3\n", b"index -1\n"),
        (b"index 3\n", b""),
        (b"extra ", b"Extra "),
        (b"@v1\nextra", b"@v2\nextra"),
        (b"\n\nc2sp.org", b"\nc2sp.org"),
        (b"\n\nc2sp.org", b"\n\n\nc2sp.org"),
        (b"\nindex 6\n", b"\nextra AA==\nindex 6\n"),
        (b"/block/0\n", b"/block/x\n"),
    ],
)
def test_what_is_not_exactly_a_receipt_is_malformed(world: World, old: bytes, new: bytes) -> None:
    receipt = world.receipt()
    assert old in receipt

    assert _code(receipt.replace(old, new), world.policy) == "malformed"


def test_a_proof_without_extra_data_is_no_receipt(world: World) -> None:
    parsed = parse_receipt(world.receipt())

    assert (
        _code(Receipt(replace(parsed.in_block, extra=None), parsed.in_log).encode(), world.policy)
        == "malformed"
    )


def test_an_overlong_path_or_file_is_malformed(world: World) -> None:
    parsed = parse_receipt(world.receipt())
    long = Receipt(replace(parsed.in_block, path=(bytes(32),) * 65), parsed.in_log)

    assert _code(long.encode(), world.policy) == "malformed"
    with pytest.raises(ReceiptError, match="more than 2000000 bytes"):
        verify_receipt(world.receipt() + bytes(2_000_000), world.policy)


def test_parts_that_do_not_fit_make_no_receipt(world: World) -> None:
    parsed = parse_receipt(world.receipt())
    for index, note in (
        (-1, world.header_note),
        (0, b"no note"),
        (0, world.header_note + b"\nc2sp.org/tlog-proof@v1\n"),
    ):
        with pytest.raises(ReceiptError, match="malformed"):
            build_receipt(b"leaf", index, [], note, 0, parsed.in_log.path, world.checkpoint_note)
