r"""The kinds of fields that events are made of, each with its bounds.

Patterns are read by several engines, so they keep to what RE2 (Go, Rust, C++) and ECMA 262 have in common:
no look-around, no back reference, no class of letters beyond ASCII. They end the text differently: in a
schema with `$`, as ECMA 262 has it; here with `\Z`, for Python's `$` would let a final newline pass.
`portable` makes the one of the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import inspect

from salus.ledger import json_reader

INTEGER_MAX = json_reader.INTEGER_MAX

# CloudEvents 1.0 type system: a string holds no control characters (U+0000-001F, U+007F-009F).
PLAIN_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]*$"
# What is blank or has no width, in the words of Unicode: nobody sees a name that is made of these.
_BLANKS = "\u00ad\u1680\u2000-\u200f\u202f\u205f-\u2064\u3000\ufeff"
# Text that says something: it does not begin with a blank, so it is not made of blanks alone.
TEXT_PATTERN = rf"^[^\x00-\x20\x7f-\xa0{_BLANKS}][^\x00-\x1f\x7f-\x9f]*$"
BASE64_PATTERN = r"^[A-Za-z0-9+/]+={0,2}$"
# To be used with `fullmatch` only, as they have the `$` of a schema.
_CHECKED = {pattern: re.compile(pattern) for pattern in (PLAIN_PATTERN, TEXT_PATTERN)}
# How a text begins in UTF-8 that may begin with one of _BLANKS; with c2, it is looked at anyway.
_BLANK_BEGINNINGS = (b'"\xe1', b'"\xe2', b'"\xe3', b'"\xef')
_OTHER_ESCAPE = re.compile(rb'\\(?!")')
_BASE64_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_DID = r"did:[a-z0-9]+:[A-Za-z0-9._:%-]+"
_ROLE = r"[a-z][a-z-]*"
# A UUID in the one form of RFC 9562, so that two who write the same pseudonym write the same text.
_PSEUDONYM = r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

# A media type of RFC 6838, without parameters but a charset: others could be any words, for all to read.
_MEDIA_TYPE = (
    r"(a(pplication|udio)|font|image|m(essage|odel|ultipart)|text|video)/[A-Za-z0-9][A-Za-z0-9!#&^_.+-]{0,126}"
    r"( ?; ?charset=([Uu]([Tt][Ff]-(8|16)|[Ss]-[Aa][Ss][Cc][Ii][Ii])|[Ii][Ss][Oo]-8859-[0-9]{1,2}|latin1"
    r"|windows-125[0-9]))?"
)

# Patterns that most values pass are checked faster than by a regular expression: `unplain_fields` looks at
# a value only if `may_be_unplain` says so; `Sealed` checks its own base64.
_PLAIN_SCHEMA = {"pattern": PLAIN_PATTERN}
_TEXT_SCHEMA = {"pattern": TEXT_PATTERN}

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=256, extra_json_schema=_TEXT_SCHEMA)]
Detail = Annotated[str, msgspec.Meta(max_length=256, extra_json_schema=_PLAIN_SCHEMA)]
Did = Annotated[str, msgspec.Meta(pattern=rf"^{_DID}\Z", max_length=256)]
KeyId = Annotated[str, msgspec.Meta(pattern=rf"^{_DID}#[A-Za-z0-9._:%-]+\Z", max_length=256)]
Pseudonym = Annotated[str, msgspec.Meta(pattern=rf"^{_PSEUDONYM}\Z", max_length=45)]
MediaType = Annotated[str, msgspec.Meta(pattern=rf"^{_MEDIA_TYPE}\Z", max_length=256)]
Nonce = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z", max_length=32)]
RoleName = Annotated[str, msgspec.Meta(pattern=rf"^{_ROLE}\Z", max_length=64)]
ServiceName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9]{0,30}\Z", max_length=31)]
TypeName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9.-]+\Z", max_length=160)]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z", max_length=64)]
# As long as the largest key that may come (ML-DSA-87, 2,592 bytes) is in base58; today's are 48 characters.
Multibase = Annotated[str, msgspec.Meta(pattern=r"^z[1-9A-HJ-NP-Za-km-z]+\Z", max_length=4096)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Count = Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]
Purpose = Literal["TREAT", "ETREAT", "HPAYMT", "HOPERAT", "HRESCH", "PATRQT", "PUBHLTH"]
"""HL7 v3 PurposeOfUse codes."""


_END = r"\Z"


def portable(pattern: str) -> str:
    """Return a pattern as a schema has it, for other engines than Python's."""
    return f"{pattern.removesuffix(_END)}$" if pattern.endswith(_END) else pattern


