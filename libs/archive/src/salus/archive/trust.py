"""Whose signatures fsck believes: the log's and the shards' keys out of network.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from salus.events import parties
from salus.events.contexts.identity import PartyKind, PublicKey
from salus.ledger.errors import KeyTextError, PolicyError
from salus.ledger.json_reader import JsonError, read_json
from salus.ledger.key_periods import KeyHistory, read_history
from salus.ledger.note import parse_vkey
from salus.ledger.policy import Policy, quorum_of, witness_periods_of


class _Log(msgspec.Struct):
    origin: str
    verifier_key: str
    keys: list[dict[str, Any]] = []


class Founder(msgspec.Struct, frozen=True):
    """A shard of network.json and the partitions that it seals in the beginning."""

    id: int
    origin: str
    topics: dict[str, tuple[int, ...]] = {}


class _Shard(Founder, frozen=True, kw_only=True):
    verifier_key: str
    keys: list[dict[str, Any]] = []


class _Root(msgspec.Struct):
    did: str
    key: PublicKey


class _Founding(msgspec.Struct):
    did: str
    key: PublicKey
    kind: PartyKind = "service"
    roles: tuple[str, ...] = ()


class _Network(msgspec.Struct):
    log: _Log
    shards: tuple[_Shard, ...]
    origin: str = ""
    root: _Root | None = None
    services: dict[str, _Founding] = {}
    founders: tuple[_Founding, ...] = ()
    policy: tuple[str, ...] | None = None
    witness_periods: list[dict[str, Any]] = []


def _require_names(network: _Network) -> None:
    named = [(of.origin, of.verifier_key) for of in network.shards]
    for origin, key in [(network.log.origin, network.log.verifier_key), *named]:
        if parse_vkey(key)[0] != origin:
            raise PolicyError("malformed-policy", f"the key of {origin} has another name")


@dataclass(frozen=True, slots=True)
class Trust:
    """Verifier keys as text (so that it travels to other processes), and the root of identity.

    `keys` has, by origin, all keys of a log or shard that had several, as network.json lists them.
    `founders` are its shards, with the partitions of the first assignment; `founding` are the parties
    that identity may register though nobody asks: what is checked is named by the text of all this.
    `origin` is the network's, which the tokens of requests name.
    `policy_lines` and `witness_periods` are the network's own, None if it has no policy.
    """

    log_key: str
    shard_keys: dict[int, str]
    origin: str = ""
    root_did: str | None = None
    root_key: PublicKey | None = None
    keys: dict[str, Sequence[dict[str, Any]]] = field(default_factory=dict)
    founders: tuple[Founder, ...] = ()
    founding: tuple[parties.Founder, ...] = ()
    policy_lines: tuple[str, ...] | None = None
    witness_periods: Sequence[dict[str, Any]] = ()

    @classmethod
    def from_network(cls, description: bytes) -> Trust:
        """Read a network.json.

        Raises:
            ValueError: not a network file; the message names the place.
        """
        try:
            network = msgspec.convert(read_json(description), type=_Network)
        except JsonError as error:
            raise ValueError(f"not a network file: {error.why}, in {error.place}") from error
        except msgspec.ValidationError as error:
            raise ValueError(f"not a network file: {error}") from error
        root = network.root
        trust = cls(
            log_key=network.log.verifier_key,
            shard_keys={shard.id: shard.verifier_key for shard in network.shards},
            origin=network.origin,
            root_did=root.did if root else None,
            root_key=root.key if root else None,
            founders=tuple(Founder(shard.id, shard.origin, shard.topics) for shard in network.shards),
            founding=(
                *(parties.Founder(p.did, "service", (r,), p.key) for r, p in network.services.items()),
                *(parties.Founder(p.did, p.kind, p.roles, p.key) for p in network.founders),
            ),
            keys={network.log.origin: network.log.keys, **{of.origin: of.keys for of in network.shards}},
            policy_lines=network.policy,
            witness_periods=network.witness_periods,
        )
        try:
            _ = trust.log, trust.shards, trust.policy
            _require_names(network)
        except (PolicyError, KeyTextError) as error:
            raise ValueError(f"not a network file: {error}") from error
        return trust

    @property
    def log(self) -> KeyHistory:
        """The log's keys."""
        return self._history(self.log_key)

    @property
    def shards(self) -> dict[int, KeyHistory]:
        """The shards' keys."""
        return {shard: self._history(key, may_end=True) for shard, key in self.shard_keys.items()}

    @property
    def ended(self) -> dict[str, int]:
        """The height before which a shard's chain ended, by origin, of those that did."""
        return {keys.name: keys.end for keys in self.shards.values() if keys.end is not None}

    @property
    def policy(self) -> Policy | None:
        """By which a checkpoint of the log is final; None if the network has no policy.

        Raises:
            PolicyError: lines or periods are not those of a policy.
        """
        if self.policy_lines is None:
            return None
        network = {"policy": [*self.policy_lines], "witness_periods": [*self.witness_periods]}
        log, quorum = self.log, quorum_of(network)
        periods = (*log.periods, *witness_periods_of(network, quorum))
        return Policy(logs=log.verifiers, shards={}, quorum=quorum, periods=periods)

    def _history(self, verifier_key: str, *, may_end: bool = False) -> KeyHistory:
        origin = parse_vkey(verifier_key)[0]
        return read_history(origin, verifier_key, self.keys.get(origin, ()), may_end=may_end)
