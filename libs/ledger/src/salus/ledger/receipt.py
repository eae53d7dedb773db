"""Receipts: one file that proves one event, verified with nothing but a policy.

A receipt is two C2SP tlog-proofs (c2sp.org/tlog-proof) with a blank line between them: the first proves
that a leaf is in a block, whose header note stands where a checkpoint stands; the second proves that this
header is in the log. `salus.ledger.cose` has its other form, which says the same and which
`verify_receipt` takes as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature

from salus.ledger.base import base64_of, bytes_of_base64, hash_of_base64, int_of_decimal
from salus.ledger.block import Header, Leaf, parse_header, parse_leaf
from salus.ledger.checkpoint import Checkpoint, open_checkpoint
from salus.ledger.cose import (
    LOG_SIZE_MIN,
    CoseReceipt,
    TreeProof,
    is_cose,
    parse_cose_receipt,
    sign_root,
    signed_bytes,
)
from salus.ledger.errors import (
    BlockError,
    CheckpointError,
    InclusionError,
    NoteError,
    PolicyError,
    ReceiptError,
)
from salus.ledger.key_periods import Keys, history_of
from salus.ledger.merkle import leaf_hash, verify_inclusion
from salus.ledger.note import NOTE_BYTES_MAX, Signers, split_note
from salus.ledger.policy import Cosigner, Policy

PROOF_LINE = "c2sp.org/tlog-proof@v1"
RECEIPT_BYTES_MAX = 2 * NOTE_BYTES_MAX
PATH_MAX = 63
RECEIPT_CODES = (
    "malformed",
    "leaf",
    "event-digest",
    "block-path",
    "header-signature",
    "checkpoint-signature",
    "log-path",
    "quorum",
)


@dataclass(frozen=True, slots=True)
class Proof:
    """One C2SP tlog-proof: extra data, index, path from the sibling up, and the checkpoint note."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def encode(self) -> bytes:
        """Return the proof's text."""
        lines = [PROOF_LINE]
        if self.extra is not None:
            lines.append(f"extra {base64_of(self.extra)}")
        lines += [f"index {self.index}", *map(base64_of, self.path), "", ""]
        return "\n".join(lines).encode() + self.checkpoint


@dataclass(frozen=True, slots=True)
class Receipt:
    """A parsed receipt: nothing in it is verified."""

    in_block: Proof
    in_log: Proof

    def encode(self) -> bytes:
        """Return the receipt's bytes."""
        return self.in_block.encode() + b"\n" + self.in_log.encode()


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """What a valid receipt proves: this leaf, in this block, in the log below this checkpoint.

    A leaf may be a rejected record: look at `leaf.is_accepted`.
    """

    leaf: Leaf
    index: int
    header: Header
    log_index: int
    checkpoint: Checkpoint
    cosigners: tuple[Cosigner, ...]


def build_receipt(  # noqa: PLR0913, PLR0917  # the seven facts of a receipt, in their order
    leaf_data: bytes,
    index: int,
    block_path: Sequence[bytes],
    header_note: bytes,
    log_index: int,
    log_path: Sequence[bytes],
    checkpoint_note: bytes,
) -> bytes:
    """Return the receipt of a leaf; nothing is verified here but the form.

    Raises:
        ReceiptError: `malformed`.
    """
    in_block = Proof(index, tuple(block_path), header_note, leaf_data)
    receipt = Receipt(in_block, Proof(log_index, tuple(log_path), checkpoint_note))
    encoded = receipt.encode()
    if parse_receipt(encoded) != receipt:
        raise ReceiptError("malformed", "the parts do not fit into a receipt")
    return encoded


