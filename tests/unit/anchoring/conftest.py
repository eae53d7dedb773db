"""A network of two shards in memory, and as many anchoring processes on it as a test wants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.anchoring.handlers import Anchor
from salus.anchoring.log_bucket import LogBucket
from salus.archive.blocks import BlockArchive
from salus.archive.building import ChainBuilder
from salus.archive.log import LogReader
from salus.events.did import LocalSigner
from salus.ledger.note import NoteSigner
from salus.objects.memory import Fault, MemoryObjects

LOG_ORIGIN = "salus.test/log"


def key(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


LOG_SIGNER = NoteSigner(LOG_ORIGIN, key(1))
SHARD_SIGNERS = {n: NoteSigner(f"salus.test/shard/{n}", key(10 + n)) for n in (0, 1)}


@dataclass
class World:
    """The ledger bucket, the log bucket and the two chains."""

    faults: Iterable[Fault] = ()
    ledger: MemoryObjects = field(default_factory=MemoryObjects)
    chains: dict[int, ChainBuilder] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log = MemoryObjects(faults=self.faults)
        event_signer = LocalSigner(key(20))
        self.chains = {
            n: ChainBuilder(self.ledger, signer, shard=n, event_signer=event_signer)
            for n, signer in SHARD_SIGNERS.items()
        }

    def anchor(self, *, entries_max: int = 1024) -> Anchor:
        return Anchor(
            blocks=BlockArchive(self.ledger),
            bucket=LogBucket(self.log, LOG_SIGNER.verifier),
            log=LogReader(self.log),
            origin=LOG_ORIGIN,
            signer=LOG_SIGNER,
            shards={n: signer.verifier for n, signer in SHARD_SIGNERS.items()},
            entries_max=entries_max,
        )


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def make_world() -> Iterator[type[World]]:
    return World
