"""Encrypt streams of any length in constant memory, so that any tampering is an error and never data.

The STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015; as in age and Tink): the plaintext is cut
into segments of equal size, the last may be shorter, and each is sealed with AES-256-GCM under the nonce

    prefix (7 bytes) || segment number (4 bytes, big-endian) || 1 if it is the last, else 0

and with the context (the object's header) as associated data. The data key is fresh for every stream. An
empty stream is one empty last segment.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from salus.crypto.errors import CryptoError, SegmentError

DATA_KEY_BYTES = 32
PREFIX_BYTES = 7
TAG_BYTES = 16
SEGMENT_BYTES = 256 * 1024
SEGMENT_BYTES_MIN = 1024
SEGMENT_BYTES_MAX = 1024 * 1024
SEGMENTS_MAX = 2**32


class Segments:
    """Seals and opens the segments of one stream; `context` is authenticated with each of them."""

    def __init__(
        self, *, data_key: bytes, prefix: bytes, context: bytes, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        if len(data_key) != DATA_KEY_BYTES or len(prefix) != PREFIX_BYTES:
            raise CryptoError(f"a data key has {DATA_KEY_BYTES} bytes and a prefix {PREFIX_BYTES}")
        if not SEGMENT_BYTES_MIN <= segment_bytes <= SEGMENT_BYTES_MAX:
            raise CryptoError(f"a segment has {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX} bytes")
        self.segment_bytes = segment_bytes
        self._gcm = AESGCM(data_key)
        self._prefix = prefix
        self._context = context

    def seal(self, index: int, plaintext: bytes, *, last: bool) -> bytes:
        """Return segment number `index`, TAG_BYTES longer than its plaintext."""
        return self._gcm.encrypt(self._nonce(index, last=last), plaintext, self._context)

    def open(self, index: int, ciphertext: bytes, *, last: bool) -> bytes:
        """Return the plaintext of segment number `index`; raises SegmentError."""
        try:
            return self._gcm.decrypt(self._nonce(index, last=last), ciphertext, self._context)
        except (InvalidTag, ValueError):
            pass
        if self._opens(index, ciphertext, last=not last):
            raise SegmentError(segment=index, fault="truncated" if last else "extended")
        raise SegmentError(segment=index, fault="altered")

    async def seal_all(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Yield the sealed segments of a stream whose pieces may have any size."""
        index = 0
        async for segment, last in cut(chunks, self.segment_bytes):
            yield self.seal(index, segment, last=last)
            index += 1

    async def open_all(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Yield the plaintext of sealed segments.

        What was yielded is authentic, and a prefix of the whole; it is the whole only if the iteration
        ends without an error.

        Raises:
            SegmentError: names the first segment that is not as it was written.
        """
        index = 0
        async for segment, last in cut(chunks, self.segment_bytes + TAG_BYTES):
            yield self.open(index, segment, last=last)
            index += 1

    def _opens(self, index: int, ciphertext: bytes, *, last: bool) -> bool:
        try:
            self._gcm.decrypt(self._nonce(index, last=last), ciphertext, self._context)
        except (InvalidTag, ValueError):
            return False
        return True

    def _nonce(self, index: int, *, last: bool) -> bytes:
        if index >= SEGMENTS_MAX:
            raise CryptoError(f"a stream has at most {SEGMENTS_MAX} segments")
        return self._prefix + index.to_bytes(4, "big") + bytes([last])


async def cut(chunks: AsyncIterable[bytes], size: int) -> AsyncIterator[tuple[bytes, bool]]:
    """Yield pieces of exactly `size` bytes and whether it is the last one, which has 0 to `size`.

    A piece is only yielded when it is known whether something follows it.
    """
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        while len(held) > size:
            yield bytes(held[:size]), False
            del held[:size]
    yield bytes(held), True
