"""A small ledger in memory: two chains, a log of them, written by the code that writes real ones."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.anchoring.handlers import Anchor
from salus.anchoring.log_bucket import LogBucket
from salus.archive.blocks import BlockArchive
from salus.archive.building import TOPIC, ChainBuilder, SampleRecord, sample_value
from salus.archive.fsck import Stores
from salus.archive.log import LogReader
from salus.archive.trust import Trust
from salus.events.did import LocalSigner
from salus.ledger.note import NoteSigner
from salus.ledger.policy import Policy
from salus.objects.memory import MemoryObjects

LOG_ORIGIN = "salus.test/log"


def note_key(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


LOG_SIGNER = NoteSigner(LOG_ORIGIN, note_key(1))
SHARD_SIGNERS = {n: NoteSigner(f"salus.test/shard/{n}", note_key(10 + n)) for n in (0, 1)}
EVENT_SIGNER = LocalSigner(note_key(20))


@dataclass
class SmallLedger:
    """Two buckets with everything in them that a ledger has."""

    ledger: MemoryObjects = field(default_factory=MemoryObjects)
    log: MemoryObjects = field(default_factory=MemoryObjects)

    def __post_init__(self) -> None:
        self.chains = {
            n: ChainBuilder(self.ledger, signer, EVENT_SIGNER, shard=n) for n, signer in SHARD_SIGNERS.items()
        }
        self.anchor = Anchor(
            blocks=BlockArchive(self.ledger),
            bucket=LogBucket(self.log, LOG_SIGNER.verifier),
            log=LogReader(self.log),
            origin=LOG_ORIGIN,
            signer=LOG_SIGNER,
            shards={n: signer.verifier for n, signer in SHARD_SIGNERS.items()},
        )
        self.trust = Trust(LOG_SIGNER.vkey, {n: signer.vkey for n, signer in SHARD_SIGNERS.items()})
        self.policy = Policy((LOG_SIGNER.verifier,), {s.name: s.verifier for s in SHARD_SIGNERS.values()})

    @property
    def stores(self) -> Stores:
        return Stores(self.ledger, self.log)

    async def fill(self) -> None:
        """Blocks of accepted and rejected records in both chains, over several checkpoints."""
        for size in (3, 1, 4):
            await self.chains[0].seal_samples(size, 2)
            await self.chains[1].seal_samples(0, 0, size)
            await self.anchor.append()
        await self.chains[0].seal(rejected_records(first=8))
        await self.chains[0].seal([])
        await self.anchor.append()

    def bucket(self, name: str) -> MemoryObjects:
        return self.ledger if name == "ledger" else self.log

    def flip(self, name: str, object_key: str, byte: int, bit: int = 0) -> None:
        """Flip one bit of one object."""
        objects = self.bucket(name).objects
        data, etag = objects[object_key]
        changed = bytearray(data)
        changed[byte] ^= 1 << bit
        objects[object_key] = (bytes(changed), etag)


def rejected_records(first: int) -> list[SampleRecord]:
    """A tombstone, garbage without a signature, and a bad signature, with a gap in the offsets."""
    return [
        SampleRecord(TOPIC, 0, first, None, None, "rejected:tombstone"),
        SampleRecord(TOPIC, 0, first + 3, b"\x00garbage", None, "rejected:missing-signature"),
        SampleRecord(
            TOPIC, 0, first + 4, sample_value(1, EVENT_SIGNER), None, "rejected:malformed-signature"
        ),
    ]
