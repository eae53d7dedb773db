"""The COSE form of a receipt (RFC 9942): it proves what the text form proves, and nothing that is changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cbor2
import pytest
from cryptography.exceptions import InvalidSignature
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ledger.network import World, key_of

from salus.ledger.block import sign_header
from salus.ledger.checkpoint import Checkpoint, sign_checkpoint
from salus.ledger.cose import RECORD_LABEL, CoseReceipt, parse_cose_receipt, sign_root, signed_bytes
from salus.ledger.errors import LedgerError, NoteError, ReceiptError
from salus.ledger.key_periods import KeyHistory, KeyPeriod
from salus.ledger.merkle import leaf_hash, node_hash
from salus.ledger.note import NoteSigner, add_signatures, sign_note
from salus.ledger.policy import Policy
from salus.ledger.quorum import Quorum
from salus.ledger.receipt import RECEIPT_CODES, build_receipt, cose_receipt, verify_receipt


@pytest.fixture(scope="session")
def receipt(world: World) -> bytes:
    return cose_receipt(world.receipt(), world.log.verifier, world.log)


@pytest.fixture(scope="session")
def parts(receipt: bytes) -> CoseReceipt:
    return parse_cose_receipt(receipt)


def _code(receipt: bytes, policy: Policy, event: bytes | None = None) -> str:
    with pytest.raises(ReceiptError) as refused:
        verify_receipt(receipt, policy, event=event)
    return refused.value.code


def test_it_proves_what_the_text_form_proves(world: World) -> None:
    for index in range(7):
        text = world.receipt(index)
        cose = cose_receipt(text, world.log.verifier, world.log)
        event = b'{"id":"%d"}' % index

        assert verify_receipt(cose, world.policy, event=event) == verify_receipt(
            text, world.policy, event=event
        )


def test_it_is_the_structure_of_the_rfc(world: World, receipt: bytes) -> None:
    tagged: Any = cbor2.loads(receipt)
    protected, unprotected, payload, signature = tagged.value
    (proof,) = unprotected[396][-1]
    size, index, path = cbor2.loads(proof)

    assert tagged.tag == 18
    name = world.log.name
    assert cbor2.loads(protected) == {1: -8, 4: world.log.key_id, 15: {1: name, 2: name}, 395: 1}
    assert set(unprotected) == {396, RECORD_LABEL}
    assert payload is None
    assert (size, index) == (world.checkpoint.size, world.entries.index(world.header_note))
    assert all(len(one) == 32 for one in path)
    structure = cbor2.dumps(["Signature1", protected, b"", world.checkpoint.root])
    key_of("log").public_key().verify(signature, structure)
    assert structure == signed_bytes(name, world.log.key_id, world.checkpoint.root)


def test_parsing_undoes_encoding(receipt: bytes, parts: CoseReceipt) -> None:
    assert parts.encode() == receipt


@given(data=st.data())
def test_no_flipped_bit_verifies(world: World, receipt: bytes, data: st.DataObject) -> None:
    bit = data.draw(st.integers(0, 2400 * 8) | st.integers(0, len(receipt) * 8 - 1))
    flipped = bytearray(receipt)
    flipped[bit // 8] ^= 1 << bit % 8

    assert _code(bytes(flipped), world.policy) in RECEIPT_CODES


@given(st.data())
def test_no_receipt_that_was_cut_or_grew_verifies(world: World, receipt: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(receipt) - 1))

    assert _code(receipt[:cut], world.policy) == "malformed"
    assert _code(receipt + data.draw(st.binary(min_size=1, max_size=9)), world.policy) == "malformed"


@given(st.binary(max_size=60))
def test_arbitrary_bytes_prove_nothing(world: World, junk: bytes) -> None:
    assert _code(b"\xd2" + junk, world.policy) == "malformed"
    assert _code(b"\xd2\x84" + junk, world.policy) == "malformed"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.binary(max_size=40) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(-2, 400), inner, max_size=3)
        | st.builds(cbor2.CBORTag, st.sampled_from([2, 4, 5, 18, 24, 30, 35, 61]), inner)
    ),
    max_leaves=8,
)


@given(value=VALUES, place=st.integers(0, 13))
def test_no_other_value_in_any_place_verifies(
    world: World, receipt: bytes, value: object, place: int
) -> None:
    outer: Any = list(cbor2.loads(receipt).value)
    outer[1] = dict(outer[1])
    record, protected = list(outer[1][RECORD_LABEL]), dict(cbor2.loads(outer[0]))
    before = cbor2.dumps([outer, record, protected], canonical=True)
    if place < 4:
        outer[place] = value
    elif place < 8:
        record[place - 4] = value
        outer[1][RECORD_LABEL] = record
    elif place < 12:
        protected[(1, 4, 15, 395)[place - 8]] = value
        outer[0] = cbor2.dumps(protected, canonical=True)
    else:
        outer[1][396] = value if place == 12 else {-1: value}
    if cbor2.dumps([outer, record, protected], canonical=True) == before:
        return

    changed = cbor2.dumps(cbor2.CBORTag(18, outer), canonical=True)
    assert _code(changed, world.policy) in RECEIPT_CODES


@pytest.mark.parametrize(
    "encoded",
    [
        bytes.fromhex("d29fff"),  # of indefinite length
        bytes.fromhex("d284") + b"\x81" * 100,  # deep
        bytes.fromhex("d2c5821b000000ffffffffff01"),  # a bigfloat of 2^1099511627775
        bytes.fromhex("d2d8236161"),  # a regular expression
        bytes.fromhex("d2d9d9f7d284"),  # a tag that means nothing
        bytes.fromhex("d25bffffffffffffffff"),  # a length that nobody has
    ],
)
def test_cbor_that_costs_more_than_it_says_is_refused(world: World, encoded: bytes) -> None:
    assert _code(encoded, world.policy) == "malformed"


@pytest.mark.parametrize("tagged", ["c240", "d8236161", "c4820001", "c000", "d81c80", "d9010280"])
def test_no_tag_inside_is_turned_into_a_value_of_its_own(world: World, tagged: str) -> None:
    with pytest.raises(ReceiptError, match="semantic tag"):
        verify_receipt(bytes.fromhex("d284" + tagged + "a0f640"), world.policy)


def test_parts_of_a_wrong_size_are_malformed(parts: CoseReceipt) -> None:
    for changed in (
        replace(parts, in_log=replace(parts.in_log, path=())),
        replace(parts, in_log=replace(parts.in_log, path=(bytes(31),))),
        replace(parts, in_block=replace(parts.in_block, path=(bytes(33),))),
        replace(parts, signature=bytes(63)),
    ):
        with pytest.raises(ReceiptError, match="malformed"):
            parse_cose_receipt(changed.encode())


def test_what_is_too_large_is_refused_unread(world: World) -> None:
    assert _code(b"\xd2" + bytes(2_000_001), world.policy) == "malformed"


def test_every_step_that_fails_has_its_code(world: World, parts: CoseReceipt) -> None:
    in_block, in_log = parts.in_block, parts.in_log
    later = sign_header(replace(world.header, height=5), world.shard)
    forged = sign_note(world.header.text(), [world.log])
    alone = sign_checkpoint(world.checkpoint, [world.log])
    cases = {
        "leaf": [replace(parts, leaf=b"not a leaf")],
        "block-path": [
            replace(parts, in_block=replace(in_block, index=2)),
            replace(parts, in_block=replace(in_block, size=8)),
            replace(parts, leaf=world.leaves[2].data()),
        ],
        "header-signature": [replace(parts, header=forged)],
        "checkpoint-signature": [
            replace(parts, signature=bytes(64)),
            replace(parts, log="salus.example/other"),
            replace(parts, key_id=bytes(4)),
            replace(parts, checkpoint=sign_note(world.checkpoint.text(), [world.shard])),
            replace(parts, signature=sign_root(world.log, bytes(32))),
        ],
        "log-path": [
            replace(parts, in_log=replace(in_log, index=5)),
            replace(parts, in_log=replace(in_log, size=10)),
            replace(parts, header=later),
        ],
        "quorum": [replace(parts, checkpoint=alone)],
    }
    for code, changed in cases.items():
        for one in changed:
            assert _code(one.encode(), world.policy) == code
    assert _code(parts.encode(), world.policy, b"another") == "event-digest"
    assert _code(replace(parts, log=world.shard.name).encode(), world.policy) == "checkpoint-signature"


def test_the_signature_is_of_the_checkpoint_beside_it(world: World, parts: CoseReceipt) -> None:
    policy = replace(world.policy, quorum=Quorum())
    other = replace(world.checkpoint, root=bytes(32))
    swapped = replace(parts, checkpoint=sign_checkpoint(other, [world.log]))

    assert _code(swapped.encode(), policy) == "checkpoint-signature"
    both = replace(swapped, signature=sign_root(world.log, other.root))
    assert _code(both.encode(), policy) == "log-path"


def test_a_key_of_the_log_signs_within_its_period_only(world: World) -> None:
    renewed = NoteSigner(world.log.name, key_of("renewed"))
    size = world.checkpoint.size
    taking_over = (KeyPeriod(world.log.verifier, 0, size), KeyPeriod(renewed.verifier, size))
    policy = replace(world.policy, logs=(world.log.verifier, renewed.verifier), periods=taking_over)
    policy = replace(policy, quorum=Quorum())
    note = sign_checkpoint(world.checkpoint, [renewed])
    text = world.receipt(checkpoint_note=note)

    assert (
        verify_receipt(cose_receipt(text, renewed.verifier, renewed), policy).checkpoint == world.checkpoint
    )
    retired = replace(
        parse_cose_receipt(cose_receipt(text, renewed.verifier, renewed)),
        key_id=world.log.key_id,
        signature=sign_root(world.log, world.checkpoint.root),
    )
    assert _code(retired.encode(), policy) == "checkpoint-signature"
    assert verify_receipt(retired.encode(), replace(policy, periods=())).checkpoint == world.checkpoint


@pytest.mark.parametrize("newest_first", [False, True])
def test_in_an_overlap_the_newest_key_signs_so_that_it_stays_valid(
    world: World, *, newest_first: bool
) -> None:
    new, size = NoteSigner(world.log.name, key_of("new log")), world.checkpoint.size
    both = (new, world.log) if newest_first else (world.log, new)

    class Both:
        name = world.log.name

        def at(self, position: int) -> tuple[NoteSigner, ...]:
            assert position == size
            return both

    note = sign_checkpoint(world.checkpoint, both)
    cosigned = add_signatures(note, [one.cosign(world.checkpoint, seconds=5) for one in world.witnesses])
    text = world.receipt(checkpoint_note=cosigned)
    overlap = (KeyPeriod(world.log.verifier), KeyPeriod(new.verifier, size - 2))
    cose = cose_receipt(text, KeyHistory(world.log.name, overlap), Both())
    retired = (KeyPeriod(world.log.verifier, 0, size), KeyPeriod(new.verifier, size - 2))
    policy = replace(world.policy, logs=(world.log.verifier, new.verifier), periods=retired)

    assert verify_receipt(cose, policy) == verify_receipt(text, policy)


def test_nothing_is_signed_but_the_root_of_a_checkpoint_of_the_log(world: World) -> None:
    signed: list[bytes] = []

    class Recording(NoteSigner):
        def signature_of(self, text: bytes) -> bytes:
            signed.append(text)
            return super().signature_of(text)

    signer = Recording(world.log.name, key_of("log"))
    forged = sign_note(world.checkpoint.text(), [NoteSigner(world.log.name, key_of("thief"))])
    for note in (forged, sign_note(world.checkpoint.text(), [world.shard])):
        with pytest.raises(NoteError):
            cose_receipt(world.receipt(checkpoint_note=note), world.log.verifier, signer)
    with pytest.raises(LedgerError):
        cose_receipt(b"junk", world.log.verifier, signer)
    assert signed == []

    cose_receipt(world.receipt(), world.log.verifier, signer)
    assert signed == [signed_bytes(world.log.name, world.log.key_id, world.checkpoint.root)]


def test_the_signature_of_a_root_is_no_signature_of_a_note_nor_the_other_way(world: World) -> None:
    structure = signed_bytes(world.log.name, world.log.key_id, world.checkpoint.root)
    with pytest.raises(UnicodeDecodeError):
        structure.decode()

    note_signature = world.log.signature_of(world.checkpoint.text().encode())
    with pytest.raises(InvalidSignature):
        world.log.verifier.check(structure, note_signature)


def test_a_log_of_one_entry_has_no_cose_receipt(world: World) -> None:
    leaf = world.leaves[3]
    header = sign_header(replace(world.header, leaves=1, accepted=1, root=leaf.hash()), world.shard)
    checkpoint = sign_checkpoint(Checkpoint(world.log.name, 1, leaf_hash(header)), [world.log])
    text = build_receipt(leaf.data(), 0, [], header, 0, [], checkpoint)

    with pytest.raises(ReceiptError, match="log-too-small"):
        cose_receipt(text, world.log.verifier, world.log)


def test_a_block_of_one_leaf_has_a_cose_receipt(world: World) -> None:
    leaf = world.leaves[3]
    header = sign_header(replace(world.header, leaves=1, accepted=1, root=leaf.hash()), world.shard)
    sibling = bytes(32)
    root = node_hash(leaf_hash(header), sibling)
    checkpoint = sign_checkpoint(Checkpoint(world.log.name, 2, root), [world.log])
    text = build_receipt(leaf.data(), 0, [], header, 0, [sibling], checkpoint)
    policy = replace(world.policy, quorum=Quorum())

    assert verify_receipt(cose_receipt(text, world.log.verifier, world.log), policy).leaf == leaf
