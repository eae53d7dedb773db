"""Values are told apart by what was signed, by the compiled library exactly as by Python."""

from __future__ import annotations

from array import array
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.events.did import LocalSigner
from salus.events.signature import sign_values, signed_text
from salus.ledger import signed_batches
from salus.ledger.merkle import leaf_hash, levels_of
from salus.ledger.records import Cells, cells_of
from salus.ledger.signed_batches import MALFORMED, batch_key, batch_of, batches_of, load

ALICE, BOB = (LocalSigner.from_seed(seed * 32) for seed in (b"a", b"b"))
BATCHES = st.lists(st.lists(st.binary(max_size=8), min_size=1, max_size=40), max_size=6)
LEAF = leaf_hash(b"value")
SIXTY_FOUR_BYTES = b64encode(bytes(64)).decode()
# One byte of a header is changed, left out or doubled: what is then accepted must be accepted by both.
EDITS = st.tuples(st.integers(0, 2000), st.sampled_from(["change", "drop", "double"]), st.integers(0, 255))


@pytest.fixture(params=["compiled", "python"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "python":
        monkeypatch.setattr(signed_batches, "_many", None)
    elif signed_batches._many is None:
        pytest.skip("no C compiler, or a processor without vector lanes")


def signed(batches: list[list[bytes]], signer: LocalSigner = ALICE) -> tuple[list[bytes], list[bytes]]:
    headers = [header for values in batches for header in sign_values(values, signer)]
    return headers, [leaf_hash(value) for values in batches for value in values]


def keys_of(headers: Sequence[bytes | None], leaves: list[bytes]) -> list[bytes]:
    found = batches_of(cells_of(headers), b"".join(leaves))
    assert len(set(found.keys)) == len(found.keys)
    assert [n for n in dict.fromkeys(found.numbers) if n != MALFORMED] == [*range(len(found.keys))]
    return [b"" if number == MALFORMED else found.keys[number] for number in found.numbers]


def edited(header: bytes, edit: tuple[int, str, int]) -> bytes:
    at, kind, byte = edit[0] % len(header), edit[1], bytes([edit[2]])
    kept = {"change": byte, "drop": b"", "double": header[at : at + 1] * 2}[kind]
    return header[:at] + kept + header[at + 1 :]


@given(BATCHES)
def test_each_batch_has_one_key_that_says_what_was_signed(batches: list[list[bytes]]) -> None:
    keys = iter(keys_of(*signed(batches)))

    for values in batches:
        (key,) = {next(keys) for _ in values}
        root = levels_of([leaf_hash(value) for value in values])[-1][0]
        batch = batch_of(key)
        assert batch[:3] == (root, ALICE.verification_method, len(values))
        assert batch.signature == ALICE.sign(signed_text(size=len(values), root=root))


@pytest.mark.parametrize("size", [1, 2, 3, 63, 64, 65, 1023, 1024])
def test_every_path_of_a_batch_leads_to_its_root(size: int) -> None:
    values = [b"%d" % n for n in range(size)]

    assert len(set(keys_of(*signed([values])))) == 1


def test_the_same_values_signed_by_two_are_two_batches() -> None:
    mine, leaves = signed([[b"1", b"2"]])
    theirs, _ = signed([[b"1", b"2"]], BOB)

    assert len(set(keys_of(mine + theirs, leaves * 2))) == 2


@given(BATCHES, st.data())
def test_a_value_that_was_not_signed_is_in_no_batch_that_was(
    batches: list[list[bytes]], data: st.DataObject
) -> None:
    headers, leaves = signed([*batches, [b"one"]])
    right = set(keys_of(headers, leaves))
    leaves[data.draw(st.integers(0, len(leaves) - 1))] = leaf_hash(b"another, longer than any")

    assert len(set(keys_of(headers, leaves)) - right) == 1


@given(st.integers(1, 1024), EDITS, st.data())
def test_a_header_with_a_changed_byte_means_to_many_what_it_means_alone(
    size: int, edit: tuple[int, str, int], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, size - 1))
    plain = sign_values([b"%d" % n for n in range(size)], ALICE)[index]
    headers = [edited(plain, edit)] * 2 + [plain, edited(plain, edit), plain]

    assert keys_of(headers, [LEAF] * 5) == [batch_key(header, LEAF) for header in headers]


@pytest.mark.parametrize("index", [0, 2])
def test_every_byte_of_a_header_is_looked_at_whatever_came_before(index: int) -> None:
    plain = sign_values([b"1", b"2", b"3"], ALICE)[index]
    changed = [
        plain[:at] + byte + plain[at + 1 :] for at in range(len(plain)) for byte in (b"A", b" ", b"0", b"=")
    ]
    headers = [header for one in changed for header in (plain, one)]

    assert keys_of(headers, [LEAF] * len(headers)) == [batch_key(header, LEAF) for header in headers]


def test_any_number_of_batches_is_told_apart() -> None:
    headers, leaves = signed([[b"%d" % number] for number in range(100)])

    assert len(set(keys_of(headers * 2, leaves * 2))) == 100


@pytest.mark.parametrize("places", [[0, 3, 1], [0, 1, 4], [5, 5, 5]])
def test_headers_that_are_not_within_their_bytes_are_refused(places: list[int]) -> None:
    if signed_batches._many is not None:
        with pytest.raises(ValueError, match="astray"):
            batches_of(Cells(b"abc", array("Q", places)), LEAF * 2)


@pytest.mark.parametrize("cut", range(1, 450))
def test_a_header_that_ends_early_is_malformed_whatever_came_before(cut: int) -> None:
    plain = sign_values([b"1", b"2", b"3"], ALICE)[0]
    headers = [plain, plain[:-cut], plain]

    assert keys_of(headers, [LEAF] * 3) == [batch_key(header, LEAF) for header in headers]


@given(st.lists(st.binary(max_size=200) | st.text("v1 did:key#z0123/=AB\n", max_size=120).map(str.encode)))
def test_arbitrary_headers_mean_to_many_what_they_mean_alone(headers: list[bytes]) -> None:
    assert keys_of(headers, [LEAF] * len(headers)) == [batch_key(header, LEAF) for header in headers]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "v1 ",
        f"v2 did:key:z#z 0/1 {SIXTY_FOUR_BYTES}",
        f"v1 did:key:z 0/1 {SIXTY_FOUR_BYTES}",
        f"v1 did:key:z#z#z 0/1 {SIXTY_FOUR_BYTES}",
        f"v1 did::z#z 0/1 {SIXTY_FOUR_BYTES}",
        f"v1 did:KEY:z#z 0/1 {SIXTY_FOUR_BYTES}",
        f"v1 did:key:z/z#z 0/1 {SIXTY_FOUR_BYTES}",
        f"v1 did:key:z/z 0/1 {SIXTY_FOUR_BYTES}",
        f"v1 did:key:z#z 00/1 {SIXTY_FOUR_BYTES}",
        f"v1 did:key:z#z 0/01 {SIXTY_FOUR_BYTES}",
        f"v1 did:key:z#z 1/1 {SIXTY_FOUR_BYTES}",
        f"v1 did:key:z#z 0/0 {SIXTY_FOUR_BYTES}",
        f"v1 did:key:z#z 0/1025 {SIXTY_FOUR_BYTES} {b64encode(bytes(11 * 32)).decode()}",
        f"v1 did:key:z#z 0/2 {SIXTY_FOUR_BYTES}",
        f"v1 did:key:z#z 0/2 {SIXTY_FOUR_BYTES} ",
        f"v1 did:key:z#z 0/2 {SIXTY_FOUR_BYTES} AAAA",
        f"v1 did:key:z#z 0/2 {SIXTY_FOUR_BYTES} {'A' * 42}B=",
        f"v1 did:key:z#z 0/2 {SIXTY_FOUR_BYTES} {'A' * 44}",
        f"v1 did:key:z#z 0/2 {SIXTY_FOUR_BYTES} {'A' * 41}-A=",
        f"v1 did:key:z#z 0/1 {'A' * 85}B==",
        f"v1 did:key:z#z 0/1 {'A' * 86}=A",
        f"v1 did:key:z#z 0/1 {SIXTY_FOUR_BYTES} ",
        f"v1 did:key:z#{'z' * 1000} 0/1 {SIXTY_FOUR_BYTES}",
    ],
)
def test_a_malformed_header_has_no_key(header: str) -> None:
    assert keys_of([header.encode()], [LEAF]) == [b""]


def test_a_value_without_a_header_is_in_no_batch() -> None:
    headers, leaves = signed([[b"1", b"2"]])

    assert keys_of([None, *headers], [LEAF, *leaves])[0] == b""


@pytest.mark.parametrize("leaves", [b"", LEAF, LEAF * 3, LEAF * 2 + b"x"])
def test_headers_and_leaves_that_do_not_go_together_are_refused(leaves: bytes) -> None:
    with pytest.raises(ValueError, match="as many hashes"):
        batches_of(cells_of([b"", b""]), leaves)


def test_a_library_that_is_missing_is_done_without(tmp_path: Path) -> None:
    assert load(str(tmp_path / "none.native")) is None
