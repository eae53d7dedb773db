"""Detectors that are stopped while they start leave nothing open."""

from __future__ import annotations

import asyncio
import os
import uuid

import pytest
from tests.asking import NETWORK

from salus.audit.adapters.detectors import detect_for_ever
from salus.audit.adapters.signatures import OwnSignatures
from salus.audit.domain.detection import ProbingRule
from salus.devkit.addresses import Addresses
from salus.events.contexts import CATALOGUE
from salus.events.did import LocalSigner
from salus.events.keyring import KeyRing
from salus.messaging import Topic, ensure_topics


@pytest.mark.parametrize("delay_s", [0.05, 0.1, 0.15, 0.3, 1.0])
async def test_detectors_may_be_stopped_at_any_moment(parts: Addresses, delay_s: float) -> None:
    topic = f"ocsf-{uuid.uuid4().hex}"
    await ensure_topics(parts.kafka_bootstrap, [Topic(topic, 2)])
    detecting = asyncio.create_task(
        detect_for_ever(
            parts.kafka_bootstrap,
            topic=topic,
            rule=ProbingRule(refusals=5, window_s=60),
            signatures=OwnSignatures(
                LocalSigner.from_seed(os.urandom(32)), lambda: KeyRing(CATALOGUE, NETWORK)
            ),
        )
    )
    await asyncio.sleep(delay_s)

    detecting.cancel()
    await asyncio.wait([detecting])

    # What is still open fails the test when it is collected, as for every test of this folder.
    assert detecting.cancelled()
