"""Fixtures of anchoring on real Kafka and MinIO."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.anchoring.network import AnchoredNetwork

from salus.devkit.addresses import Addresses
from salus.devkit.network import NetworkFolder, Plan, create_topics


@pytest.fixture
async def witnessed(parts: Addresses, tmp_path: Path) -> AsyncIterator[AnchoredNetwork]:
    """A network of two witnesses, which both have to cosign."""
    await create_topics(parts.kafka_bootstrap, Plan())
    network = AnchoredNetwork(parts, NetworkFolder(tmp_path), witnesses_planned=2)
    await network.create()
    yield network
    for process in network.started:
        await process.kill()
    for witness in network.witnesses:
        await witness.kill()


@pytest.fixture
async def network(parts: Addresses, tmp_path: Path) -> AsyncIterator[AnchoredNetwork]:
    await create_topics(parts.kafka_bootstrap, Plan())
    network = AnchoredNetwork(parts, NetworkFolder(tmp_path))
    await network.create()
    yield network
    for process in network.started:
        await process.kill()
