"""The COSE form of a receipt: a COSE Receipt of inclusion in the log (RFC 9942) that carries the rest along.

What RFC 9942 defines is what its verifiers need: a tagged COSE_Sign1 by the log's key over the detached root
of the log, with the inclusion path of a block's header note. The record's own way into that block, and the
checkpoint with its cosignatures, stand beside it under a label of our own, which such verifiers pass over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import cbor2

from salus.ledger.base import INT64_MAX
from salus.ledger.errors import ReceiptError
from salus.ledger.merkle import HASH_SIZE
from salus.ledger.note import Signer

COSE_SIGN1 = 18
# RFC 9052 and RFC 9597: alg, kid and CWT claims; RFC 9942: verifiable data structure and its proofs.
_ALG, _KID, _CLAIMS, _VDS, _VDP = 1, 4, 15, 395, 396
_ISSUER, _SUBJECT = 1, 2
_EDDSA = -8
_RFC9162_SHA256 = 1
_INCLUSION = -1
# Labels below -65536 are for private use (RFC 9052 section 11.1).
RECORD_LABEL = -65537
_FIRST_BYTE = bytes([0xC0 | COSE_SIGN1])
SIGNATURE_SIZE = 64
# The specification's CDDL has no empty path, which is what the only entry of a log would need.
LOG_SIZE_MIN = 2


@dataclass(frozen=True, slots=True)
class TreeProof:
    """An inclusion proof as RFC 9942 section 5.2 has it: the tree's size, the leaf's index, the path."""

    size: int
    index: int
    path: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return the CBOR of the proof."""
        return _dumps([self.size, self.index, list(self.path)])


@dataclass(frozen=True, slots=True)
class CoseReceipt:
    """The parts of a receipt in its COSE form: nothing in it is verified."""

    log: str
    key_id: bytes
    signature: bytes
    in_log: TreeProof
    leaf: bytes
    in_block: TreeProof
    header: bytes
    checkpoint: bytes

    def encode(self) -> bytes:
        """Return the receipt's bytes, in CBOR's deterministic encoding."""
        record = [self.leaf, self.in_block.encode(), self.header, self.checkpoint]
        unprotected = {_VDP: {_INCLUSION: [self.in_log.encode()]}, RECORD_LABEL: record}
        parts = [_protected(self.log, self.key_id), unprotected, None, self.signature]
        return _dumps(cbor2.CBORTag(COSE_SIGN1, parts))


def is_cose(receipt: bytes) -> bool:
    """Tell a receipt in its COSE form from one in its text form."""
    return receipt.startswith(_FIRST_BYTE)


def signed_bytes(log: str, key_id: bytes, root: bytes) -> bytes:
    """Return what a log signs of its root: the Sig_structure of RFC 9052 section 4.4.

    Its first byte is 0x84, which no UTF-8 text begins with: it is never the text of a note, so one key may
    sign both.
    """
    return _dumps(["Signature1", _protected(log, key_id), b"", root])


def sign_root(signer: Signer, root: bytes) -> bytes:
    """Return the log's signature of a root; whoever calls must have published a checkpoint of it."""
    return signer.signature_of(signed_bytes(signer.name, signer.key_id, root))


def parse_cose_receipt(data: bytes) -> CoseReceipt:
    """Return the parts of a receipt in its COSE form.

    Raises:
        ReceiptError: `malformed`, if it is not exactly what `CoseReceipt.encode` gives.
    """
    try:
        receipt = _parts(_loads(data))
    except (cbor2.CBORError, ValueError, KeyError) as error:
        raise ReceiptError("malformed", f"not a COSE receipt of this log: {error}") from None
    if receipt.encode() != data:
        raise ReceiptError("malformed", "a COSE receipt that is not in its one form")
    return receipt


def _parts(decoded: object) -> CoseReceipt:
    if not isinstance(decoded, cbor2.CBORTag):
        raise ValueError("no tag")  # noqa: TRY004  # a form that is wrong, as all others here
    protected, unprotected, _, signature = _array(decoded.value, 4)
    head = _map(_loads(_bytes(protected)))
    record = _array(_map(unprotected)[RECORD_LABEL], 4)
    (in_log,) = _array(_map(_map(unprotected)[_VDP])[_INCLUSION], 1)
    receipt = CoseReceipt(
        log=_text(_map(head[_CLAIMS])[_ISSUER]),
        key_id=_bytes(head[_KID]),
        signature=_bytes(signature),
        in_log=_proof(in_log),
        leaf=_bytes(record[0]),
        in_block=_proof(record[1]),
        header=_bytes(record[2]),
        checkpoint=_bytes(record[3]),
    )
    if len(receipt.signature) != SIGNATURE_SIZE or not receipt.in_log.path:
        raise ValueError("a signature of another length, or an empty path in the log")
    return receipt


def _proof(encoded: object) -> TreeProof:
    size, index, path = _array(_loads(_bytes(encoded)), 3)
    hashes = tuple(_bytes(one) for one in _array(path))
    if any(len(one) != HASH_SIZE for one in hashes):
        raise ValueError("a hash that is not of 32 bytes")
    return TreeProof(_number(size), _number(index), hashes)


def _protected(log: str, key_id: bytes) -> bytes:
    claims = {_ISSUER: log, _SUBJECT: log}
    return _dumps({_ALG: _EDDSA, _KID: key_id, _CLAIMS: claims, _VDS: _RFC9162_SHA256})


def _dumps(value: object) -> bytes:
    return cbor2.dumps(value, canonical=True)


def _refuse_tag(_: object, *__: object) -> NoReturn:
    raise ValueError("a tag that has no place in a receipt")


# Tags that the library would turn into values of their own, some of them at any cost.
_REFUSED = dict.fromkeys(
    (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799),
    _refuse_tag,
)


def _loads(data: bytes) -> Any:
    return cbor2.loads(
        data,
        max_depth=8,
        allow_indefinite=False,
        allow_duplicate_keys=False,
        semantic_decoders=_REFUSED,
    )


def _array(value: object, length: int | None = None) -> Sequence[Any]:
    if not isinstance(value, list | tuple) or (length is not None and len(value) != length):
        raise ValueError("not an array of the right length")
    return value


def _map(value: object) -> Any:
    if not hasattr(value, "keys"):
        raise ValueError("not a map")
    return value


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("not a byte string")  # noqa: TRY004  # as above
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text string")  # noqa: TRY004  # as above
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= INT64_MAX:
        raise ValueError("not a number from 0 to 2^63-1")
    return value
