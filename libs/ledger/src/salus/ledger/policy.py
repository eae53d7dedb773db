"""Whom a verifier trusts: the log's key, the shards' keys, and which witnesses have to cosign."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from salus.ledger.block import Header, open_header
from salus.ledger.checkpoint import Checkpoint, parse_checkpoint
from salus.ledger.cosignature import CosignatureVerifier, time_of_cosignature
from salus.ledger.errors import CheckpointError, KeyTextError, NoteError, PolicyError
from salus.ledger.json_reader import JsonError, read_json
from salus.ledger.key_periods import KeyPeriod, Keys, described_history, history_of, read_period
from salus.ledger.note import NoteVerifier, Verifier, open_note
from salus.ledger.quorum import Key, Quorum
from salus.ledger.tlog_policy import Log, TlogPolicy, parse_tlog_policy

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
    """A checkpoint whose log signature is valid, and the known witnesses that cosigned it.

    `shortfall` says what the quorum lacks; without one the checkpoint is final.
    """

    checkpoint: Checkpoint
    cosigners: tuple[Cosigner, ...]
    shortfall: str | None

    @property
    def is_final(self) -> bool:
        """Whether the policy's quorum cosigned."""
        return self.shortfall is None


@dataclass(frozen=True, slots=True)
class Policy:
    """Whom a verifier trusts. It is data: equal policies accept exactly the same receipts.

    A checkpoint may be signed by any of `logs`, under its origin. `shards` maps a shard's origin to its
    sequencer's keys. Keys of logs and witnesses that have not always signed, or are retired, are in
    `periods`: outside of its period a signature counts for nothing.
    """

    logs: tuple[Verifier, ...]
    shards: Mapping[str, Keys]
    quorum: Quorum = field(default_factory=Quorum)
    periods: tuple[KeyPeriod, ...] = ()
    _headers: dict[bytes, Header] = field(default_factory=dict, init=False, repr=False, compare=False)
    _checkpoints: dict[bytes, SeenCheckpoint] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not self.logs:
            raise PolicyError("malformed-policy", "no log is trusted")
        if any(origin != keys.name for origin, keys in self.shards.items()):
            raise PolicyError("malformed-policy", "a shard's key has another name than the shard")
        sealing = [key for keys in self.shards.values() for key in history_of(keys).verifiers]
        keys: list[Verifier] = [*self.logs, *sealing, *self.quorum.verifiers]
        if len({(key.name, key.key_id) for key in keys}) != len(keys):
            raise PolicyError("malformed-policy", "a key is there twice")
        if len({period.key for period in self.periods}) != len(self.periods):
            raise PolicyError("malformed-policy", "a key has two periods")

    @classmethod
    def from_network(cls, description: bytes) -> Policy:
        """Return the policy of a `network.json`; members it does not need are ignored.

        Raises:
            PolicyError: `malformed-policy`.
        """
        try:
            network = read_json(description)
            if not isinstance(network["shards"], list):
                raise PolicyError("malformed-policy", '"shards" is not a list')
            quorum = quorum_of(network)
            log = described_history(network["log"])
            return cls(
                logs=log.verifiers,
                shards={
                    shard["origin"]: described_history(shard, may_end=True) for shard in network["shards"]
                },
                quorum=quorum,
                periods=(*log.periods, *witness_periods_of(network, quorum)),
            )
        except JsonError as error:
            raise PolicyError("malformed-policy", f"not JSON: {error.why}, in {error.place}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PolicyError("malformed-policy", f"log, shards or policy: {error!r}") from None

    @property
    def tlog_policy(self) -> TlogPolicy:
        """What of this a C2SP tlog-policy file can say: all but the shards' keys and the periods."""
        logs = (log for log in self.logs if isinstance(log, NoteVerifier))
        return TlogPolicy(tuple(map(Log, logs)), self.quorum)

    def under(self, chosen: TlogPolicy) -> Policy:
        """Return this policy with logs and quorum of a policy file; its logs stay if the file names none.

        Raises:
            PolicyError: `malformed-policy`, if the file's keys and the shards' are not different ones.
        """
        logs = tuple(log.verifier for log in chosen.logs) or self.logs
        return replace(self, logs=logs, quorum=chosen.quorum)

    def open_header(self, note: bytes, origin: str) -> Header:
        """Return the header if the sequencer of the shard `origin` signed it.

        Raises:
            BlockError: as `salus.ledger.block.open_header`.
            PolicyError: `unknown-shard`.
        """
        header = self._headers.get(note)
        if header is None:
            if (keys := self.shards.get(origin)) is None:
                raise PolicyError("unknown-shard", "the policy has no key of this shard")
            header = open_header(note, keys)
            _remember(self._headers, note, header)
        return header

    def open_checkpoint(self, note: bytes) -> SeenCheckpoint:
        """Return the checkpoint if its log signed it, with the witnesses that cosigned it.

        Raises:
            NoteError: as `open_note`, and `unverified` if the log's own signature is missing, or
                `key-period` if the key of that signature does not sign at this size.
            CheckpointError: `malformed`, or `origin` if no log of this name is trusted.
        """
        seen = self._checkpoints.get(note)
        if seen is None:
            opened = open_note(note, (*self.logs, *self.quorum.verifiers))
            checkpoint = parse_checkpoint(opened.text)
            signers = {(s.name, s.key_id): s.signature for s in opened.signatures}
            logs = [log for log in self.logs if log.name == checkpoint.origin]
            if not logs:
                raise CheckpointError("origin", "the checkpoint is another log's")
            if not any((log.name, log.key_id) in signers for log in logs):
                raise NoteError("unverified", "the log's own signature is missing")
            idle = {period.key for period in self.periods if not period.covers(checkpoint.size)}
            signers = {key: signature for key, signature in signers.items() if key not in idle}
            if not any((log.name, log.key_id) in signers for log in logs):
                raise NoteError("key-period", f"no key that signed it signs at size {checkpoint.size}")
            seen = SeenCheckpoint(
                checkpoint,
                _cosigners(self.quorum, signers),
                self.quorum.shortfall(signers.keys()),
            )
            _remember(self._checkpoints, note, seen)
        return seen


def _cosigners(quorum: Quorum, signers: Mapping[Key, bytes]) -> tuple[Cosigner, ...]:
    """Return who cosigned, in the note's order and each witness once."""
    known = {witness.key for witness in quorum.witnesses}
    times = {key[0]: time_of_cosignature(signature) for key, signature in signers.items() if key in known}
    return tuple(Cosigner(name, seconds) for name, seconds in times.items())


def quorum_of(network: Mapping[str, Any]) -> Quorum:
    """Read the member `policy` of a network.json: the lines of a C2SP tlog-policy, without logs.

    Raises:
        PolicyError: `malformed-policy`.
    """
    if "witnesses" in network:
        raise PolicyError("malformed-policy", _instead_of(network["witnesses"]))
    if "policy" not in network:
        sentence = 'there is no "policy"; "policy": ["quorum none"] asks for no cosignature'
        raise PolicyError("malformed-policy", sentence)
    lines = network["policy"]
    if not isinstance(lines, list) or not all(isinstance(one, str) and "\n" not in one for one in lines):
        raise PolicyError("malformed-policy", '"policy" is not a list of lines')
    try:
        read = parse_tlog_policy("".join(f"{one}\n" for one in lines).encode())
    except PolicyError as error:
        raise PolicyError("malformed-policy", f'"policy", {error.detail}') from None
    if read.logs:
        raise PolicyError("malformed-policy", '"policy" has a log line; the log is described by "log"')
    return read.quorum


def _instead_of(witnesses: Mapping[str, Any]) -> str:
    """Say what to write in place of the member `witnesses` of earlier versions."""
    said = '"witnesses" is not read any more: remove it and '
    try:
        verifiers = [CosignatureVerifier.from_vkey(key) for key in witnesses["keys"]]
        lines = TlogPolicy((), Quorum.of(witnesses["quorum"], verifiers)).lines()
    except (KeyTextError, PolicyError, KeyError, TypeError, AttributeError):
        return f'{said}describe the quorum as "policy", the lines of a C2SP tlog-policy'
    return f'{said}write "policy": {json.dumps(lines, ensure_ascii=False)}'


def witness_periods_of(network: Mapping[str, Any], quorum: Quorum) -> list[KeyPeriod]:
    """Read the member `witness_periods`: keys of the policy's witnesses that do not sign everywhere.

    Raises:
        PolicyError: `malformed-policy`.
        ValueError: a period is none.
    """
    described = network.get("witness_periods", [])
    if not isinstance(described, list):
        raise PolicyError("malformed-policy", '"witness_periods" is not a list')
    periods = [read_period(one, CosignatureVerifier.from_vkey) for one in described]
    known = {witness.key for witness in quorum.witnesses}
    if any(period.key not in known for period in periods):
        raise PolicyError("malformed-policy", '"witness_periods" has a key of no witness')
    return periods


def _remember(memory: dict[bytes, T], note: bytes, opened: T) -> None:
    if len(memory) >= _REMEMBERED_MAX:
        memory.clear()
    memory[note] = opened
