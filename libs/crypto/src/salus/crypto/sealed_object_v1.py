r"""The form in which an encrypted object lies in the object store: a header in text, then its segments.

    salus.health/sealed-object/v1
    object 7c1c2c5e-0d35-4c0e-a76d-5c4b3b1b8c11
    patient urn:uuid:2f9c4b62-59a7-4b21-8ee0-1d2f3a4b5c6d
    segment 262144
    prefix <base64 of 7 bytes>
    suite HPKE-Base-X-Wing-HKDF-SHA256-AES-256-GCM
    key <id of the patient's key>
    data-key <base64 of the data key, sealed to that key>
    mac <base64 of 32 bytes>
    <empty line>

Every line ends with \n. The data key, 32 bytes sealed in the context `<format> <object>`, gives two keys by
HKDF-Expand-SHA256 with the format's name as info: the first 32 bytes encrypt the segments, the next 32 are
the HMAC-SHA256 key of `mac`, which covers all lines before it. SHA-256 of the whole header is the associated
data of every segment. So no segment can be moved to another object, no line of the header be changed unseen,
and it can be told whether the header is wrong or which segment.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

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
MAC_BYTES = 32
_HEADER = re.compile(
    rf"{re.escape(FORMAT)}\n"
    r"object (?P<object>\S{1,256})\n"
    r"patient (?P<patient>\S{1,256})\n"
    r"segment (?P<segment>[1-9][0-9]{0,7})\n"
    r"prefix (?P<prefix>[A-Za-z0-9+/]+={0,2})\n"
    r"suite (?P<suite>\S{1,64})\n"
    r"key (?P<key>\S{1,128})\n"
    r"data-key (?P<data_key>[A-Za-z0-9+/]+={0,2})\n"
    r"mac (?P<mac>[A-Za-z0-9+/]+={0,2})\n"
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

    mac: bytes = bytes(MAC_BYTES)

    def encode(self) -> bytes:
        """Return the header as it is stored.

        Raises:
            HeaderError: a value does not fit the form.
        """
        raw = self._before_mac() + b"mac " + b64encode(self.mac) + b"\n\n"
        parse_header(raw)
        return raw

    def open_segments(self, private_key: bytes) -> Segments:
        """Return what opens the segments.

        Raises:
            UnsealError, UnknownSuiteError: the data key does not open with this private key.
            HeaderError: the header was altered.
        """
        data_key = unseal(self.data_key, private_key=private_key, context=_context(self.object))
        content_key, mac_key = _derive(data_key)
        if not hmac.compare_digest(self.mac, _mac(mac_key, self._before_mac())):
            raise HeaderError("it was altered")
        return self._segments(content_key)

    def signed(self, mac_key: bytes) -> ObjectHeader:
        """Return the header with its MAC."""
        return replace(self, mac=_mac(mac_key, self._before_mac()))

    def _segments(self, content_key: bytes) -> Segments:
        return Segments(
            data_key=content_key,
            prefix=self.prefix,
            context=hashlib.sha256(self.encode()).digest(),
            segment_bytes=self.segment_bytes,
        )

    def _before_mac(self) -> bytes:
        return (
            f"{FORMAT}\nobject {self.object}\npatient {self.patient}\nsegment {self.segment_bytes}\n"
            f"prefix {b64encode(self.prefix).decode()}\nsuite {self.data_key.suite}\n"
            f"key {self.data_key.key}\ndata-key {self.data_key.ciphertext}\n"
        ).encode()


def new_object(*, object: str, patient: str, public_key: bytes, key: str) -> tuple[ObjectHeader, Segments]:  # noqa: A002  # the catalogue's name
    """Return the header of a new object with a fresh data key, and what seals its segments."""
    data_key = secrets.token_bytes(DATA_KEY_BYTES)
    content_key, mac_key = _derive(data_key)
    sealed = seal(data_key, public_key=public_key, key=key, context=_context(object))
    header = ObjectHeader(
        object=object, patient=patient, prefix=secrets.token_bytes(PREFIX_BYTES), data_key=sealed
    ).signed(mac_key)
    return header, header._segments(content_key)  # noqa: SLF001  # one module


def parse_header(raw: bytes) -> ObjectHeader:
    """Parse a whole header; raises HeaderError."""
    try:
        match = _HEADER.fullmatch(raw.decode("ascii"))
        if match is None or len(raw) > HEADER_BYTES_MAX:
            raise HeaderError("its lines are not as the format says")
        prefix = b64decode(match["prefix"], validate=True)
        mac = b64decode(match["mac"], validate=True)
    except (UnicodeDecodeError, Base64Error) as error:
        raise HeaderError(type(error).__name__) from None
    segment_bytes = int(match["segment"])
    if len(prefix) != PREFIX_BYTES or len(mac) != MAC_BYTES:
        raise HeaderError("its prefix or MAC has another length")
    if not SEGMENT_BYTES_MIN <= segment_bytes <= SEGMENT_BYTES_MAX:
        raise HeaderError("its segment size is out of range")
    header = ObjectHeader(
        object=match["object"],
        patient=match["patient"],
        prefix=prefix,
        data_key=SealedValue(suite=match["suite"], key=match["key"], ciphertext=match["data_key"]),
        segment_bytes=segment_bytes,
        mac=mac,
    )
    if header._before_mac() + b"mac " + b64encode(mac) + b"\n\n" != raw:  # noqa: SLF001  # one module
        raise HeaderError("its base64 is not canonical")
    return header


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


def _derive(data_key: bytes) -> tuple[bytes, bytes]:
    keys = HKDFExpand(SHA256(), DATA_KEY_BYTES + MAC_BYTES, info=FORMAT.encode()).derive(data_key)
    return keys[:DATA_KEY_BYTES], keys[DATA_KEY_BYTES:]


def _mac(mac_key: bytes, content: bytes) -> bytes:
    return hmac.digest(mac_key, content, "sha256")


def _context(object: str) -> str:  # noqa: A002  # the catalogue's name
    return f"{FORMAT} {object}"
