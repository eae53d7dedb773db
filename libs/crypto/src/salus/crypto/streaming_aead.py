"""Encrypt streams of any length so that each segment opens by itself, and no other bytes do.

This is Tink's streaming AEAD AES-GCM-HKDF with its parameters of AES256_GCM_HKDF_1MB, byte for byte
(https://developers.google.com/tink/streaming-aead/aes_gcm_hkdf_streaming); what it makes opens in Tink, and
the other way round. A ciphertext is a stream header and then its segments:

    length of the stream header, 40 (1 byte) || salt (32) || nonce prefix (7)

The key of the segments is HKDF-SHA256(key, salt, info = associated data), 32 bytes. Each segment is
AES-256-GCM of a piece of the plaintext, without associated data, under the nonce

    nonce prefix (7 bytes) || segment number (4 bytes, big-endian) || 1 if it is the last, else 0

Every segment but the last takes `segment_bytes` of the ciphertext, tag included; the first shares them with
the stream header. An empty plaintext is one empty last segment.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from salus.crypto.errors import CryptoError, SegmentError

KEY_BYTES = 32
SALT_BYTES = 32
PREFIX_BYTES = 7
TAG_BYTES = 16
STREAM_HEADER_BYTES = 1 + SALT_BYTES + PREFIX_BYTES
SEGMENT_BYTES = 1024 * 1024
SEGMENT_BYTES_MIN = 1024
SEGMENT_BYTES_MAX = 1024 * 1024
SEGMENTS_MAX = 2**32


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """Which part of plaintext and ciphertext each segment of a stream is; of lengths alone."""

    plaintext_bytes: int
    segment_bytes: int = SEGMENT_BYTES

    @property
    def count(self) -> int:
        """How many segments there are."""
        return max(1, -(-(self.plaintext_bytes + STREAM_HEADER_BYTES) // self._room))

    @property
    def ciphertext_bytes(self) -> int:
        """How long the ciphertext is, with the stream header."""
        return STREAM_HEADER_BYTES + self.plaintext_bytes + self.count * TAG_BYTES

    def plaintext_start(self, index: int) -> int:
        """Return where in the plaintext a segment begins; that of `count` is its end."""
        return min(max(0, index * self._room - STREAM_HEADER_BYTES), self.plaintext_bytes)

    def ciphertext_start(self, index: int) -> int:
        """Return where in the ciphertext a segment begins; that of `count` is its end."""
        return min(index * self.segment_bytes or STREAM_HEADER_BYTES, self.ciphertext_bytes)

    def segment_at(self, offset: int) -> int:
        """Return which segment has this byte of the plaintext."""
        return (offset + STREAM_HEADER_BYTES) // self._room

    @property
    def _room(self) -> int:
        return self.segment_bytes - TAG_BYTES


class SegmentCipher:
    """Seals and opens the segments of one stream, in any order."""

    def __init__(
        self, *, key: bytes, associated_data: bytes, stream_header: bytes, segment_bytes: int
    ) -> None:
        if len(key) != KEY_BYTES:
            raise CryptoError(f"a key has {KEY_BYTES} bytes")
        require_segment_bytes(segment_bytes)
        if len(stream_header) != STREAM_HEADER_BYTES or stream_header[0] != STREAM_HEADER_BYTES:
            raise CryptoError("not the header of a stream")
        self.stream_header = stream_header
        self.segment_bytes = segment_bytes
        salt, self._prefix = stream_header[1 : 1 + SALT_BYTES], stream_header[1 + SALT_BYTES :]
        derived = HKDF(SHA256(), KEY_BYTES, salt=salt, info=associated_data).derive(key)
        self._gcm = AESGCM(derived)

    def room(self, index: int) -> int:
        """Return how much plaintext a segment takes."""
        return self.segment_bytes - TAG_BYTES - (0 if index else STREAM_HEADER_BYTES)

    def seal(self, index: int, plaintext: bytes, *, last: bool) -> bytes:
        """Return segment number `index`, TAG_BYTES longer than its plaintext."""
        return self._gcm.encrypt(self._nonce(index, last=last), plaintext, None)

    def open(self, index: int, ciphertext: bytes, *, last: bool) -> bytes:
        """Return the plaintext of segment number `index`; raises SegmentError."""
        try:
            return self._gcm.decrypt(self._nonce(index, last=last), ciphertext, None)
        except (InvalidTag, ValueError):
            raise SegmentError(segment=index, fault="altered") from None

    def _nonce(self, index: int, *, last: bool) -> bytes:
        if index >= SEGMENTS_MAX:
            raise CryptoError(f"a stream has at most {SEGMENTS_MAX} segments")
        return self._prefix + index.to_bytes(4, "big") + bytes([last])


def new_stream_header() -> bytes:
    """Return the beginning of a new stream: a fresh salt and nonce prefix."""
    return bytes([STREAM_HEADER_BYTES]) + secrets.token_bytes(SALT_BYTES + PREFIX_BYTES)


def require_segment_bytes(size: int) -> None:
    """Raise CryptoError unless segments may have this size."""
    if not SEGMENT_BYTES_MIN <= size <= SEGMENT_BYTES_MAX:
        raise CryptoError(f"a segment has {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX} bytes")
