"""The public network file: who the founding services are and which keys the ledger is checked with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from salus.crypto.text_files import read_text_file
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import PartyKind, PublicKey
from salus.events.fields import RoleName
from salus.events.keyring import KeyRing
from salus.events.parties import Founder
from salus.events.party_form import objection_to_roles
from salus.events.sharding import Assignment, Sharding
from salus.ledger.json_reader import JsonError, read_json
from salus.ledger.key_periods import KeyHistory, read_history
from salus.messaging import RestoredRanges


class FoundingParty(msgspec.Struct, frozen=True):
    """A party that exists before any event: a service, or the first operator."""

    did: str
    key: PublicKey
    kind: PartyKind = "service"
    roles: tuple[RoleName, ...] = ()
    name: str | None = None


class Log(msgspec.Struct, frozen=True):
    """The network's log: its origin, its latest C2SP verifier key, and all its keys if it had others."""

    origin: str
    verifier_key: str
    keys: tuple[dict[str, Any], ...] = ()

    @property
    def history(self) -> KeyHistory:
        """The keys and the tree sizes at which they sign; raises PolicyError if they make no sense."""
        return read_history(self.origin, self.verifier_key, self.keys)


class Shard(msgspec.Struct, frozen=True):
    """One chain: its id, origin, latest verifier key, partitions, and all its keys if it had others."""

    id: int
    origin: str
    verifier_key: str
    topics: dict[str, tuple[int, ...]]
    keys: tuple[dict[str, Any], ...] = ()

    @property
    def history(self) -> KeyHistory:
        """The keys and the heights at which they sign; raises PolicyError if they make no sense."""
        return read_history(self.origin, self.verifier_key, self.keys, may_end=True)


class RestoredRange(msgspec.Struct, frozen=True):
    """Offsets of a partition that were filled again from the ledger: `first`, and the one after the last."""

    topic: str
    partition: int
    first: int
    next: int


class Network(msgspec.Struct, frozen=True):
    """network.json; unknown fields are for other readers and are ignored."""

    origin: str
    root: FoundingParty
    services: dict[RoleName, FoundingParty]
    log: Log
    shards: tuple[Shard, ...]
    founders: tuple[FoundingParty, ...] = ()
    restored: tuple[RestoredRange, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Network:
        """Read the file.

        Raises:
            ValueError: it is not a network file; the message names the file and the place in it.
        """
        try:
            network = msgspec.convert(read_json(read_text_file(path)), type=cls)
        except JsonError as error:
            raise ValueError(f"{path}: {error.why}, in {error.place}") from error
        except msgspec.ValidationError as error:
            raise ValueError(f"{path}: {error}") from error
        unfit = network.unfit_roles()
        if unfit is not None:
            raise ValueError(f"{path}: {unfit}")
        return network

    def unfit_roles(self) -> str | None:
        """Return a sentence about the first founding party that cannot hold its roles."""
        for founder in self._founders():
            objection = objection_to_roles(founder.roles, founder.kind, catalogue=CATALOGUE)
            if objection is not None:
                return f"{founder.did}: {objection.why}"
        return None

    def require_keys(self) -> None:
        """Raise PolicyError unless the keys of log and shards make sense."""
        _ = self.log.history, [shard.history for shard in self.shards]

    def restored_ranges(self) -> RestoredRanges:
        """Return where the records have the times that a broker gave them which was lost."""
        found: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for each in self.restored:
            found.setdefault((each.topic, each.partition), []).append((each.first, each.next))
        return found

    def new_ring(self) -> KeyRing:
        """Return the key ring before the first identity event: it knows the root alone."""
        return KeyRing.rooted(
            CATALOGUE,
            network=self.origin,
            did=self.root.did,
            key=self.root.key,
            founders=self._founders(),
        )

    def _founders(self) -> list[Founder]:
        services = [Founder(p.did, "service", (role,), p.key) for role, p in self.services.items()]
        return [*services, *(Founder(p.did, p.kind, p.roles, p.key) for p in self.founders)]

    def topic_partitions(
        self, topic: str, assignments: Iterable[tuple[int, Assignment]] = ()
    ) -> list[tuple[str, int]]:
        """Return the partitions of an input topic, over all shards.

        Those of a topic that was not sealed from the beginning are in `assignments`, as a key ring has them.

        Raises:
            LookupError: no shard seals that topic.
        """
        found = sorted({p for shard in self.shards for p in shard.topics.get(topic, ())})
        if not found:
            holders = Sharding.of(self.shards, assignments).now.holders
            found = sorted(partition for known, partition in holders if known == topic)
        if not found:
            raise LookupError(f"no shard of {self.origin} seals {topic}")
        return [(topic, partition) for partition in found]
