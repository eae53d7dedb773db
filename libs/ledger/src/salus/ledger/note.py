"""C2SP signed notes: text signed by one or more keys (c2sp.org/signed-note v1.0.0).

Reading is as strict as Go's `golang.org/x/mod/sumdb/note` and a little stricter: base64 must be
canonical, so that no two different byte strings are the same note with the same signatures.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from salus.ledger import ed25519
from salus.ledger.base import base64_of, bytes_of_base64
from salus.ledger.errors import KeyTextError, NoteError

ED25519 = 0x01
KEY_ID_SIZE = 4
# Go refuses more than 100; the specification asks for at least 16.
SIGNATURES_MAX = 100
# A hundred ML-DSA-44 cosignatures are 330 kB; a note beyond this is an attack on memory.
NOTE_BYTES_MAX = 1_000_000
_DASH = "\N{EM DASH} "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_NOT_IN_NAMES = re.compile(r"[\s+\x00-\x1f]")
# Receipts of one block carry the same notes again and again.
_SPLIT_BYTES_MAX = 16_384
# Valid signatures that are remembered, with what they sign.
REMEMBERED_MAX = 64


class Verifier(Protocol):
    """Knows one public key and how signatures by it are made."""

    @property
    def name(self) -> str:
        """The key name."""

    @property
    def key_id(self) -> bytes:
        """The four bytes that, with the name, select the key."""

    def check(self, text: bytes, signature: bytes) -> None:
        """Raise cryptography's InvalidSignature unless the key signed the text."""


class Signer(Protocol):
    """Makes signatures for one key; the key itself may live in a KMS."""

    @property
    def name(self) -> str:
        """The key name."""

    @property
    def key_id(self) -> bytes:
        """The four bytes that, with the name, select the key."""

    def signature_of(self, text: bytes) -> bytes:
        """Return the signature over the text, without the key id."""


class Signers(Protocol):
    """Whoever signs for one name: with one key, or while keys change over with two."""

    @property
    def name(self) -> str:
        """The key name."""

    def at(self, position: int) -> Sequence[Signer]:
        """Return who signs the block of this height, or the checkpoint of this size."""


class Ed25519Key(Protocol):
    """A private key: cryptography's, or one that never leaves an HSM."""

    def public_key(self) -> Ed25519PublicKey:
        """Return the public half."""

    def sign(self, data: bytes, /) -> bytes:
        """Return the 64-byte signature (RFC 8032)."""


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: whose, by which key, and the signature's bytes after the key id."""

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        """Return the line as it stands in a note, newline included."""
        return f"{_DASH}{self.name} {base64_of(self.key_id + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class OpenedNote:
    """A note of which at least one signature by a known key is valid, and none by a known key is not.

    `signatures` are the valid ones by known keys, at most one a key and in the note's order; `unverified`
    are all others and mean nothing.
    """

    text: str
    signatures: tuple[NoteSignature, ...]
    unverified: tuple[NoteSignature, ...]

    @property
    def verified(self) -> tuple[str, ...]:
        """The names of the keys whose signatures are valid."""
        return tuple(signature.name for signature in self.signatures)


def is_key_name(name: str) -> bool:
    """Tell whether a key may be called this: not empty, no Unicode space, no plus, no control character."""
    return bool(name) and _NOT_IN_NAMES.search(name) is None


def key_id_of(name: str, algorithm: int, public_key: bytes) -> bytes:
    """Return SHA-256(name || 0x0A || algorithm || public key)[:4]."""
    return sha256(name.encode() + b"\n" + bytes([algorithm]) + public_key).digest()[:KEY_ID_SIZE]


def encode_vkey(name: str, algorithm: int, public_key: bytes) -> str:
    """Return the verifier key `name+hex key id+base64(algorithm || public key)`."""
    key_id = key_id_of(name, algorithm, public_key)
    return f"{name}+{key_id.hex()}+{base64_of(bytes([algorithm]) + public_key)}"


