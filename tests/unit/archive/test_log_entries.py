"""What stands in the log in place of a header is found, whoever signed it or nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.unit.archive.small_ledger import EVENT_SIGNER, LOG_ORIGIN, LOG_SIGNER, SmallLedger
from tests.unit.archive.test_deep import REGISTERED, REVOKED, judged_trust

from salus.archive.building import sample_records
from salus.archive.fsck import fsck
from salus.archive.log import CHECKPOINT_KEY
from salus.ledger.checkpoint import Checkpoint, sign_checkpoint
from salus.ledger.merkle import leaf_hash, root_of
from salus.ledger.tiles import new_tiles


def log_of(ledger: SmallLedger, notes: list[bytes]) -> None:
    """Replace the log by one of these entries; everything in it agrees and is signed."""
    objects = new_tiles(0, notes, lambda *_: b"")
    root = root_of([leaf_hash(note) for note in notes])
    objects[CHECKPOINT_KEY] = sign_checkpoint(Checkpoint(LOG_ORIGIN, len(notes), root), (LOG_SIGNER,))
    ledger.log.objects = {key: (data, '"x"') for key, data in objects.items()}


def unsigned(note: bytes) -> bytes:
    """Return an entry with the first line of a header, and nothing else of it."""
    return note.partition(b"\n")[0] + b"\nnothing\n"


@pytest.mark.parametrize("entry", [unsigned, lambda _: b"nothing", lambda note: note + b"\n"])
@pytest.mark.parametrize("height", [0, 1, 2])
async def test_an_entry_that_is_not_the_archives_header_is_wrong(
    entry: Callable[[bytes], bytes], height: int
) -> None:
    ledger = SmallLedger()
    for _ in range(3):
        await ledger.chains[0].seal_samples(2)
    notes = list(ledger.chains[0].notes)
    notes[height] = entry(notes[height])
    log_of(ledger, notes)

    report = await fsck(ledger.stores, ledger.trust)

    assert "entry-wrong" in {f.code for f in report.errors}


async def test_no_entry_hides_a_revocation_from_the_deep_check() -> None:
    ledger = SmallLedger()
    ledger.trust = judged_trust()
    chain = ledger.chains[0]
    await chain.seal([REGISTERED])
    chain.identity_position = 1
    await chain.seal([REVOKED])
    chain.identity_position = 2
    (late,) = sample_records(1, signer=EVENT_SIGNER)
    await chain.seal([replace(late, timestamp_ms=REVOKED.timestamp_ms + 1)])
    log_of(ledger, [chain.notes[0], unsigned(chain.notes[1]), chain.notes[2]])

    report = await fsck(ledger.stores, ledger.trust, deep=True)

    assert {("verdict-wrong", 2), ("entry-wrong", 1)} <= {(f.code, f.height) for f in report.errors}
