"""C2SP timestamped cosignatures of checkpoints by witnesses (c2sp.org/tlog-cosignature).

Type 0x04 is Ed25519 over `cosignature/v1`, a time line and the checkpoint's text; type 0x06 is ML-DSA-44
over a binary structure that names cosigner, log, size and root. Times are POSIX seconds.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from salus.ledger import ed25519
from salus.ledger.base import INT64_MAX
from salus.ledger.checkpoint import Checkpoint, parse_checkpoint
from salus.ledger.errors import CheckpointError, KeyTextError
from salus.ledger.note import (
    Ed25519Key,
    NoteSignature,
    encode_vkey,
    is_key_name,
    key_id_of,
    parse_vkey,
    sound_key,
    verify_once,
)

COSIGNED_ED25519 = 0x04
COSIGNED_MLDSA44 = 0x06
_SIGNATURE_SIZES = {COSIGNED_ED25519: 64, COSIGNED_MLDSA44: 2420}
_KEY_SIZES = {COSIGNED_ED25519: 32, COSIGNED_MLDSA44: 1312}


def cosigned_message(algorithm: int, name: str, seconds: int, text: str) -> bytes:
    """Return the bytes that a witness signs for a checkpoint's note text at a time.

    Raises:
        CheckpointError: the text is not a checkpoint, or its origin is too long for ML-DSA-44's form.
    """
    if algorithm == COSIGNED_ED25519:
        return f"cosignature/v1\ntime {seconds}\n{text}".encode()
    checkpoint = parse_checkpoint(text)
    cosigner, origin = name.encode(), checkpoint.origin.encode()
    if len(cosigner) > 255 or len(origin) > 255:
        raise CheckpointError("malformed", "a name of more than 255 bytes")
    return (
        b"subtree/v1\n\0"
        + bytes([len(cosigner)])
        + cosigner
        + seconds.to_bytes(8, "big")
        + bytes([len(origin)])
        + origin
        + (0).to_bytes(8, "big")
        + checkpoint.size.to_bytes(8, "big")
        + checkpoint.root
    )


class CosignatureVerifier:
    """Verifies the cosignatures of one witness key, of type 0x04 (Ed25519) or 0x06 (ML-DSA-44)."""

    def __init__(self, name: str, key: Ed25519PublicKey | MLDSA44PublicKey) -> None:
        if not is_key_name(name):
            raise KeyTextError("malformed-vkey", "not a key name")
        self._name = name
        self._key = sound_key(key.public_bytes_raw()) if isinstance(key, Ed25519PublicKey) else key
        self._algorithm = COSIGNED_ED25519 if isinstance(key, Ed25519PublicKey) else COSIGNED_MLDSA44
        self._key_id = key_id_of(name, self._algorithm, key.public_bytes_raw())

    @classmethod
    def from_vkey(cls, vkey: str) -> CosignatureVerifier:
        """Return the verifier of a vkey.

        Raises:
            KeyTextError: `malformed-vkey`, or `unsupported-algorithm` unless it is of type 0x04 or 0x06.
        """
        name, algorithm, public = parse_vkey(vkey)
        if algorithm not in _KEY_SIZES:
            raise KeyTextError("unsupported-algorithm", f"type {algorithm:#04x} is no cosignature")
        if len(public) != _KEY_SIZES[algorithm]:
            raise KeyTextError("malformed-vkey", f"a key of {len(public)} bytes")
        if algorithm == COSIGNED_ED25519:
            return cls(name, sound_key(public))
        return cls(name, MLDSA44PublicKey.from_public_bytes(public))

    @property
    def name(self) -> str:
        """The witness's key name."""
        return self._name

    @property
    def key_id(self) -> bytes:
        """The four bytes that, with the name, select the key."""
        return self._key_id

    @property
    def vkey(self) -> str:
        """The verifier key to hand out."""
        return encode_vkey(self._name, self._algorithm, self._key.public_bytes_raw())

    def check(self, text: bytes, signature: bytes) -> None:
        """Raise InvalidSignature unless the witness cosigned the checkpoint, at the time in the signature.

        A time of zero makes no statement that the tree was the latest, so it is refused here.
        """
        verify_once(self, text, signature)

    def verify(self, text: bytes, signature: bytes) -> None:
        """Do what `check` does, whether or not it was done before."""
        seconds = time_of_cosignature(signature)
        if seconds == 0 or len(signature) != 8 + _SIGNATURE_SIZES[self._algorithm]:
            raise InvalidSignature
        try:
            message = cosigned_message(self._algorithm, self._name, seconds, text.decode())
        except (CheckpointError, UnicodeDecodeError):
            raise InvalidSignature from None
        if isinstance(self._key, Ed25519PublicKey):
            ed25519.verify(self._key, signature[8:], message)
        else:
            self._key.verify(signature[8:], message)


class CosignatureSigner:
    """Cosigns checkpoints as a witness."""

    def __init__(self, name: str, key: Ed25519Key | MLDSA44PrivateKey) -> None:
        self._key = key
        self._algorithm = COSIGNED_MLDSA44 if isinstance(key, MLDSA44PrivateKey) else COSIGNED_ED25519
        self.verifier = CosignatureVerifier(name, key.public_key())

    @property
    def name(self) -> str:
        """The witness's key name."""
        return self.verifier.name

    @property
    def vkey(self) -> str:
        """The verifier key to hand out."""
        return self.verifier.vkey

    def cosign(self, checkpoint: Checkpoint, *, seconds: int) -> NoteSignature:
        """Return the signature line for a checkpoint, stating this POSIX time.

        Raises:
            ValueError: the time is not from 1 to 2^63-1.
        """
        if not 1 <= seconds <= INT64_MAX:
            raise ValueError(f"{seconds} is not a time to cosign at")
        message = cosigned_message(self._algorithm, self.name, seconds, checkpoint.text())
        signature = seconds.to_bytes(8, "big") + self._key.sign(message)
        return NoteSignature(self.name, self.verifier.key_id, signature)


def time_of_cosignature(signature: bytes) -> int:
    """Return the POSIX seconds that a cosignature states; raises InvalidSignature if it has none."""
    seconds = int.from_bytes(signature[:8], "big")
    if len(signature) <= 8 or seconds > INT64_MAX:
        raise InvalidSignature
    return seconds