def parse_vkey(vkey: str) -> tuple[str, int, bytes]:
    """Return name, algorithm and public key of a verifier key.

    Raises:
        KeyTextError: `malformed-vkey`, also if the key id does not belong to the key.
    """
    try:
        name, _, material = vkey.split("+", 2)
        raw = bytes_of_base64(material)
    except ValueError:
        raise KeyTextError("malformed-vkey", "not of the form NAME+HEX+BASE64") from None
    if not is_key_name(name) or not raw or encode_vkey(name, raw[0], raw[1:]) != vkey:
        raise KeyTextError("malformed-vkey", "name, key id and key do not belong together")
    return name, raw[0], raw[1:]


def sound_key(public: bytes) -> Ed25519PublicKey:
    """Return the Ed25519 key of a verifier key.

    Raises:
        KeyTextError: `malformed-vkey`, also if anybody could sign under such a key.
    """
    try:
        return ed25519.public_key_of(public)
    except ValueError as error:
        raise KeyTextError("malformed-vkey", str(error)) from None


class NoteSigner:
    """Signs notes with an Ed25519 key under a name."""

    def __init__(self, name: str, key: Ed25519Key) -> None:
        if not is_key_name(name):
            raise KeyTextError("malformed-vkey", "not a key name")
        self._key = key
        self._name = name
        self._public = sound_key(key.public_key().public_bytes_raw()).public_bytes_raw()
        self._key_id = key_id_of(name, ED25519, self._public)

    @property
    def name(self) -> str:
        """The key name."""
        return self._name

    @property
    def key_id(self) -> bytes:
        """The four bytes that, with the name, select the key."""
        return self._key_id

    @property
    def vkey(self) -> str:
        """The verifier key to hand out."""
        return encode_vkey(self._name, ED25519, self._public)

    @property
    def verifier(self) -> NoteVerifier:
        """The verifier of this signer's notes."""
        return NoteVerifier(self._name, self._key.public_key())

    def signature_of(self, text: bytes) -> bytes:
        """Return the 64-byte signature over the text."""
        return self._key.sign(text)

    def at(self, position: int) -> tuple[NoteSigner, ...]:  # noqa: ARG002  # one key signs everywhere
        """Return this signer, as `Signers` asks."""
        return (self,)


class NoteVerifier:
    """Verifies plain Ed25519 note signatures (type 0x01) of one key."""

    def __init__(self, name: str, key: Ed25519PublicKey) -> None:
        if not is_key_name(name):
            raise KeyTextError("malformed-vkey", "not a key name")
        self._name = name
        self._key = sound_key(key.public_bytes_raw())
        self._key_id = key_id_of(name, ED25519, key.public_bytes_raw())

    @classmethod
    def from_vkey(cls, vkey: str) -> NoteVerifier:
        """Return the verifier of a vkey.

        Raises:
            KeyTextError: `malformed-vkey`, or `unsupported-algorithm` unless it is of type 0x01.
        """
        name, algorithm, public = parse_vkey(vkey)
        if algorithm != ED25519:
            raise KeyTextError("unsupported-algorithm", f"type {algorithm:#04x}, not Ed25519")
        return cls(name, sound_key(public))

    @property
    def name(self) -> str:
        """The key name."""
        return self._name

    @property
    def key_id(self) -> bytes:
        """The four bytes that, with the name, select the key."""
        return self._key_id

    @property
    def vkey(self) -> str:
        """The verifier key to hand out."""
        return encode_vkey(self._name, ED25519, self._key.public_bytes_raw())

    def check(self, text: bytes, signature: bytes) -> None:
        """Raise InvalidSignature unless the key signed the text."""
        verify_once(self, text, signature)

    def verify(self, text: bytes, signature: bytes) -> None:
        """Do what `check` does, whether or not it was done before."""
        ed25519.verify(self._key, signature, text)


class _Verifying(Hashable, Protocol):
    """A verifier that does not remember."""

    def verify(self, text: bytes, signature: bytes) -> None:
        """Raise InvalidSignature unless the key signed the text."""


def verify_once(verifier: _Verifying, text: bytes, signature: bytes) -> None:
    """Verify, unless the same was found valid lately; what is wrong is wrong each time.

    A checkpoint is opened again with each cosignature that is added, and verifying takes 0.1 to 0.3 ms.
    """
    if len(text) > _SPLIT_BYTES_MAX:
        verifier.verify(text, signature)
    else:
        _verify_again(verifier, text, signature)


