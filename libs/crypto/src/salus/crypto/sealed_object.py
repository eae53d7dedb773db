r"""The form in which an encrypted object lies in the object store: head, segments, index.

The head is a header in text

    salus.health/sealed-object/v2
    object 7c1c2c5e-0d35-4c0e-a76d-5c4b3b1b8c11
    patient urn:uuid:2f9c4b62-59a7-4b21-8ee0-1d2f3a4b5c6d
    segment 1048576
    suite HPKE-Base-X-Wing-HKDF-SHA256-AES-256-GCM
    key <id of the patient's key>
    data-key <base64 of the data key, sealed to that key>
    <empty line>

and then the 40 bytes that the ciphertext begins with, a stream of `salus.crypto.streaming_aead`. Every line
ends with \n. The data key, 32 bytes sealed in the context `<format> <object>`, is the key of the stream, and
SHA-256 of the text its associated data. The index holds the RFC 6962 leaf hashes of the head and of each
sealed segment, joined. The root of that tree is on the ledger, so the head and every segment are proven, each
by itself, before a byte of them is used.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass

from salus.crypto.errors import CryptoError, HeaderError
from salus.crypto.sealing import SealedValue, seal, unseal
from salus.crypto.streaming_aead import (
    KEY_BYTES,
    SEGMENT_BYTES,
    STREAM_HEADER_BYTES,
    SegmentCipher,
    SegmentPlan,
    new_stream_header,
    require_segment_bytes,
)

FORMAT = "salus.health/sealed-object/v2"
HEADER_BYTES_MAX = 8192
HASH_BYTES = 32
_HEADER = re.compile(
    rf"{re.escape(FORMAT)}\n"
    r"object (?P<object>\S{1,256})\n"
    r"patient (?P<patient>\S{1,256})\n"
    r"segment (?P<segment>[1-9][0-9]{0,7})\n"
    r"suite (?P<suite>\S{1,64})\n"
    r"key (?P<key>\S{1,128})\n"
    r"data-key (?P<data_key>[A-Za-z0-9+/]+={0,2})\n"
    r"\n",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class ObjectHeader:
    """The header of a sealed object; all of it may be read by whoever may read the object store."""

    object: str
    patient: str
    data_key: SealedValue
    segment_bytes: int = SEGMENT_BYTES

    def encode(self) -> bytes:
        """Return the header as it is stored.

        Raises:
            HeaderError: a value does not fit the form.
        """
        raw = (
            f"{FORMAT}\nobject {self.object}\npatient {self.patient}\nsegment {self.segment_bytes}\n"
            f"suite {self.data_key.suite}\nkey {self.data_key.key}\ndata-key {self.data_key.ciphertext}\n\n"
        ).encode()
        parse_header(raw)
        return raw

    def open_cipher(self, private_key: bytes, *, stream_header: bytes) -> SegmentCipher:
        """Return what opens the segments.

        Raises:
            UnsealError, UnknownSuiteError: the data key does not open with this private key.
            CryptoError: the stream header is none.
        """
        data_key = unseal(self.data_key, private_key=private_key, context=_context(self.object))
        return self._cipher(data_key, stream_header)

    def _cipher(self, data_key: bytes, stream_header: bytes) -> SegmentCipher:
        return SegmentCipher(
            key=data_key,
            associated_data=hashlib.sha256(self.encode()).digest(),
            stream_header=stream_header,
            segment_bytes=self.segment_bytes,
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in a stored object its parts lie: a function of lengths alone."""

    header_bytes: int
    plan: SegmentPlan

    @property
    def head_bytes(self) -> int:
        """How long the header is, with that of the stream."""
        return self.header_bytes + STREAM_HEADER_BYTES

    @property
    def index_start(self) -> int:
        """Where the index begins."""
        return self.header_bytes + self.plan.ciphertext_bytes

    @property
    def size(self) -> int:
        """How many bytes the object has in the store."""
        return self.index_start + HASH_BYTES * (1 + self.plan.count)

    def segment_start(self, index: int) -> int:
        """Return where a segment begins; that of `plan.count` is the index's beginning."""
        return self.header_bytes + self.plan.ciphertext_start(index)

    def segment_bytes(self, index: int) -> int:
        """Return how many bytes a segment has in the store."""
        return self.plan.ciphertext_start(index + 1) - self.plan.ciphertext_start(index)


def new_object(
    *,
    object: str,  # noqa: A002  # the catalogue's name
    patient: str,
    public_key: bytes,
    key: str,
    segment_bytes: int = SEGMENT_BYTES,
) -> tuple[ObjectHeader, SegmentCipher]:
    """Return the header of a new object with a fresh data key, and what seals its segments."""
    data_key = secrets.token_bytes(KEY_BYTES)
    sealed = seal(data_key, public_key=public_key, key=key, context=_context(object))
    header = ObjectHeader(object, patient, sealed, segment_bytes)
    return header, header._cipher(data_key, new_stream_header())  # noqa: SLF001  # one module


def parse_header(raw: bytes) -> ObjectHeader:
    """Parse a whole header; raises HeaderError."""
    try:
        match = _HEADER.fullmatch(raw.decode("ascii"))
        if match is None or len(raw) > HEADER_BYTES_MAX:
            raise HeaderError("its lines are not as the format says")
        b64decode(match["data_key"], validate=True)
        require_segment_bytes(int(match["segment"]))
    except (UnicodeDecodeError, Base64Error, CryptoError) as error:
        raise error if isinstance(error, HeaderError) else HeaderError(type(error).__name__) from None
    return ObjectHeader(
        object=match["object"],
        patient=match["patient"],
        data_key=SealedValue(suite=match["suite"], key=match["key"], ciphertext=match["data_key"]),
        segment_bytes=int(match["segment"]),
    )


def header_in(beginning: bytes) -> bytes:
    """Return the header that the beginning of a stored object has; raises HeaderError."""
    end = beginning.find(b"\n\n", 0, HEADER_BYTES_MAX)
    if end < 0:
        raise HeaderError("it does not end")
    return beginning[: end + 2]


def _context(object: str) -> str:  # noqa: A002  # the catalogue's name
    return f"{FORMAT} {object}"
