"""Ed25519 keys and signatures on which verifiers are known to differ, and the verdict of the rule."""

from __future__ import annotations

import json
from hashlib import sha512
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.ledger import ed25519

_WYCHEPROOF = Path(__file__).parents[2] / "data" / "crypto" / "ed25519_test.json"
PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, PRIME) % PRIME

SMALL_ORDER = [
    bytes.fromhex(point)
    for point in (
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
]
"""The eight points of small order in all their encodings ("Taming the many EdDSAs", 2020, table 5)."""
NOT_CANONICAL = [(PRIME + y).to_bytes(32, "little") for y in range(19)]
OFF_THE_CURVE = [(2).to_bytes(32, "little"), (7).to_bytes(32, "little")]
NO_KEYS = [*SMALL_ORDER, *NOT_CANONICAL, *OFF_THE_CURVE]

Point = tuple[int, int]


def add(one: Point, other: Point) -> Point:
    (x1, y1), (x2, y2) = one, other
    turn = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + turn, -1, PRIME) % PRIME
    return x, (y1 * y2 + x1 * x2) * pow(1 - turn, -1, PRIME) % PRIME


def times(number: int, point: Point) -> Point:
    product = (0, 1)
    while number:
        if number & 1:
            product = add(product, point)
        number, point = number >> 1, add(point, point)
    return product


def encoded(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def decoded(raw: bytes) -> Point:
    y, sign = int.from_bytes(raw, "little") & 2**255 - 1, raw[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if x * x % PRIME != square:
        x = x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    return (x if x & 1 == sign else PRIME - x), y


BASE = decoded(bytes.fromhex("58" + "66" * 31))


def challenge(r: bytes, key: bytes, text: bytes) -> int:
    return int.from_bytes(sha512(r + key + text).digest(), "little") % ORDER


def mixed_order() -> list[tuple[bytes, bytes, bytes]]:
    """Return key, signature and text under a key of mixed order; with a cofactor all of them are valid."""
    secret = 0x1234567890ABCDEF
    key = encoded(add(times(secret, BASE), decoded(SMALL_ORDER[4])))
    half, made = encoded(times(99, BASE)), []
    for number in range(32):
        text = b"%d" % number
        scalar = (99 + challenge(half, key, text) * secret) % ORDER
        made.append((key, half + scalar.to_bytes(32, "little"), text))
    return made


def of_small_half() -> tuple[bytes, bytes, bytes]:
    """Return a signature by a good key whose R is the neutral element: OpenSSL takes it."""
    key, text = encoded(times(7, BASE)), b"text"
    scalar = challenge(SMALL_ORDER[0], key, text) * 7 % ORDER
    return key, SMALL_ORDER[0] + scalar.to_bytes(32, "little"), text


def wycheproof() -> list[tuple[bytes, bytes, bytes]]:
    groups = json.loads(_WYCHEPROOF.read_bytes())["testGroups"]
    return [
        (bytes.fromhex(group["publicKey"]["pk"]), bytes.fromhex(test["sig"]), bytes.fromhex(test["msg"]))
        for group in groups
        for test in group["tests"]
    ]


def honest() -> list[tuple[bytes, bytes, bytes]]:
    """Return a good signature, and the same with S + L, which says the same in another form."""
    private = Ed25519PrivateKey.from_private_bytes(b"seed" * 8)
    key, signature = private.public_key().public_bytes_raw(), private.sign(b"text")
    other = int.from_bytes(signature[32:], "little") + ORDER
    return [(key, signature, b"text"), (key, signature[:32] + other.to_bytes(32, "little"), b"text")]


def verdict(key: bytes, signature: bytes, text: bytes) -> bool:
    try:
        ed25519.verify(ed25519.public_key_of(key), signature, text)
    except (ValueError, InvalidSignature):
        return False
    return True
