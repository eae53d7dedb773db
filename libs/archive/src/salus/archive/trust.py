"""Whose signatures fsck believes: the log's and the shards' keys out of network.json."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from salus.events.catalogue import PublicKey
from salus.ledger.note import NoteVerifier


class _Log(msgspec.Struct):
    origin: str
    verifier_key: str


class _Shard(msgspec.Struct):
    id: int
    origin: str
    verifier_key: str


class _Root(msgspec.Struct):
    did: str
    key: PublicKey


class _Network(msgspec.Struct):
    log: _Log
    shards: tuple[_Shard, ...]
    root: _Root | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """Verifier keys as text (so that it travels to other processes), and the root of identity."""

    log_key: str
    shard_keys: dict[int, str]
    root_did: str | None = None
    root_key: PublicKey | None = None

    @classmethod
    def from_network(cls, description: bytes) -> Trust:
        """Read a network.json.

        Raises:
            ValueError: not a network file; the message names the place.
        """
        try:
            network = msgspec.json.decode(description, type=_Network)
        except msgspec.DecodeError as error:
            raise ValueError(f"not a network file: {error}") from error
        root = network.root
        return cls(
            log_key=network.log.verifier_key,
            shard_keys={shard.id: shard.verifier_key for shard in network.shards},
            root_did=root.did if root else None,
            root_key=root.key if root else None,
        )

    @property
    def log(self) -> NoteVerifier:
        """The log's verifier."""
        return NoteVerifier.from_vkey(self.log_key)

    @property
    def shards(self) -> dict[int, NoteVerifier]:
        """The shards' verifiers."""
        return {shard: NoteVerifier.from_vkey(key) for shard, key in self.shard_keys.items()}
