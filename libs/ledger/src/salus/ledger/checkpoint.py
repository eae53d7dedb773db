"""C2SP tlog checkpoints: origin, size and root of a Merkle tree (c2sp.org/tlog-checkpoint v1.0.0)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from salus.ledger.base import base64_of, hash_of_base64, int_of_decimal
from salus.ledger.errors import CheckpointError, NoteError
from salus.ledger.key_periods import Keys, history_of
from salus.ledger.merkle import EMPTY_ROOT
from salus.ledger.note import OpenedNote, Signer, Verifier, open_note, sign_note


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head. `size` counts leaves; `root` is the RFC 6962 tree hash at that size."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the note text."""
        lines = (self.origin, str(self.size), base64_of(self.root), *self.extensions)
        return "\n".join(lines) + "\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """Return the checkpoint that a note text states.

    Raises:
        CheckpointError: `malformed`: fewer than three lines, an empty line, a size or root that is not in
            its one canonical form, or an empty tree with another root than the hash of no bytes.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise CheckpointError("malformed", "not three or more non-empty lines")
    origin, size_text, root_text, *extensions = lines
    try:
        size, root = int_of_decimal(size_text), hash_of_base64(root_text)
    except ValueError as error:
        raise CheckpointError("malformed", f"size or root: {error}") from None
    if size == 0 and root != EMPTY_ROOT:
        raise CheckpointError("malformed", "the empty tree has another root")
    return Checkpoint(origin, size, root, tuple(extensions))


def sign_checkpoint(checkpoint: Checkpoint, signers: Sequence[Signer]) -> bytes:
    """Return the signed checkpoint note.

    Raises:
        CheckpointError, NoteError: the checkpoint has no canonical form.
    """
    text = checkpoint.text()
    if parse_checkpoint(text) != checkpoint:
        raise CheckpointError("malformed", "a line break inside a line")
    return sign_note(text, signers)


def open_checkpoint(note: bytes, log: Keys, others: Sequence[Verifier] = ()) -> tuple[Checkpoint, OpenedNote]:
    """Return the checkpoint that the log's key signed, and the note with whoever else signed it.

    Raises:
        NoteError: as `open_note`, and `unverified` if the log's own signature is missing, or
            `key-period` if its key does not sign at this size: it is retired, or has not taken over.
        CheckpointError: `malformed`, or `origin` if it is another log's.
    """
    keys = history_of(log)
    opened = open_note(note, (*keys.verifiers, *others))
    checkpoint = parse_checkpoint(opened.text)
    if checkpoint.origin != keys.name:
        raise CheckpointError("origin", "the checkpoint is another log's")
    known = {verifier.key_id for verifier in keys.verifiers}
    if not any(s.name == keys.name and s.key_id in known for s in opened.signatures):
        raise NoteError("unverified", "the log's own signature is missing")
    if not keys.counting(opened.signatures, checkpoint.size):
        raise NoteError("key-period", f"no key that signed it signs at size {checkpoint.size}")
    return checkpoint, opened
