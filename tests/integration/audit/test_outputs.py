"""What audit is told to have published stands on its topics. Case: deploy.md, blocker 3."""

from __future__ import annotations

import os
import uuid
from typing import Any
from unittest.mock import AsyncMock

from tests.asking import NETWORK

from salus.audit.adapters.signatures import OwnSignatures
from salus.audit.adapters.topics import KafkaOutputs
from salus.audit.ports import Message
from salus.devkit.addresses import Addresses
from salus.events.contexts import CATALOGUE
from salus.events.did import LocalSigner
from salus.events.keyring import KeyRing
from salus.messaging import Reader, Topic, ensure_topics


async def test_the_outputs_have_no_sequence_numbers_that_others_could_use_up(parts: Addresses) -> None:
    topic = f"outputs-{uuid.uuid4().hex}"
    await ensure_topics(parts.kafka_bootstrap, [Topic(topic, 1)])
    signer = LocalSigner.from_seed(os.urandom(32))
    signatures = OwnSignatures(signer, lambda: KeyRing(CATALOGUE, NETWORK))
    outputs = KafkaOutputs(parts.kafka_bootstrap, signatures, AsyncMock())

    def messages(first: int) -> list[Message]:
        return [
            Message(topic=topic, key="k", value=b"%d" % n, uid=str(n), content_type="text/plain")
            for n in range(first, first + 50)
        ]

    await outputs.publish(messages(0))
    library: Any = outputs._producer._session._producer  # type: ignore[union-attr]  # open by now
    await outputs.publish(messages(50))
    await outputs.close()
    found: list[bytes] = []
    async with Reader(parts.kafka_bootstrap, starts={(topic, 0): 0}) as reader:
        while len(found) < 100:
            found += [r.value or b"" for r in await reader.poll(max_records=200, timeout_ms=1000)]

    assert library._txn_manager is None
    assert found == [b"%d" % n for n in range(100)]
