"""What lies behind the end of a chain counts nowhere: fsck names it, anchoring and replay pass it over."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.archive.small_ledger import EVENT_SIGNER, LOG_SIGNER, SHARD_SIGNERS, SmallLedger
from tests.unit.archive.test_replay import replayed

from salus.anchoring.handlers import Anchor
from salus.anchoring.log_bucket import LogBucket
from salus.archive.blocks import BlockArchive
from salus.archive.building import TOPIC, sample_records
from salus.archive.fsck import fsck
from salus.archive.log import LogReader
from salus.archive.report import Report
from salus.archive.trust import Trust
from salus.ledger.block import Handover
from salus.ledger.errors import PolicyError
from salus.ledger.key_periods import read_history

# The last block of shard 0 that counts.
LAST = 2
AT = (TOPIC, 0)


def ended(trust: Trust, before: int) -> Trust:
    key = {"verifier_key": trust.shard_keys[0], "until": before}
    return replace(trust, keys={SHARD_SIGNERS[0].name: [key]})


def anchor_of(ledger: SmallLedger) -> Anchor:
    return Anchor(
        blocks=BlockArchive(ledger.ledger),
        bucket=LogBucket(ledger.log, LOG_SIGNER.verifier),
        log=LogReader(ledger.log),
        origin=LOG_SIGNER.name,
        signer=LOG_SIGNER,
        shards=ledger.trust.shards,
    )


@pytest.fixture
async def ledger() -> SmallLedger:
    """Shard 0 seals eight records of a partition, then forged ones; shard 1 goes on where it ended."""
    made = SmallLedger()
    await made.fill()
    chain = made.chains[0]
    left = chain.headers[LAST].next_offsets
    made.trust = ended(made.trust, LAST + 1)
    made.anchor = anchor_of(made)
    await made.chains[1].seal(
        [],
        handovers=[Handover("took", *at, left[at], f"{SHARD_SIGNERS[0].name}/block/{LAST}") for at in left],
    )
    return made


async def sealed_again(ledger: SmallLedger) -> None:
    first = ledger.chains[0].headers[LAST].next_offsets[AT]
    await ledger.chains[1].seal(sample_records(4, signer=EVENT_SIGNER, first=first))
    await ledger.anchor.append()


async def checked(ledger: SmallLedger) -> Report:
    return await fsck(ledger.stores, ledger.trust)


def infos(report: Report) -> list[tuple[str, str]]:
    return [(finding.code, finding.key) for finding in report.findings]


async def test_fsck_names_what_lies_behind_the_end_and_finds_nothing_wrong(ledger: SmallLedger) -> None:
    await sealed_again(ledger)
    report = await checked(ledger)

    assert report.errors == []
    assert infos(report) == [("void-block", "shard/0/000000000003/header")]
    assert "blocks 3 to 4 lie behind the end" in report.findings[0].detail
    assert "2 of them are entries of the log" in report.findings[0].detail


async def test_whoever_does_not_know_of_the_end_finds_that_two_shards_go_on(ledger: SmallLedger) -> None:
    await sealed_again(ledger)
    ledger.trust = replace(ledger.trust, keys={})

    codes = {finding.code for finding in (await checked(ledger)).errors}

    assert codes == {"handover-broken", "coverage-overlap"}


async def test_what_nobody_took_is_named(ledger: SmallLedger) -> None:
    ledger.ledger.objects = {
        k: v for k, v in ledger.ledger.objects.items() if not k.startswith("shard/1/000000000003")
    }

    report = await checked(ledger)

    assert report.errors == []
    assert [code for code, _ in infos(report)] == ["handover-pending", "handover-pending", "void-block"]


async def test_the_log_gets_nothing_more_of_an_ended_chain_and_goes_on_with_the_others(
    ledger: SmallLedger,
) -> None:
    await ledger.chains[0].seal([])
    size = len(ledger.anchor.index)
    await sealed_again(ledger)

    index = ledger.anchor.index
    assert [index.block_at(entry) for entry in range(size or 8, len(index))] == [(1, 3), (1, 4)]
    assert ledger.anchor.stalled == {}


async def test_a_record_is_found_where_it_was_sealed_again(ledger: SmallLedger) -> None:
    await sealed_again(ledger)
    index = ledger.anchor.index
    found = index.find(*AT, 8)

    assert found is not None
    assert index.block_at(found) == (1, 4)
    assert not ledger.anchor.is_void(found)
    void = [index.block_at(entry) for entry in range(len(index)) if ledger.anchor.is_void(entry)]
    assert void == [(0, 3), (0, 4)]
    assert not ledger.anchor.knows(0, 3)
    assert ledger.anchor.knows(0, 2)


async def test_a_running_anchoring_finds_records_anew_once_a_chain_ended() -> None:
    made = SmallLedger()
    await made.fill()
    assert made.anchor.index.find(*AT, 8) is not None
    left = made.chains[0].headers[LAST].next_offsets
    shards = made.anchor._shards  # the same mapping follows the network file
    shards |= ended(made.trust, LAST + 1).shards  # type: ignore[operator]  # a dict
    lines = [Handover("took", *at, left[at], f"{SHARD_SIGNERS[0].name}/block/{LAST}") for at in left]
    await made.chains[1].seal([], handovers=lines)
    await sealed_again(made)

    found = made.anchor.index.find(*AT, 8)
    assert found is not None
    assert made.anchor.index.block_at(found) == (1, 4)


async def test_what_comes_out_again_is_what_was_sealed_again(ledger: SmallLedger) -> None:
    # redB7, 7: a revocation that a stolen key had refused was not there again after a loss of Kafka
    await sealed_again(ledger)

    records = [record for record in await replayed(ledger) if (record.topic, record.partition) == AT]

    assert [record.offset for record in records] == list(range(12))
    assert {record.status for record in records} == {"accepted"}


def test_a_log_never_ends_and_a_shard_only_once() -> None:
    key = {"verifier_key": SHARD_SIGNERS[0].vkey, "until": 3}

    assert read_history(SHARD_SIGNERS[0].name, SHARD_SIGNERS[0].vkey, [key], may_end=True).end == 3
    with pytest.raises(PolicyError, match="signs at 3"):
        read_history(SHARD_SIGNERS[0].name, SHARD_SIGNERS[0].vkey, [key])
