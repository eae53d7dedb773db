"""Whom a verifier trusts: the log's key, the shards' keys, and how many of which witnesses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from salus.ledger.block import Header, open_header
from salus.ledger.checkpoint import Checkpoint, open_checkpoint
from salus.ledger.cosignature import CosignatureVerifier, time_of_cosignature
from salus.ledger.errors import KeyTextError, PolicyError
from salus.ledger.note import NoteVerifier, Verifier

# Receipts of one batch share their header and checkpoint, so the last notes are worth remembering.
_REMEMBERED_MAX = 1024
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cosigner:
    """A witness that cosigned a checkpoint, and the POSIX time in seconds that it stated."""

    name: str
    seconds: int


@dataclass(frozen=True, slots=True)
class SeenCheckpoint:
    """A checkpoint whose log signature is valid, and the known witnesses that cosigned it."""

    checkpoint: Checkpoint
    cosigners: tuple[Cosigner, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """Whom a verifier trusts. It is data: equal policies accept exactly the same receipts.

    `shards` maps a shard's origin to its sequencer's key. `quorum` is how many different witnesses
    (names, not keys: one witness may hold an Ed25519 and an ML-DSA-44 key) must have cosigned.
    """

    log: NoteVerifier
    shards: Mapping[str, NoteVerifier]
    witnesses: tuple[CosignatureVerifier, ...] = ()
    quorum: int = 0
    _headers: dict[bytes, Header] = field(default_factory=dict, init=False, repr=False, compare=False)
    _checkpoints: dict[bytes, SeenCheckpoint] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        names = {witness.name for witness in self.witnesses}
        if not 0 <= self.quorum <= len(names):
            raise PolicyError("malformed-policy", f"a quorum of {self.quorum} out of {len(names)} witnesses")
        if any(origin != verifier.name for origin, verifier in self.shards.items()):
            raise PolicyError("malformed-policy", "a shard's key has another name than the shard")
        keys: list[Verifier] = [self.log, *self.shards.values(), *self.witnesses]
        if len({(key.name, key.key_id) for key in keys}) != len(keys):
            raise PolicyError("malformed-policy", "a key is there twice")

    @classmethod
    def from_network(cls, description: bytes) -> Policy:
        """Return the policy of a `network.json`; members it does not need are ignored.

        Raises:
            PolicyError: `malformed-policy`.
        """
        try:
            network = json.loads(description)
            return cls(
                log=_named_verifier(network["log"]),
                shards={shard["origin"]: _named_verifier(shard) for shard in network["shards"]},
                witnesses=tuple(CosignatureVerifier.from_vkey(key) for key in network["witnesses"]["keys"]),
                quorum=_integer(network["witnesses"]["quorum"]),
            )
        except (ValueError, RecursionError):
            raise PolicyError("malformed-policy", "not JSON in UTF-8") from None
        except (KeyError, TypeError, AttributeError) as error:
            raise PolicyError("malformed-policy", f"log, shards or witnesses: {error!r}") from None
        except KeyTextError as error:
            raise PolicyError("malformed-policy", str(error)) from None

    def open_header(self, note: bytes, origin: str) -> Header:
        """Return the header if the sequencer of the shard `origin` signed it.

        Raises:
            BlockError: as `salus.ledger.block.open_header`.
            PolicyError: `unknown-shard`.
        """
        header = self._headers.get(note)
        if header is None:
            if (verifier := self.shards.get(origin)) is None:
                raise PolicyError("unknown-shard", "the policy has no key of this shard")
            header = open_header(note, verifier)
            _remember(self._headers, note, header)
        return header

    def open_checkpoint(self, note: bytes) -> SeenCheckpoint:
        """Return the checkpoint if the log signed it, with the witnesses that cosigned it.

        Raises:
            NoteError, CheckpointError: as `salus.ledger.checkpoint.open_checkpoint`.
        """
        seen = self._checkpoints.get(note)
        if seen is None:
            checkpoint, opened = open_checkpoint(note, self.log, self.witnesses)
            cosigners = {
                s.name: Cosigner(s.name, time_of_cosignature(s.signature))
                for s in opened.signatures
                if (s.name, s.key_id) != (self.log.name, self.log.key_id)
            }
            seen = SeenCheckpoint(checkpoint, tuple(cosigners.values()))
            _remember(self._checkpoints, note, seen)
        return seen


def _named_verifier(described: Mapping[str, Any]) -> NoteVerifier:
    verifier = NoteVerifier.from_vkey(described["verifier_key"])
    if verifier.name != described["origin"]:
        raise PolicyError("malformed-policy", "a key has another name than the origin beside it")
    return verifier


def _integer(number: object) -> int:
    if not isinstance(number, int) or isinstance(number, bool):
        raise PolicyError("malformed-policy", "the quorum is not an integer")
    return number


def _remember(memory: dict[bytes, T], note: bytes, opened: T) -> None:
    if len(memory) >= _REMEMBERED_MAX:
        memory.clear()
    memory[note] = opened