def parse_proof(data: bytes) -> Proof:
    """Return a tlog-proof's parts; of the checkpoint only the note's form is checked.

    Raises:
        ReceiptError: `malformed`.
    """
    head, blank, checkpoint = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    if first != PROOF_LINE.encode() or not blank or not lines:
        raise ReceiptError("malformed", "not a tlog-proof")
    try:
        extra = None
        if lines[0].startswith(b"extra "):
            extra = bytes_of_base64(lines.pop(0)[6:].decode("ascii"))
        index = int_of_decimal(_after("index ", lines.pop(0).decode("ascii") if lines else ""))
        if len(lines) > PATH_MAX:
            raise ReceiptError("malformed", f"a path of {len(lines)} hashes")
        path = tuple(hash_of_base64(line.decode("ascii")) for line in lines)
        split_note(checkpoint)
    except (ValueError, NoteError) as error:
        raise ReceiptError("malformed", str(error)) from None
    return Proof(index, path, checkpoint, extra)


def parse_receipt(data: bytes) -> Receipt:
    """Return a receipt's two proofs.

    Raises:
        ReceiptError: `malformed`, if they are not exactly what `Receipt.encode` gives.
    """
    if len(data) > RECEIPT_BYTES_MAX:
        raise ReceiptError("malformed", f"more than {RECEIPT_BYTES_MAX} bytes")
    separator = b"\n\n" + PROOF_LINE.encode() + b"\n"
    first, found, second = data.partition(separator)
    if not found:
        raise ReceiptError("malformed", "not two proofs with a blank line between them")
    in_block = parse_proof(first + b"\n")
    in_log = parse_proof(separator[2:] + second)
    if in_block.extra is None or in_log.extra is not None:
        raise ReceiptError("malformed", "extra data belongs in the first proof, and only there")
    return Receipt(in_block, in_log)


def cose_receipt(receipt: bytes, log: Keys, signers: Signers) -> bytes:
    """Return a receipt in its COSE form, the root of its checkpoint signed once more by the log.

    Nothing is signed but the root of a checkpoint that bears the log's own valid signature already. Of more
    keys than one the newest signs: where an older one ends is decided later, maybe below this checkpoint.

    Raises:
        NoteError, CheckpointError: the receipt's checkpoint is not one that the log has signed.
        ReceiptError: `malformed`; or `log-too-small`, as RFC 9942 has no proof for a log of one entry.
    """
    parsed = parse_receipt(receipt)
    checkpoint, _ = open_checkpoint(parsed.in_log.checkpoint, log)
    if checkpoint.size < LOG_SIZE_MIN:
        raise ReceiptError("log-too-small", "a log of one entry has no COSE receipt: wait for the next block")
    _, header = _leaf_and_header(parsed.in_block)
    begins = {period.verifier.key_id: period.first for period in history_of(log).periods}
    signer = max(signers.at(checkpoint.size), key=lambda one: begins.get(one.key_id, 0))
    return CoseReceipt(
        log=checkpoint.origin,
        key_id=signer.key_id,
        signature=sign_root(signer, checkpoint.root),
        in_log=TreeProof(checkpoint.size, parsed.in_log.index, parsed.in_log.path),
        leaf=parsed.in_block.extra or b"",
        in_block=TreeProof(header.leaves, parsed.in_block.index, parsed.in_block.path),
        header=parsed.in_block.checkpoint,
        checkpoint=parsed.in_log.checkpoint,
    ).encode()


