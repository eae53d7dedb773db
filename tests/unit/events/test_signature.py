"""One signature over a batch: every value is provably in it, and nothing else is."""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.events.samples import MEMBER, NOON, RING

from salus.events.did import LocalSigner
from salus.events.errors import Reason, RejectedError
from salus.events.judging import verify_signature
from salus.events.signature import parse_signature, sign_values
from salus.ledger.merkle import leaf_hash, levels_of, path_in
from salus.ledger.signature_header import BATCH_SIZE_MAX, HEADER_BYTES_MAX, path_length

VALUES = st.lists(st.binary(max_size=20), min_size=1, max_size=70)
SIXTY_FOUR_BYTES = "A" * 86 + "=="
ONE_HASH = "A" * 43 + "="


def refused(header: bytes | None, value: bytes) -> Reason | None:
    try:
        verify_signature(header, digest=leaf_hash(value), ring=RING, at=NOON)
    except RejectedError as error:
        return error.reason
    return None


@given(VALUES)
def test_every_value_of_a_batch_verifies_by_itself(values: list[bytes]) -> None:
    headers = sign_values(values, MEMBER)

    assert [refused(h, v) for h, v in zip(headers, values, strict=True)] == [None] * len(values)


def test_the_largest_batch_verifies_and_its_headers_fit() -> None:
    longest = LocalSigner.from_seed(b"memb" * 8, "did:web:" + "a" * 120 + "#" + "k" * 127)
    values = [b"%d" % i for i in range(BATCH_SIZE_MAX)]

    assert refused(sign_values(values, MEMBER)[1023], values[1023]) is None
    assert max(map(len, sign_values(values, longest))) <= HEADER_BYTES_MAX
    assert parse_signature(sign_values(values, longest)[1023]).index == 1023


@pytest.mark.parametrize("size", [0, BATCH_SIZE_MAX + 1])
def test_no_batch_is_empty_or_too_large(size: int) -> None:
    with pytest.raises(ValueError, match="1 to 1024"):
        sign_values([b""] * size, MEMBER)


@given(VALUES, st.data())
def test_a_flipped_bit_of_a_value_is_a_bad_signature(values: list[bytes], drawn: st.DataObject) -> None:
    index = drawn.draw(st.integers(0, len(values) - 1))
    value = bytearray(values[index] or b"\0")
    bit = drawn.draw(st.integers(0, len(value) * 8 - 1))
    header = sign_values([*values[:index], bytes(value), *values[index + 1 :]], MEMBER)[index]
    value[bit // 8] ^= 1 << bit % 8

    assert refused(header, bytes(value)) is Reason.BAD_SIGNATURE


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=70, unique=True), st.data())
def test_a_flipped_bit_of_a_header_is_refused(values: list[bytes], drawn: st.DataObject) -> None:
    index = drawn.draw(st.integers(0, len(values) - 1))
    header = bytearray(sign_values(values, MEMBER)[index])
    bit = drawn.draw(st.integers(0, len(header) * 8 - 1))
    header[bit // 8] ^= 1 << bit % 8

    assert refused(bytes(header), values[index]) in {
        Reason.MALFORMED_SIGNATURE,
        Reason.UNKNOWN_KEY,
        Reason.BAD_SIGNATURE,
    }


@given(VALUES, st.data())
def test_a_header_is_of_its_own_value_only(values: list[bytes], drawn: st.DataObject) -> None:
    headers = sign_values(values, MEMBER)
    mine, other = (drawn.draw(st.integers(0, len(values) - 1)) for _ in range(2))

    assert (refused(headers[mine], values[other]) is None) == (
        mine == other or (values[mine] == values[other] and refused(headers[mine], values[other]) is None)
    )


@given(st.integers(1, BATCH_SIZE_MAX), st.data())
def test_a_path_is_as_long_as_its_index_and_size_say(size: int, drawn: st.DataObject) -> None:
    index = drawn.draw(st.integers(0, size - 1))
    levels = levels_of([bytes(32)] * size)

    assert path_length(index=index, size=size) == len(path_in(levels, index))


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"v2 did:key:z#z 0/1 {SIXTY_FOUR_BYTES}",
        f"v1 did:key:z 0/1 {SIXTY_FOUR_BYTES}",
        f"v1 did:key:z#z 00/1 {SIXTY_FOUR_BYTES}",
        f"v1 did:key:z#z 1/1 {SIXTY_FOUR_BYTES}",
        f"v1 did:key:z#z 0/0 {SIXTY_FOUR_BYTES}",
        f"v1 did:key:z#z 0/1025 {SIXTY_FOUR_BYTES} {b64encode(bytes(11 * 32)).decode()}",
        f"v1 did:key:z#z 0/1 {SIXTY_FOUR_BYTES} {ONE_HASH}",
        f"v1 did:key:z#z 0/2 {SIXTY_FOUR_BYTES}",
        f"v1 did:key:z#z 0/2 {SIXTY_FOUR_BYTES} AAAA",
        f"v1 did:key:z#z 0/2 {SIXTY_FOUR_BYTES} {'A' * 42}B=",
        f"v1 did:key:z#z 0/2 {SIXTY_FOUR_BYTES} A{ONE_HASH}",
        f"v1 did:key:z#z 0/1 {'A' * 85}B==",
        f"v1 did:key:z#z 0/1 {SIXTY_FOUR_BYTES}\n",
        f"v1 did:key:z#z 0/1 {SIXTY_FOUR_BYTES} ",
        f"v1  did:key:z#z 0/1 {SIXTY_FOUR_BYTES}",
        f"v1 did:key:z#{'z' * 1000} 0/1 {SIXTY_FOUR_BYTES}",
    ],
)
def test_a_header_that_is_not_as_the_grammar_says_is_malformed(header: str) -> None:
    assert refused(header.encode(), b"") is Reason.MALFORMED_SIGNATURE


@given(st.binary(max_size=200) | st.text("v1 did:key#z0123/=AB\n", max_size=120).map(str.encode))
def test_arbitrary_headers_are_refused_and_nothing_else_happens(header: bytes) -> None:
    assert refused(header, b"") in {Reason.MALFORMED_SIGNATURE, Reason.UNKNOWN_KEY}


def test_a_missing_header_is_missing() -> None:
    assert refused(None, b"") is Reason.MISSING_SIGNATURE


def test_the_worked_example_of_the_integrators_page() -> None:
    """The page shows these bytes; whoever changes the format changes the page."""
    signer = LocalSigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    headers = [h.decode() for h in sign_values([b'{"a":1}', b'{"b":2}', b'{"c":3}'], signer)]
    page = (Path(__file__).parents[3] / "docs" / "integrators.md").read_text()

    assert [re.sub(r"\s+", " ", h) in re.sub(r"\s+", " ", page) for h in headers] == [True] * 3


def test_the_integrators_page_lists_the_reasons_in_their_order() -> None:
    page = (Path(__file__).parents[3] / "docs" / "integrators.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", page, re.MULTILINE)

    assert [row for row in rows if row[0] in set(Reason)] == [(r.value, r.meaning) for r in Reason]
