r"""The form in which an encrypted object lies in the object store: a header in text, then its segments.

    salus.health/sealed-object/v1
    object 7c1c2c5e-0d35-4c0e-a76d-5c4b3b1b8c11
    patient urn:uuid:2f9c4b62-59a7-4b21-8ee0-1d2f3a4b5c6d
    segment 262144
    prefix <base64 of 7 bytes>
    suite HPKE-Base-X-Wing-HKDF-SHA256-AES-256-GCM
    key <id of the patient's key>
    data-key <base64 of the data key, sealed to that key>
    <empty line>

Every line ends with \n. SHA-256 of the header is the associated data of every segment, so no segment can be
moved to another object and no line of the header be changed unseen. The data key is sealed in the context
`salus.health/sealed-object/v1 <object>`.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass

from salus.crypto.errors import HeaderError
from salus.crypto.sealing import SealedValue, seal, unseal
from salus.crypto.segments import (
    DATA_KEY_BYTES,
    PREFIX_BYTES,
    SEGMENT_BYTES,
    SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN,
    TAG_BYTES,
    Segments,
)

FORMAT = "salus.health/sealed-object/v1"
HEADER_BYTES_MAX = 8192
_HEADER = re.compile(
    rf"{re.escape(FORMAT)}\n"
    r"object (?P<object>\S{1,256})\n"
    r"patient (?P<patient>\S{1,256})\n"
    r"segment (?P<segment>[1-9][0-9]{0,7})\n"
    r"prefix (?P<prefix>[A-Za-z0-9+/]+={0,2})\n"
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
    prefix: bytes
    data_key: SealedValue
    segment_bytes: int = SEGMENT_BYTES

    def encode(self) -> bytes:
        """Return the header as it is stored.

        Raises:
            HeaderError: a value does not fit the form.
        """
        raw = (
            f"{FORMAT}\nobject {self.object}\npatient {self.patient}\nsegment {self.segment_bytes}\n"
            f"prefix {b64encode(self.prefix).decode()}\nsuite {self.data_key.suite}\n"
            f"key {self.data_key.key}\ndata-key {self.data_key.ciphertext}\n\n"
        ).encode()
        parse_header(raw)
        return raw

    def open_segments(self, private_key: bytes) -> Segments:
        """Return what opens the segments; raises UnsealError or UnknownSuiteError."""
        data_key = unseal(self.data_key, private_key=private_key, context=_context(self.object))
        return self._segments(data_key)

    def _segments(self, data_key: bytes) -> Segments:
        return Segments(
            data_key=data_key,
            prefix=self.prefix,
            context=hashlib.sha256(self.encode()).digest(),
            segment_bytes=self.segment_bytes,
        )


def new_object(*, object: str, patient: str, public_key: bytes, key: str) -> tuple[ObjectHeader, Segments]:  # noqa: A002  # the catalogue's name
    """Return the header of a new object with a fresh data key, and what seals its segments."""
    data_key = secrets.token_bytes(DATA_KEY_BYTES)
    sealed = seal(data_key, public_key=public_key, key=key, context=_context(object))
    header = ObjectHeader(
        object=object, patient=patient, prefix=secrets.token_bytes(PREFIX_BYTES), data_key=sealed
    )
    return header, header._segments(data_key)  # noqa: SLF001  # one module


def parse_header(raw: bytes) -> ObjectHeader:
    """Parse a whole header; raises HeaderError."""
    try:
        match = _HEADER.fullmatch(raw.decode("ascii"))
        if match is None or len(raw) > HEADER_BYTES_MAX:
            raise HeaderError("its lines are not as the format says")
        prefix = b64decode(match["prefix"], validate=True)
    except (UnicodeDecodeError, Base64Error) as error:
        raise HeaderError(type(error).__name__) from None
    segment_bytes = int(match["segment"])
    if len(prefix) != PREFIX_BYTES or not SEGMENT_BYTES_MIN <= segment_bytes <= SEGMENT_BYTES_MAX:
        raise HeaderError("its numbers are out of range")
    return ObjectHeader(
        object=match["object"],
        patient=match["patient"],
        prefix=prefix,
        data_key=SealedValue(suite=match["suite"], key=match["key"], ciphertext=match["data_key"]),
        segment_bytes=segment_bytes,
    )


async def split_header(chunks: AsyncIterable[bytes]) -> tuple[ObjectHeader, AsyncIterator[bytes]]:
    """Read the header off a stored object; return it and the stream of what follows. Raises HeaderError."""
    iterator = aiter(chunks)
    held = b""
    while (end := held.find(b"\n\n")) < 0:
        chunk = await anext(iterator, None)
        if chunk is None or len(held) > HEADER_BYTES_MAX:
            raise HeaderError("it does not end")
        held += chunk
    return parse_header(held[: end + 2]), _after(held[end + 2 :], iterator)


def sealed_bytes(*, header: ObjectHeader, plaintext_bytes: int) -> int:
    """Return how many bytes an object of that many plaintext bytes has in the object store."""
    segments = max(1, -(-plaintext_bytes // header.segment_bytes))
    return len(header.encode()) + plaintext_bytes + segments * TAG_BYTES


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for chunk in rest:
        yield chunk


def _context(object: str) -> str:  # noqa: A002  # the catalogue's name
    return f"{FORMAT} {object}"