def verify_receipt(receipt: bytes, policy: Policy, *, event: bytes | None = None) -> VerifiedReceipt:
    """Return what the receipt, in its text or its COSE form, proves to someone with this policy.

    `event` is the record's value as it was on the topic; without it the receipt speaks of a digest only.

    Raises:
        ReceiptError: with the first of `RECEIPT_CODES` that applies, from the leaf upwards.
    """
    cose = _parse_cose(receipt) if is_cose(receipt) else None
    parsed = parse_receipt(receipt) if cose is None else _text_form(cose)
    leaf, shown = _leaf_and_header(parsed.in_block)
    if event is not None and leaf_hash(event) != leaf.digest:
        raise ReceiptError("event-digest", "the receipt is of another value")
    _require_path("block-path", leaf.hash(), parsed.in_block, shown.leaves, shown.root)
    _require_size("block-path", cose.in_block if cose else None, shown.leaves)
    try:
        header = policy.open_header(parsed.in_block.checkpoint, shown.origin)
    except (BlockError, PolicyError) as error:
        raise ReceiptError("header-signature", str(error)) from None
    try:
        seen = policy.open_checkpoint(parsed.in_log.checkpoint)
    except (NoteError, CheckpointError) as error:
        raise ReceiptError("checkpoint-signature", str(error)) from None
    head = seen.checkpoint
    if cose is not None:
        _require_cose_signature(cose, policy, head)
    _require_path("log-path", leaf_hash(parsed.in_block.checkpoint), parsed.in_log, head.size, head.root)
    _require_size("log-path", cose.in_log if cose else None, head.size)
    if seen.shortfall is not None:
        raise ReceiptError("quorum", seen.shortfall)
    return VerifiedReceipt(
        leaf=leaf,
        index=parsed.in_block.index,
        header=header,
        log_index=parsed.in_log.index,
        checkpoint=head,
        cosigners=seen.cosigners,
    )


def _parse_cose(receipt: bytes) -> CoseReceipt:
    if len(receipt) > RECEIPT_BYTES_MAX:
        raise ReceiptError("malformed", f"more than {RECEIPT_BYTES_MAX} bytes")
    return parse_cose_receipt(receipt)


def _text_form(cose: CoseReceipt) -> Receipt:
    """Return the same receipt without the COSE signature, after the checks that its text would undergo."""
    in_block = Proof(cose.in_block.index, cose.in_block.path, cose.header, cose.leaf)
    return parse_receipt(
        Receipt(in_block, Proof(cose.in_log.index, cose.in_log.path, cose.checkpoint)).encode()
    )


def _require_size(code: str, proof: TreeProof | None, size: int) -> None:
    if proof is not None and proof.size != size:
        raise ReceiptError(code, f"a proof in a tree of {proof.size}, and the signed tree has {size}")


def _require_cose_signature(cose: CoseReceipt, policy: Policy, head: Checkpoint) -> None:
    """Require the log's COSE signature over the root of the checkpoint beside it."""
    by = (cose.log, cose.key_id)
    idle = {period.key for period in policy.periods if not period.covers(head.size)}
    named = [key for key in policy.logs if (key.name, key.key_id) == by]
    if not named or cose.log != head.origin or by in idle:
        raise ReceiptError(
            "checkpoint-signature", "the COSE signature is of a key or log that is not trusted here"
        )
    try:
        named[0].check(signed_bytes(cose.log, cose.key_id, head.root), cose.signature)
    except InvalidSignature:
        raise ReceiptError("checkpoint-signature", "the COSE signature of the root is wrong") from None


def _leaf_and_header(proof: Proof) -> tuple[Leaf, Header]:
    text, _ = split_note(proof.checkpoint)
    try:
        header = parse_header(text)
    except BlockError as error:
        raise ReceiptError("malformed", str(error)) from None
    try:
        leaf = parse_leaf(proof.extra or b"")
    except BlockError as error:
        raise ReceiptError("leaf", str(error)) from None
    if not any(
        (r.topic, r.partition) == (leaf.topic, leaf.partition) and r.first <= leaf.offset < r.next
        for r in header.ranges
    ):
        raise ReceiptError("leaf", "its position is outside the block's ranges")
    return leaf, header


def _require_path(code: str, leaf: bytes, proof: Proof, size: int, root: bytes) -> None:
    try:
        verify_inclusion(
            leaf=leaf,
            index=proof.index,
            tree_size=size,
            path=proof.path,
            expected_root=root,
        )
    except InclusionError as error:
        raise ReceiptError(code, str(error)) from None


def _after(prefix: str, line: str) -> str:
    if not line.startswith(prefix):
        raise ValueError(f"no line '{prefix}…'")
    return line.removeprefix(prefix)
