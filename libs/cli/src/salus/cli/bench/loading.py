"""Publishes a share of a benchmark's events; arguments: bootstrap, partitions, first number, end."""

from __future__ import annotations

import asyncio
import sys

from salus.cli.bench.load import TOPIC, partition_of, signed_batches
from salus.cli.bench.stage import HOSPITAL_SEED
from salus.events.did import LocalSigner
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import Producer


async def main(bootstrap: str, partitions: int, first: int, end: int) -> None:
    """Publish the events of these numbers, and wait until all are acknowledged."""
    hospital = LocalSigner.from_seed(HOSPITAL_SEED)
    async with Producer(bootstrap, client_id=f"salus-bench-{first}") as producer:
        for batch in signed_batches(end - first, hospital, first=first, partitions=partitions):
            for key, value, signature in batch:
                await producer.enqueue(
                    TOPIC,
                    key=key,
                    value=value,
                    headers=[(SIGNATURE_HEADER, signature)],
                    partition=partition_of(key, partitions),
                )
        await producer.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
