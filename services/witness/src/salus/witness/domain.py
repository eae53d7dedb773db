"""Whether to cosign a checkpoint: a pure function of the request, of the keys trusted, of what was cosigned.

Source: c2sp.org/tlog-witness, section add-checkpoint; the order of the checks is the specification's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature

from salus.ledger.base import base64_of, hash_of_base64, int_of_decimal
from salus.ledger.checkpoint import Checkpoint, parse_checkpoint
from salus.ledger.errors import CheckpointError, ConsistencyError, NoteError
from salus.ledger.key_periods import Keys, history_of
from salus.ledger.merkle import EMPTY_ROOT, verify_consistency
from salus.ledger.note import NoteSignature, split_note

PROOF_LINES_MAX = 63
# A checkpoint with a hundred post-quantum signatures, and the longest proof.
REQUEST_BYTES_MAX = 600_000
_OLD = "old "

Trusted = Mapping[str, Sequence[Keys]]
"""The keys trusted for each log, by its origin; one that is retired is not, from that size on."""


class RefusedError(Exception):
    """The checkpoint is not cosigned; `status` and `code` say why to the caller."""

    status = 400
    code = "malformed"


class UnknownLogError(RefusedError):
    """The origin is none of the logs that this witness watches."""

    status = 404
    code = "unknown-log"


class UntrustedError(RefusedError):
    """No key trusted for the origin signed the checkpoint, or one of them has a wrong signature."""

    status = 403
    code = "untrusted"


class OtherSizeError(RefusedError):
    """The caller proves from another size than the last that was cosigned, which is `size`."""

    status = 409
    code = "other-size"

    def __init__(self, size: int) -> None:
        super().__init__(f"the last checkpoint cosigned has size {size}")
        self.size = size


class InconsistentError(RefusedError):
    """The log's own key signed a tree of which it is not proven that it extends the one cosigned."""

    status = 422
    code = "inconsistent"


class TwoHistoriesError(InconsistentError):
    """The log's own key signed two trees of which neither extends the other: that is proven by its own notes.

    Nobody else can bring this about, while anybody can send what is merely not proven.
    """

    code = "two-histories"


@dataclass(frozen=True, slots=True)
class Request:
    """What `add-checkpoint` carries: the size proven from, the proof, and the signed checkpoint."""

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes


@dataclass(frozen=True, slots=True)
class Cosigned:
    """The last checkpoint of a log that was cosigned; `note` carries the log's and our signatures."""

    size: int
    root: bytes
    note: bytes


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint that a trusted key of its log signed, with those signatures."""

    checkpoint: Checkpoint
    signatures: tuple[NoteSignature, ...]


def parse_request(body: bytes) -> Request:
    """Return the request.

    Raises:
        RefusedError: not in the one form of the specification.
    """
    head, blank, note = body.partition(b"\n\n")
    try:
        first, *lines = head.decode("ascii").split("\n")
        if not blank or not first.startswith(_OLD) or len(lines) > PROOF_LINES_MAX:
            raise RefusedError("not an old size, at most 63 hashes, an empty line and a checkpoint")
        old_size = int_of_decimal(first.removeprefix(_OLD))
        return Request(old_size, tuple(map(hash_of_base64, lines)), note)
    except ValueError:
        raise RefusedError("the old size or a hash is not in its one form") from None


def encode_request(request: Request) -> bytes:
    """Return the body of the request."""
    lines = [f"{_OLD}{request.old_size}", *map(base64_of, request.proof)]
    return "\n".join(lines).encode() + b"\n\n" + request.note


def authenticate(note: bytes, trusted: Trusted) -> Signed:
    """Return the checkpoint that a trusted key of its origin signed.

    Raises:
        RefusedError: it is not a checkpoint.
        UnknownLogError, UntrustedError: as they say.
    """
    try:
        text, signatures = split_note(note)
        checkpoint = _read(text)
    except (NoteError, CheckpointError) as error:
        raise RefusedError(str(error)) from None
    histories = [history_of(keys) for keys in trusted.get(checkpoint.origin, ())]
    if not histories:
        raise UnknownLogError("no key of this origin is trusted here")
    keys = {(key.name, key.key_id): key for known in histories for key in known.signing(checkpoint.size)}
    ours = [signature for signature in signatures if (signature.name, signature.key_id) in keys]
    if not ours:
        raise UntrustedError("no signature by a key trusted for this origin")
    for signature in ours:
        try:
            keys[signature.name, signature.key_id].check(text.encode(), signature.signature)
        except InvalidSignature:
            raise UntrustedError("a signature by a trusted key is wrong") from None
    return Signed(checkpoint, tuple({(s.name, s.key_id): s for s in ours}.values()))


def require_growth(request: Request, checkpoint: Checkpoint, last: Cosigned | None) -> None:
    """Raise unless the checkpoint is proven to extend the last one that was cosigned.

    Raises:
        RefusedError: it proves from a size beyond its own.
        OtherSizeError: it proves from another size than the last.
        TwoHistoriesError: there are two trees of one size, or the proof shows that one begins otherwise.
        InconsistentError: the proof does not hold, and shows nothing.
    """
    if request.old_size > checkpoint.size:
        raise RefusedError("the old size is beyond the checkpoint's")
    size = last.size if last else 0
    if request.old_size != size:
        raise OtherSizeError(size)
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        raise TwoHistoriesError("the empty tree has another root")
    if size == 0 or last is None:
        if request.proof:
            raise InconsistentError("a proof from the empty tree has no hashes")
        return
    try:
        verify_consistency(
            first=size,
            second=checkpoint.size,
            first_root=last.root,
            second_root=checkpoint.root,
            proof=request.proof,
        )
    except ConsistencyError as error:
        raise (TwoHistoriesError if error.refuted else InconsistentError)(str(error)) from None


def _read(text: str) -> Checkpoint:
    """Return the checkpoint; an empty tree with another root is well formed here, and refused later."""
    lines = text.split("\n")
    if len(lines) < 4 or lines[1] != "0":
        return parse_checkpoint(text)
    try:
        root = hash_of_base64(lines[2])
    except ValueError:
        raise CheckpointError("malformed", "the root is not a hash") from None
    read = parse_checkpoint("\n".join([*lines[:2], base64_of(EMPTY_ROOT), *lines[3:]]))
    return Checkpoint(read.origin, 0, root, read.extensions)


def origin_hash(origin: str) -> str:
    """Return the lowercase hex SHA-256 of an origin, which names the log in monitoring paths."""
    return sha256(origin.encode()).hexdigest()