@lru_cache(maxsize=REMEMBERED_MAX)
def _verify_again(verifier: _Verifying, text: bytes, signature: bytes) -> None:
    # What raises is not remembered.
    verifier.verify(text, signature)


def sign_note(text: str, signers: Sequence[Signer]) -> bytes:
    """Return the note: text, blank line, and one signature line a signer.

    Raises:
        NoteError: `malformed`, if the text does not end in a newline, holds other control characters or
            is empty, or if nobody signs.
    """
    _require_text(text)
    if not 1 <= len(signers) <= SIGNATURES_MAX:
        raise NoteError("malformed", f"{len(signers)} signers")
    signed = text.encode()
    lines = [NoteSignature(s.name, s.key_id, s.signature_of(signed)).line() for s in signers]
    return signed + b"\n" + "".join(lines).encode()


def add_signatures(note: bytes, signatures: Sequence[NoteSignature]) -> bytes:
    """Return the note with more signature lines; one that is already there is not added again.

    Raises:
        NoteError: `malformed`.
    """
    _, present = split_note(note)
    known = {(signature.name, signature.key_id) for signature in present}
    fresh = [s for s in signatures if (s.name, s.key_id) not in known]
    return note + "".join(signature.line() for signature in fresh).encode()


def split_note(note: bytes) -> tuple[str, tuple[NoteSignature, ...]]:
    """Return the text and the signature lines of a note; nothing is verified.

    Raises:
        NoteError: `malformed`.
    """
    if len(note) > NOTE_BYTES_MAX:
        raise NoteError("malformed", f"a note of more than {NOTE_BYTES_MAX} bytes")
    return _split_again(note) if len(note) <= _SPLIT_BYTES_MAX else _split(note)


def _split(note: bytes) -> tuple[str, tuple[NoteSignature, ...]]:
    try:
        whole = note.decode("utf-8")
    except UnicodeDecodeError:
        raise NoteError("malformed", "not UTF-8") from None
    text, blank, block = whole.rpartition("\n\n")
    if not blank or not block.endswith("\n"):
        raise NoteError("malformed", "no blank line before signature lines, or no newline after them")
    _require_text(text + "\n")
    lines = block[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise NoteError("malformed", f"more than {SIGNATURES_MAX} signatures")
    return text + "\n", tuple(_parse_signature_line(line) for line in lines)


_split_again = lru_cache(maxsize=256)(_split)


def open_note(note: bytes, verifiers: Sequence[Verifier]) -> OpenedNote:
    """Return the text of a note that at least one of the verifiers' keys signed.

    Raises:
        NoteError: `malformed`, `invalid-signature` if a known key's signature is wrong, or `unverified`
            if there is no signature by a known key.
    """
    text, signatures = split_note(note)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    if len(known) != len(verifiers):
        raise NoteError("ambiguous-verifiers", "two known keys share name and key id")
    signed = text.encode()
    verified: dict[tuple[str, bytes], NoteSignature] = {}
    unverified = []
    for signature in signatures:
        who = (signature.name, signature.key_id)
        verifier = known.get(who)
        if verifier is None or who in verified:
            unverified.append(signature)
            continue
        try:
            verifier.check(signed, signature.signature)
        except InvalidSignature:
            raise NoteError("invalid-signature", f"the signature of {signature.name} is wrong") from None
        verified[who] = signature
    if not verified:
        raise NoteError("unverified", "no signature by a known key")
    return OpenedNote(text, tuple(verified.values()), tuple(unverified))


def _require_text(text: str) -> None:
    if not text.endswith("\n"):
        raise NoteError("malformed", "the text does not end in a newline")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NoteError("malformed", "the text is not Unicode") from None
    if _CONTROL.search(text) is not None:
        raise NoteError("malformed", "the text holds a control character")


def _parse_signature_line(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    try:
        raw = bytes_of_base64(encoded)
    except ValueError:
        raise NoteError("malformed", "a signature that is not canonical base64") from None
    if not line.startswith(_DASH) or not is_key_name(name) or len(raw) <= KEY_ID_SIZE:
        raise NoteError("malformed", "a signature line not of the form '— NAME BASE64'")
    return NoteSignature(name, raw[:KEY_ID_SIZE], raw[KEY_ID_SIZE:])
