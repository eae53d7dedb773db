"""A network of two shards in memory, and as many anchoring processes on it as a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.anchoring.handlers import Anchor
from salus.anchoring.log_bucket import LogBucket
from salus.archive.blocks import BlockArchive
from salus.archive.building import ChainBuilder
from salus.archive.log import CHECKPOINT_KEY, LogReader
from salus.events.did import LocalSigner
from salus.ledger.checkpoint import Checkpoint, open_checkpoint
from salus.ledger.merkle import leaf_hash, root_of, verify_consistency
from salus.ledger.note import NoteSigner
from salus.ledger.policy import Policy
from salus.ledger.tiles import consistency_proof, new_tiles, tiles_for_consistency
from salus.objects.memory import Fault, MemoryObjects

LOG_ORIGIN = "salus.test/log"


def key(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


LOG_SIGNER = NoteSigner(LOG_ORIGIN, key(1))
SHARD_SIGNERS = {n: NoteSigner(f"salus.test/shard/{n}", key(10 + n)) for n in (0, 1)}
EVENT_SIGNER = LocalSigner(key(20))


@dataclass
class BusyObjects(MemoryObjects):
    """A store on which other tasks get their turn before each operation, which remembers every checkpoint
    that was ever shown, and which can hold the next write of one key until it is released."""

    turns: Iterable[int] = ()
    shown: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._turns = iter(self.turns)
        self.hold = ""
        self.held = asyncio.Event()
        self.release = asyncio.Event()

    async def _turn(self, written: str = "") -> None:
        if written and written == self.hold:
            self.held.set()
            await self.release.wait()
        for _ in range(next(self._turns, 0)):
            await asyncio.sleep(0)

    async def get_with_etag(self, key: str, *, bytes_max: int) -> tuple[bytes, str]:
        await self._turn()
        return await super().get_with_etag(key, bytes_max=bytes_max)

    async def get(self, key: str, *, bytes_max: int) -> bytes:
        await self._turn()
        return await super().get(key, bytes_max=bytes_max)

    async def put(self, key: str, data: bytes) -> str:
        await self._turn(key)
        return await super().put(key, data)

    async def create(self, key: str, data: bytes) -> str:
        await self._turn(key)
        return await super().create(key, data)

    async def replace(self, key: str, data: bytes, etag: str) -> str:
        await self._turn(key)
        return await super().replace(key, data, etag)

    def _written(self, key: str, data: bytes, fault: Fault) -> str:
        if key == CHECKPOINT_KEY and fault is not Fault.LOST:
            self.shown.append(data)
        return super()._written(key, data, fault)


@dataclass
class World:
    """The ledger bucket, the log bucket and the two chains."""

    faults: Iterable[Fault] = ()
    turns: Iterable[int] = ()
    ledger: MemoryObjects = field(default_factory=MemoryObjects)
    with_bodies: bool = False

    def __post_init__(self) -> None:
        self.log = BusyObjects(faults=self.faults, turns=self.turns)
        self.chains = {
            n: ChainBuilder(self.ledger, signer, EVENT_SIGNER, shard=n, with_bodies=self.with_bodies)
            for n, signer in SHARD_SIGNERS.items()
        }
        self.policy = Policy((LOG_SIGNER.verifier,), {s.name: s.verifier for s in SHARD_SIGNERS.values()})

    def bucket(self) -> LogBucket:
        return LogBucket(self.log, LOG_SIGNER.verifier)

    def anchor(self, *, bucket: LogBucket | None = None, entries_max: int = 1024) -> Anchor:
        return Anchor(
            blocks=BlockArchive(self.ledger),
            bucket=bucket or self.bucket(),
            log=LogReader(self.log),
            origin=LOG_ORIGIN,
            signer=LOG_SIGNER,
            shards={n: signer.verifier for n, signer in SHARD_SIGNERS.items()},
            entries_max=entries_max,
        )

    async def entries(self) -> list[bytes]:
        """The log's entries, as anyone reads them below the published checkpoint."""
        size = self.published().size
        return [entry async for entry in LogReader(self.log).entries(0, size)]

    def published(self) -> Checkpoint:
        checkpoint, _ = open_checkpoint(self.log.objects[CHECKPOINT_KEY][0], LOG_SIGNER.verifier)
        return checkpoint

    async def require_whole(self) -> None:
        """Fail unless the log is a valid tlog, holds every header once, and was never rewritten."""
        entries, checkpoint = await self.entries(), self.published()

        assert sorted(entries) == sorted(note for chain in self.chains.values() for note in chain.notes)
        for chain in self.chains.values():
            assert [e for e in entries if e in chain.notes] == chain.notes
        assert root_of([leaf_hash(entry) for entry in entries]) == checkpoint.root
        wanted = new_tiles(0, entries, lambda *_: b"")
        assert {path: self.log.objects[path][0] for path in wanted} == wanted
        await self.require_never_rewritten()

    async def require_never_rewritten(self) -> None:
        """Fail unless each checkpoint that was shown extends the one shown before it, with all its tiles."""
        reader = LogReader(self.log)
        shown = [open_checkpoint(note, LOG_SIGNER.verifier)[0] for note in self.log.shown]
        last = shown[-1]
        for before, after in pairwise(shown):
            assert before.size <= after.size
        for checkpoint in {c.size: c for c in shown}.values():
            if checkpoint.size == 0:
                continue
            tiles = await reader.tiles(tiles_for_consistency(checkpoint.size, last.size))
            verify_consistency(
                first=checkpoint.size,
                second=last.size,
                first_root=checkpoint.root,
                second_root=last.root,
                proof=consistency_proof(checkpoint.size, last.size, tiles),
            )
            assert len([entry async for entry in reader.entries(0, checkpoint.size)]) == checkpoint.size
        assert len({(c.size, c.root) for c in shown}) == len({c.size for c in shown})