Suite = Literal["HPKE-Base-X-Wing-HKDF-SHA256-AES-256-GCM"]
"""The ways to seal that the network knows; `salus.crypto.sealing` is the one that does it."""

# The suite's encapsulation (1,120 bytes) and tag (16), in base64: what sealing nothing takes.
SEALED_CHARS_MIN = 1516
SubjectKeyId = Annotated[str, msgspec.Meta(pattern=rf"^{_PSEUDONYM}#[0-9a-f]{{1,64}}\Z", max_length=110)]


class Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value that only the owner of the subject's key opens: HPKE (RFC 9180) to the subject's public key.

    Integrators seal with `salus.crypto.sealing.seal`; destroying the key makes it unreadable everywhere.
    Whoever judges an event judges that: the suite, that `key` is one of the event's subject, and that
    `ciphertext` is as long as the suite makes it.
    """

    suite: Suite
    key: SubjectKeyId
    ciphertext: Annotated[
        str,
        msgspec.Meta(
            min_length=SEALED_CHARS_MIN, max_length=400_000, extra_json_schema={"pattern": BASE64_PATTERN}
        ),
    ]

    def __post_init__(self) -> None:
        """Raise ValueError unless the ciphertext is base64, as BASE64_PATTERN says."""
        others = self.ciphertext.encode("utf-8", "replace").translate(None, _BASE64_ALPHABET)
        if others and (
            others not in {b"=", b"=="}
            or not self.ciphertext.endswith(others.decode("ascii"))
            or len(self.ciphertext) == len(others)
        ):
            raise ValueError("ciphertext is not base64")


def may_be_unplain(value: bytes) -> bool:
    """Say whether a JSON text could hold a control character or a text that begins with a blank.

    That takes four searches for bytes. In JSON, control characters below U+0020 are written with a backslash;
    the others are 7f, and c2 80 to c2 9f. A backslash before a quotation mark, as in a request's body that is
    JSON, writes none.
    """
    # `find` searches twice as fast as `in` does, and for one byte many times as fast as for two.
    return (
        _OTHER_ESCAPE.search(value) is not None
        or (value.find(b" ") >= 0 and value.find(b'" ') >= 0)
        or value.find(b"\x7f") >= 0
        or (
            not value.isascii()
            and (value.find(b"\xc2") >= 0 or any(value.find(some) >= 0 for some in _BLANK_BEGINNINGS))
        )
    )


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(time: datetime) -> int:
    """Return an event's time as a body states it, in whole microseconds since 1970 UTC."""
    since = time - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


# Reading the annotations of a class takes half a millisecond, and they do not change.
_type_info = lru_cache(maxsize=1024)(inspect.type_info)


def unplain_fields(decoded: Any, kind: Any) -> Iterator[str]:
    """Yield the path of every text that its schema's PLAIN_PATTERN or TEXT_PATTERN does not match."""
    yield from _unplain(decoded, _type_info(kind), "$")


def field_names(kind: Any) -> frozenset[str]:
    """Return the names of all fields of a class and of what is in them."""
    return frozenset(_names(_type_info(kind)))


def _unplain(decoded: Any, info: inspect.Type, path: str) -> Iterator[str]:
    match info:
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            checked = _CHECKED.get((extra or {}).get("pattern", ""))
            if checked is not None and isinstance(decoded, str):
                if checked.fullmatch(decoded) is None:
                    yield path
            else:
                yield from _unplain(decoded, inner, path)
        case inspect.StructType(cls=cls, fields=fields) if isinstance(decoded, cls):
            for field in fields:
                yield from _unplain(getattr(decoded, field.name), field.type, f"{path}.{field.name}")
        case inspect.VarTupleType(item_type=item) if isinstance(decoded, tuple):
            for index, part in enumerate(decoded):
                yield from _unplain(part, item, f"{path}[{index}]")
        case inspect.UnionType(types=types):
            for kind in types:
                yield from _unplain(decoded, kind, path)
        case _:
            pass


def _names(info: inspect.Type) -> Iterator[str]:
    match info:
        case inspect.Metadata(type=inner) | inspect.VarTupleType(item_type=inner):
            yield from _names(inner)
        case inspect.StructType(fields=fields):
            for field in fields:
                yield field.encode_name
                yield from _names(field.type)
        case inspect.UnionType(types=types):
            for kind in types:
                yield from _names(kind)
        case _:
            pass
