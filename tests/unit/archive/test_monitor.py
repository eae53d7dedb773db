"""What a monitor notices: a log that shows two histories is caught as soon as both were looked at."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from salus.archive.errors import MissingError
from salus.archive.monitor import HistoryError, SeenError, compare
from salus.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.errors import NoteError
from salus.ledger.merkle import leaf_hash, root_of
from salus.ledger.note import NoteSigner, add_signatures
from salus.ledger.policy import Policy
from salus.ledger.quorum import Quorum
from salus.ledger.tiles import new_tiles

SIGNER = NoteSigner("salus.test/log", Ed25519PrivateKey.from_private_bytes(bytes(32)))
STRANGER = NoteSigner("salus.test/log", Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
POLICY = Policy((SIGNER.verifier,), {})
SIZE_MAX = 600


class ServedLog:
    """A log as it is served at one size: the partial tiles that full ones replaced are gone."""

    def __init__(self, size: int, *, name: str = "true", fork: int = 0) -> None:
        entries = [f"{'shared' if n < fork else name} {n}".encode() for n in range(size)]
        self.objects = new_tiles(0, entries, lambda *_: b"")
        root = root_of(list(map(leaf_hash, entries)))
        self.note = sign_checkpoint(Checkpoint(SIGNER.name, size, root), (SIGNER,))

    async def fetch(self, path: str) -> bytes:
        if path not in self.objects:
            raise MissingError(path, "missing")
        return self.objects[path]


SIZES = st.integers(0, SIZE_MAX) | st.sampled_from([1, 255, 256, 257, 512])


@given(old=SIZES, new=SIZES)
def test_a_log_that_grows_is_followed_and_an_old_view_of_it_is_no_alarm(old: int, new: int) -> None:
    seen, shown = ServedLog(old), ServedLog(new)
    larger = max(seen, shown, key=lambda log: int(log.note.split(b"\n")[1]))

    kept = asyncio.run(compare(seen.note, shown.note, policy=POLICY, fetch=larger.fetch))

    assert kept == larger.note


@given(sizes=st.tuples(SIZES, SIZES), fork=st.integers(0, SIZE_MAX))
def test_two_histories_are_proven_by_their_two_signed_checkpoints(sizes: tuple[int, int], fork: int) -> None:
    small, large = sorted(sizes)
    fork = min(fork, small - 1)
    if fork < 0:
        return
    seen, shown = ServedLog(small, fork=fork), ServedLog(large, name="other", fork=fork)
    for one, two in ((seen, shown), (shown, seen)):
        with pytest.raises(HistoryError) as caught:
            asyncio.run(compare(one.note, two.note, policy=POLICY, fetch=shown.fetch))

        assert (caught.value.seen, caught.value.shown, caught.value.proven) == (one.note, two.note, True)


async def test_two_logs_of_one_policy_are_no_two_histories() -> None:
    """Whoever looked at the second log with the state file of the first had proof against an honest log."""
    other = NoteSigner("salus.test/other-log", Ed25519PrivateKey.from_private_bytes(b"\x02" * 32))
    policy = Policy((SIGNER.verifier, other.verifier), {})
    seen = ServedLog(3)

    for size in (2, 3, 4):
        shown = ServedLog(size, name="other")
        checkpoint = replace(open_checkpoint(shown.note, SIGNER.verifier)[0], origin=other.name)
        with pytest.raises(SeenError, match=r"of salus\.test/log, and salus\.test/other-log is looked at"):
            await compare(seen.note, sign_checkpoint(checkpoint, (other,)), policy=policy, fetch=shown.fetch)


async def test_a_log_that_hides_its_tiles_is_told_apart_from_one_that_lies() -> None:
    seen, shown = ServedLog(30), ServedLog(40)
    shown.objects.pop("tile/0/000.p/40")

    with pytest.raises(HistoryError) as caught:
        await compare(seen.note, shown.note, policy=POLICY, fetch=shown.fetch)

    assert not caught.value.proven
    assert "tile/0/000" in str(caught.value)


async def test_tiles_of_another_tree_than_the_one_signed_prove_nothing_against_the_log() -> None:
    seen, shown = ServedLog(3), ServedLog(5)

    with pytest.raises(HistoryError) as caught:
        await compare(seen.note, shown.note, policy=POLICY, fetch=ServedLog(5, name="other").fetch)

    assert not caught.value.proven


# case F2, sibling: whoever can change one tile had a monitor say that an honest log shows two histories.
@given(sizes=st.tuples(SIZES, SIZES), data=st.data())
def test_a_wrong_tile_proves_nothing_against_a_log_that_kept_its_word(
    sizes: tuple[int, int], data: st.DataObject
) -> None:
    small, large = sorted(sizes)
    seen, shown = ServedLog(small), ServedLog(large)
    for path, tile in shown.objects.items():
        if not path.startswith("tile/entries"):
            place = data.draw(st.integers(0, len(tile) - 1))
            changed = bytes([*tile[:place], tile[place] ^ 1, *tile[place + 1 :]])
            shown.objects[path] = data.draw(st.sampled_from([tile, changed]))

    try:
        asyncio.run(compare(seen.note, shown.note, policy=POLICY, fetch=shown.fetch))
    except HistoryError as error:
        proven = error.proven
    else:
        proven = False
    assert not proven


async def test_a_wrong_tile_within_the_tree_proves_nothing() -> None:
    for small, large, path in ((300, 600, "tile/0/001"), (255, 600, "tile/0/000"), (3, 300, "tile/0/000")):
        seen, shown = ServedLog(small), ServedLog(large)
        shown.objects[path] = bytes(len(shown.objects[path]))

        with pytest.raises(HistoryError) as caught:
            await compare(seen.note, shown.note, policy=POLICY, fetch=shown.fetch)
        assert not caught.value.proven


async def test_of_equal_checkpoints_the_one_that_more_witnesses_cosigned_is_kept() -> None:
    witness = CosignatureSigner("witness.test", Ed25519PrivateKey.from_private_bytes(b"\x02" * 32))
    policy = Policy((SIGNER.verifier,), {}, Quorum.of(1, [witness.verifier]))
    log = ServedLog(3)
    cosignature = witness.cosign(policy.open_checkpoint(log.note).checkpoint, seconds=1)
    more = add_signatures(log.note, [cosignature])

    assert await compare(log.note, more, policy=policy, fetch=log.fetch) == more
    assert await compare(more, log.note, policy=policy, fetch=log.fetch) == more


async def test_the_first_checkpoint_is_taken_on_its_signature_alone() -> None:
    log = ServedLog(3)

    assert await compare(None, log.note, policy=POLICY, fetch=log.fetch) == log.note


async def test_what_the_log_did_not_sign_is_no_evidence() -> None:
    log = ServedLog(3)
    forged = sign_checkpoint(Checkpoint(SIGNER.name, 3, bytes(32)), (STRANGER,))

    with pytest.raises(NoteError):
        await compare(log.note, forged, policy=POLICY, fetch=log.fetch)
