"""Logs that tell the truth and logs that do not, a memory that fails, and a witness between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.ledger.checkpoint import Checkpoint, sign_checkpoint
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.merkle import leaf_hash, root_of
from salus.ledger.note import NoteSigner
from salus.ledger.tiles import ReadTile, TileRef, consistency_proof, tiles_of
from salus.objects.memory import Fault
from salus.witness.domain import Cosigned, Request, encode_request
from salus.witness.handlers import Witness
from salus.witness.ports import ChangedMeanwhileError, ForgetfulError

ORIGIN = "salus.test/log"
NOW = 1_700_000_000


def key(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


LOG = NoteSigner(ORIGIN, key(1))
WITNESS = CosignatureSigner("witness.test/w1", key(2))


@dataclass(frozen=True)
class History:
    """One tree that the log's key signs checkpoints of; histories share their first `fork` leaves."""

    name: str = "true"
    fork: int = 0

    def leaves(self, size: int) -> list[bytes]:
        return [leaf_hash(f"{'shared' if n < self.fork else self.name} {n}".encode()) for n in range(size)]

    def checkpoint(self, size: int) -> Checkpoint:
        return Checkpoint(ORIGIN, size, root_of(self.leaves(size)))

    def note(self, size: int) -> bytes:
        return sign_checkpoint(self.checkpoint(size), (LOG,))

    def proof(self, old: int, size: int) -> tuple[bytes, ...]:
        return tuple(consistency_proof(old, size, self._tiles(size))) if 0 < old <= size else ()

    def request(self, old: int, size: int) -> bytes:
        return encode_request(Request(old, self.proof(old, size), self.note(size)))

    def _tiles(self, size: int) -> ReadTile:
        leaves = self.leaves(size)
        assert all(ref.level == 0 for ref in tiles_of(size)), "small trees only"
        tiles = {ref: b"".join(leaves[ref.index * 256 :][: ref.width]) for ref in tiles_of(size)}
        return lambda *ref: tiles[TileRef(*ref)]


@dataclass
class FailingMemory:
    """Remembers; each write may be LOST or come LATE, and other tasks get their turn before each call."""

    faults: Iterable[Fault] = ()
    turns: Iterable[int] = ()
    content: dict[str, Cosigned] = field(default_factory=dict)
    evidence: list[tuple[bytes, bytes]] = field(default_factory=list)
    unproven: list[tuple[bytes, bytes]] = field(default_factory=list)
    looked: int = 0

    def __post_init__(self) -> None:
        self._faults: Iterator[Fault] = iter(self.faults)
        self._turns: Iterator[int] = iter(self.turns)

    async def last(self, origin: str) -> Cosigned | None:
        await self._turn()
        self.looked += 1
        return self.content.get(origin)

    async def replace(self, origin: str, before: Cosigned | None, after: Callable[[], Cosigned]) -> Cosigned:
        await self._turn()
        fault = next(self._faults, Fault.NONE)
        if fault is Fault.LOST:
            raise ForgetfulError("lost")
        made = after()
        if self.content.get(origin) != before:
            raise ChangedMeanwhileError
        self.content[origin] = made
        if fault is Fault.LATE:
            raise ForgetfulError("late")
        await self._turn()
        return made

    async def keep_evidence(self, origin: str, *, cosigned: bytes, refused: bytes) -> None:
        assert origin == ORIGIN
        self.evidence.append((cosigned, refused))

    async def keep_unproven(self, origin: str, *, cosigned: bytes, refused: bytes) -> None:
        assert origin == ORIGIN
        self.unproven.append((cosigned, refused))

    async def _turn(self) -> None:
        for _ in range(next(self._turns, 0)):
            await asyncio.sleep(0)


def witness(memory: FailingMemory, *more: CosignatureSigner) -> Witness:
    return Witness({ORIGIN: [LOG.verifier]}, [WITNESS, *more], memory, seconds=lambda: NOW)
