"""Hashing many messages at once gives hashlib's digests, with the compiled library and without it."""

import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.ledger import hashing
from salus.ledger.hashing import (
    APART_BYTES_MIN,
    MESSAGES_MIN,
    hash_each,
    hash_pieces,
    load,
    split,
)
from salus.ledger.merkle import EMPTY_ROOT, leaf_hash, levels_of, node_hash, root_of, root_of_joined

NATIVE = Path(__file__).parents[3] / "libs/ledger/native"
MESSAGES = st.lists(st.binary(max_size=300), max_size=80)
NEITHER = "no C compiler, or a processor on which hashlib is as good"
PREFIXES = st.sampled_from([b"", b"\x00", b"p" * 55, b"p" * 64, b"p" * 130])


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """The library as it works on a processor without AVX-512; this one may have it."""
    compiler = shutil.which("cc")
    if compiler is None or hashing.lanes() == 1:
        pytest.skip(NEITHER)
    library = tmp_path_factory.mktemp("eight") / "eight.native"
    source = NATIVE / "sha256_lanes.c"
    subprocess.run([compiler, "-O1", "-DLANES_MAX=8", "-shared", "-fPIC", "-o", library, source], check=True)
    loaded = load(str(library))
    assert loaded is not None
    assert loaded.lanes == 8
    return loaded


@pytest.fixture(params=["compiled", "eight lanes", "hashlib"], autouse=True)
def way(request, monkeypatch):
    if request.param == "hashlib":
        monkeypatch.setattr(hashing, "_library", None)
    elif request.param == "eight lanes":
        monkeypatch.setattr(hashing, "_library", request.getfixturevalue("eight"))
    elif hashing.lanes() == 1:
        pytest.skip(NEITHER)


@given(PREFIXES, MESSAGES)
def test_many_messages_have_the_digests_that_each_has_alone(prefix, messages):
    assert hash_each(prefix, messages) == [sha256(prefix + message).digest() for message in messages]


@pytest.mark.parametrize("size", [0, 1, 54, 55, 56, 62, 63, 64, 65, 118, 119, 120, 127, 128, 129, 100_000])
def test_every_length_around_a_block_boundary_is_padded_as_the_standard_says(size):
    messages = [bytes([n]) * (size + n % 3) for n in range(MESSAGES_MIN + 3)]

    assert hash_each(b"\x00", messages) == [sha256(b"\x00" + message).digest() for message in messages]


@pytest.mark.parametrize("prefix", [b"", b"p", b"p" * 63, b"p" * 64, b"p" * 65, b"p" * 300])
@pytest.mark.parametrize("count", [MESSAGES_MIN, MESSAGES_MIN + 1, 2 * MESSAGES_MIN - 1, 100])
def test_messages_of_every_kind_side_by_side_have_the_digests_that_each_has_alone(prefix, count):
    messages = [bytes([n]) * (n * 37 % 301) for n in range(count)]

    assert hash_each(prefix, messages) == [sha256(prefix + message).digest() for message in messages]


@pytest.mark.parametrize("count", [MESSAGES_MIN, 50])
@pytest.mark.parametrize("size", [0, 1000, APART_BYTES_MIN - 2, APART_BYTES_MIN])
def test_messages_joined_or_too_long_for_it_have_the_digests_that_each_has_alone(size, count):
    messages = [b"%d" % n + b"x" * (size + n % 3) for n in range(count)]

    assert hash_each(b"\x00", messages) == [sha256(b"\x00" + message).digest() for message in messages]


def test_messages_of_which_few_are_very_long_have_the_digests_that_each_has_alone():
    messages = [b"%d" % n + b"x" * (20 * APART_BYTES_MIN if n % 10 == 0 else 0) for n in range(100)]

    assert hash_each(b"", messages) == [sha256(message).digest() for message in messages]


def test_one_long_message_among_short_ones_disturbs_none_of_them():
    messages = [b"short"] * 50 + [b"l" * 70_000] + [b""] * 50

    assert hash_each(b"", messages) == [sha256(message).digest() for message in messages]


@pytest.mark.parametrize("count", [0, 1, MESSAGES_MIN - 1, MESSAGES_MIN, 100])
def test_pieces_are_hashed_each_by_itself(count):
    data = bytes(range(64)) * count

    assert hash_pieces(b"\x01", data, 64) == sha256(b"\x01" + bytes(range(64))).digest() * count


@given(st.integers(min_value=0, max_value=200))
def test_a_tree_has_the_nodes_that_hashing_pair_by_pair_gives(count):
    leaves = [leaf_hash(bytes([n])) for n in range(count)]
    expected = [leaves]
    while len(expected[-1]) > 1:
        level = expected[-1]
        pairs = [node_hash(a, b) for a, b in zip(level[::2], level[1::2], strict=False)]
        expected.append(pairs + level[2 * len(pairs) :])

    assert levels_of(leaves) == expected
    assert root_of(leaves) == (expected[-1][0] if leaves else EMPTY_ROOT)


@given(st.lists(st.binary(min_size=30, max_size=34), min_size=1, max_size=40))
def test_leaves_of_any_length_have_the_root_that_hashing_pair_by_pair_gives(leaves):
    """Malformed ones come out of damaged archives; they must neither hang nor pass for others."""
    level = leaves
    while len(level) > 1:
        pairs = [node_hash(a, b) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[2 * len(pairs) :]

    assert root_of(leaves) == level[0]


def test_joined_leaves_that_are_no_whole_number_of_hashes_are_refused():
    with pytest.raises(ValueError, match="whole number"):
        root_of_joined(b"x" * 33)


def test_a_library_that_is_missing_is_done_without(tmp_path):
    assert load(str(tmp_path / "none.so")) is None


def test_a_file_that_is_no_library_is_done_without(tmp_path):
    file = tmp_path / "text.so"
    file.write_text("not a library")

    assert load(str(file)) is None


def test_a_library_whose_digests_are_wrong_is_not_used(monkeypatch):
    """Whatever the processor: it is asked to hash what is known before it hashes anything else."""
    if not Path(hashing.LIBRARY).exists():
        pytest.skip("nothing was compiled")
    assert load() is not None
    monkeypatch.setattr(hashing, "sha256", lambda data: sha256(data + b"another function"))

    assert load() is None


def test_a_library_of_another_version_is_not_called(tmp_path):
    """Called with other arguments than its own it would read and write wherever these happen to point."""
    compiler = shutil.which("cc")
    if compiler is None or load() is None:
        pytest.skip(NEITHER)
    source = NATIVE / "sha256_lanes.c"
    for function in hashing.FUNCTIONS:
        stale = tmp_path / f"{function}.native"
        name = f"-D{function}=salus_of_another_version"
        subprocess.run([compiler, "-shared", "-fPIC", name, "-o", stale, source], check=True)
        assert stale.exists()
        assert load(str(stale)) is None


def test_joined_digests_are_split_into_what_they_were():
    digests = [sha256(bytes([n])).digest() for n in range(5)]

    assert split(b"".join(digests)) == digests
