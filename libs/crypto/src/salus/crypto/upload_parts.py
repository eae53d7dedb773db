"""Seal the parts of an upload that is under way, each under the upload's own key and bound to its place.

The key of an upload is HKDF-SHA256 of the patient's private key and of the upload's secret, 32 random bytes:
it is gone as soon as one of them is. A part is

    salt (32 bytes) || AES-256-GCM of the bytes, with its tag

under the key HKDF-SHA256(key of the upload, salt, info = `<format> part <upload> <first byte>`), which seals
nothing else, so the nonce is zero. A part of another upload, or of another place, does not open. What else is
kept of an upload is bound to it by HMAC-SHA256 under a key of its own, so that nobody changes it.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from salus.crypto.errors import CryptoError

KEY_BYTES = 32
SECRET_BYTES = 32
SALT_BYTES = 32
OVERHEAD_BYTES = SALT_BYTES + 16
"""How much longer a sealed part is than its bytes."""

_FORMAT = "salus.health/upload/v1"
_NONCE = bytes(12)


class AlteredUploadError(CryptoError):
    """What is kept of an upload is not what was kept: it is altered, or of another upload or place."""


@dataclass(frozen=True, slots=True)
class UploadKey:
    """Seals and opens the parts of one upload, in any order."""

    upload: str
    _key: bytes = field(repr=False)

    @classmethod
    def of(cls, upload: str, *, private_key: bytes, secret: bytes) -> UploadKey:
        """Return the key of an upload for the patient whose private key it is."""
        return cls(upload, _derived(private_key, secret, f"key {upload}"))

    def seal(self, data: bytes, *, start: int) -> bytes:
        """Return the part that begins at byte `start`, sealed."""
        salt = secrets.token_bytes(SALT_BYTES)
        return salt + self._cipher(salt, start).encrypt(_NONCE, data, None)

    def open(self, sealed: bytes, *, start: int) -> bytes:
        """Return the bytes of a part; raises AlteredUploadError."""
        try:
            cipher = self._cipher(sealed[:SALT_BYTES], start)
            return cipher.decrypt(_NONCE, sealed[SALT_BYTES:], None)
        except (InvalidTag, ValueError):
            raise AlteredUploadError(f"the part at {start} does not open") from None

    def tag(self, data: bytes) -> str:
        """Return what binds data to this upload, in hex."""
        return hmac.digest(_derived(self._key, b"", "tag"), data, "sha256").hex()

    def require_tag(self, data: bytes, tag: str) -> None:
        """Raise AlteredUploadError unless this is the tag of the data."""
        if not hmac.compare_digest(self.tag(data).encode(), tag.encode()):
            raise AlteredUploadError("the tag is of other data")

    def _cipher(self, salt: bytes, start: int) -> AESGCM:
        return AESGCM(_derived(self._key, salt, f"part {self.upload} {start}"))


def new_secret() -> bytes:
    """Return the secret of a new upload."""
    return secrets.token_bytes(SECRET_BYTES)


def _derived(key: bytes, salt: bytes, use: str) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=salt, info=f"{_FORMAT} {use}".encode()).derive(key)
