"""Which keys were valid at a block is answered from the ledger alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.asking import UNASKED, truly_asked
from tests.unit.archive.small_ledger import EVENT_SIGNER, SmallLedger
from tests.unit.archive.test_deep import REGISTERED, REVOKED, ROOT, identity_record, judged_trust

from salus.archive.building import BEGIN, sample_records
from salus.archive.errors import ArchiveError, DamagedError
from salus.archive.keys_at_block import keys_at_block
from salus.archive.replay import ReplayError
from salus.events.contexts.identity import KeyRevoked
from salus.ledger.block import body_key, header_key, open_header

KEY, OWN = EVENT_SIGNER.verification_method, ROOT.verification_method
STOLEN = identity_record(
    1,
    truly_asked(
        KeyRevoked(EVENT_SIGNER.did, KEY, "compromised", BEGIN - timedelta(days=1), request=UNASKED),
        EVENT_SIGNER,
        at=BEGIN,
    ),
    after_ms=2,
)


async def ledger_with(revoked: Any) -> SmallLedger:
    """Block 0 registers a member, 1 and 3 hold events, and 2 revokes the member's key."""
    ledger = SmallLedger()
    ledger.trust = judged_trust()
    chain = ledger.chains[0]
    await chain.seal([REGISTERED])
    chain.identity_position = 1
    await chain.seal_samples(3)
    await chain.seal([revoked])
    chain.identity_position = 2
    late = sample_records(2, signer=EVENT_SIGNER, first=3)
    await chain.seal([replace(r, status="rejected:key-revoked") for r in late])
    await ledger.anchor.append()
    return ledger


async def valid_at(ledger: Any, height: int) -> tuple[set[str], frozenset[str]]:
    found = await keys_at_block(ledger.stores, ledger.trust, shard=0, height=height)
    return set(found.keys), found.doubted


async def test_a_key_is_valid_from_where_it_was_known_up_to_where_it_was_revoked() -> None:
    ledger = await ledger_with(REVOKED)

    assert await valid_at(ledger, 0) == ({OWN}, frozenset())
    assert await valid_at(ledger, 1) == ({OWN, KEY}, frozenset())
    assert await valid_at(ledger, 3) == ({OWN}, frozenset())


async def test_a_key_that_was_stolen_by_then_is_valid_and_in_doubt() -> None:
    ledger = await ledger_with(STOLEN)

    assert await valid_at(ledger, 1) == ({OWN, KEY}, frozenset({KEY}))


async def test_a_block_that_is_not_there_has_no_answer() -> None:
    ledger = await ledger_with(REVOKED)

    with pytest.raises(ReplayError, match="no block 9 of shard 0"):
        await valid_at(ledger, 9)
    with pytest.raises(ValueError, match="no shard 77"):
        await keys_at_block(ledger.stores, ledger.trust, shard=77, height=0)


async def test_nothing_is_said_by_a_ledger_that_is_damaged() -> None:
    ledger = await ledger_with(REVOKED)
    note = await ledger.stores.ledger.get(header_key(0, 0), bytes_max=10_000)
    header = open_header(note, ledger.trust.shards[0])
    await ledger.stores.ledger.delete(body_key(0, 0, header.root))

    with pytest.raises(ArchiveError):
        await valid_at(ledger, 3)


async def test_nothing_is_said_without_the_log() -> None:
    ledger = await ledger_with(REVOKED)
    await ledger.stores.log.delete("checkpoint")

    with pytest.raises((ReplayError, DamagedError)):
        await valid_at(ledger, 3)
