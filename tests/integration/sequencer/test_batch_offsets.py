"""A batch of an ordinary account whose records say that they stand elsewhere ends no shard."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.raw_kafka import produce, record_batch
from tests.integration.sequencer.shard import CLINICAL, open_shard

from salus.devkit.addresses import Addresses
from salus.devkit.waiting import until


@pytest.mark.parametrize("deltas", [[1000], [0, 0], [1], [-3]], ids=str)
async def test_one_batch_of_a_member_ends_no_shard_and_spoils_no_chain(
    parts: Addresses, tmp_path: Path, deltas: list[int]
) -> None:
    # case F5
    async with open_shard(parts, tmp_path / "network") as shard:
        await shard.join_hospital()
        sequencer = await shard.start_sequencer()
        await shard.publish_documents(40)
        batch = record_batch([(delta, b"no signature at all") for delta in deltas])
        base = await produce(parts.kafka_bootstrap, CLINICAL, 0, batch)
        await shard.publish_documents(40, name="after")
        await shard.wait_until_sealed()
        assert await until(sequencer.is_ready, deadline_s=60)
        await sequencer.stop()
        await shard.start_sequencer()
        await shard.publish_documents(40, name="after-a-restart")
        await shard.wait_until_sealed()
        rows = await shard.require_laws()
        ends = (await shard.chain())[-1][0].next_offsets
        records = await shard.records()

    assert sum(row["source"] == shard.hospital.did for row in rows) == 120
    spoiled = (CLINICAL, 0, base + len(deltas) - 1)
    leaf = [row for row in rows if (row["topic"], row["partition"], row["offset"]) == spoiled]
    assert [row["status"] for row in leaf] == ["rejected:unreadable"]
    last = max(offset for topic, partition, offset in records if (topic, partition) == (CLINICAL, 0))
    assert ends[CLINICAL, 0] == last + 1
