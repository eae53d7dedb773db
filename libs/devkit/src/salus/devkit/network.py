"""A development network: its keys, and the public network.json that everyone is given.

Every call is harmless to repeat: a key that exists is kept, and network.json is written last.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.crypto.errors import CryptoError, LockedError
from salus.crypto.file_kms import make_kms_file
from salus.crypto.file_lock import changing_now
from salus.crypto.keys import ensure_ed25519, load_ed25519
from salus.crypto.text_files import read_text_file
from salus.devkit.errors import DevkitError, NetworkFileError
from salus.devkit.public_files import write_public
from salus.devkit.store_accounts import StoreSecrets, bucket_names, locked_buckets
from salus.events.contexts import CATALOGUE
from salus.events.did import LocalSigner, multibase_of
from salus.events.event_types import MEMBER
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.errors import PolicyError
from salus.ledger.json_reader import JsonError, read_json
from salus.ledger.note import NoteSigner
from salus.ledger.policy import Policy
from salus.ledger.quorum import Quorum
from salus.ledger.tlog_policy import TlogPolicy
from salus.messaging import (
    BROKERS_REPLICATION,
    TOPIC_SETTINGS,
    Bootstrap,
    RestoredRanges,
    Topic,
    ensure_topics,
)
from salus.runtime.manifests import Manifest, services

if TYPE_CHECKING:
    from salus.objects import Admin

OPERATOR = "operator"
_VALID_FROM = "2026-01-01T00:00:00Z"


def parties() -> list[str]:
    """Return the services that are parties of the network, each with a key of its own."""
    return [manifest.name for manifest in services() if manifest.is_party]


def output_topics() -> list[str]:
    """Return the topics that services write and that no block covers."""
    owned = (topic for manifest in services() for topic in manifest.topics.owns)
    return sorted(set(owned).difference(CATALOGUE.input_topics()))


def wide_topics() -> frozenset[str]:
    """Return the topics that many members write at once.

    The rest is written by one service each, whose order is one order.
    """
    return frozenset(kind.topic for kind in CATALOGUE.types() if kind.owner == MEMBER)


@dataclass(frozen=True, slots=True)
class Plan:
    """How large a network is and what it is called."""

    origin: str = "salus.local/dev"
    shards: int = 1
    wide_partitions: int = 4
    witnesses: int = 0

    @property
    def quorum(self) -> int:
        """How many witnesses must cosign a checkpoint: more than half of them, none if there are none."""
        return self.witnesses // 2 + 1 if self.witnesses else 0

    def witness_name(self, witness: int) -> str:
        """Return the key name of a witness, which are counted from 1."""
        return f"{self.origin}/witness/{witness}"

    def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has."""
        return self.wide_partitions if topic in wide_topics() else 1

    def shard_topics(self, shard: int) -> dict[str, list[int]]:
        """Return the input partitions that one shard seals: every partition belongs to exactly one."""
        dealt = {
            topic: [p for p in range(self.partitions(topic)) if p % self.shards == shard]
            for topic in CATALOGUE.input_topics()
        }
        return {topic: partitions for topic, partitions in dealt.items() if partitions}


class NetworkFolder:
    """The folder that holds `network.json`, `keys/`, `operator/` and `s3/`.

    `keys/` is what the services are given; the operator's key lies elsewhere, as it never goes to a server.
    """

    def __init__(self, folder: Path, *, file_name: str = "network.json") -> None:
        self.folder = folder
        self._file_name = file_name

    @property
    def file(self) -> Path:
        """The public network.json."""
        return self.folder / self._file_name

    def key_file(self, name: str) -> Path:
        """Return where the private key called `name` is."""
        return self.folder / (OPERATOR if name == OPERATOR else "keys") / f"{name}.pem"

    @property
    def store_secrets(self) -> StoreSecrets:
        """The secrets of the accounts in the object store."""
        return StoreSecrets(self.folder / "s3")

    def read(self) -> dict[str, Any]:
        """Return the content of network.json.

        Raises:
            NetworkFileError: there is none.
        """
        try:
            content: dict[str, Any] = read_json(read_text_file(self.file))
        except FileNotFoundError:
            raise NetworkFileError(f"there is no {self.file}: create the network first") from None
        except OSError as error:
            raise NetworkFileError(f"{self.file}: {error.strerror}") from None
        except JsonError as error:
            raise NetworkFileError(f"{self.file} is not a network file: {error.why}") from None
        return content

    @property
    def witnesses(self) -> int:
        """How many witnesses the policy names; one may have several keys.

        Raises:
            NetworkFileError: there is no network.json, or it is of a version that is not read any more.
        """
        try:
            quorum = Policy.from_network(json.dumps(self.read()).encode()).quorum
            return len({verifier.name for verifier in quorum.verifiers})
        except PolicyError as error:
            raise NetworkFileError(f"{self.file}: {error}") from None

    def signer(self, name: str) -> LocalSigner:
        """Return the signer of a key, under its did:key.

        Raises:
            DevkitError: there is no such key.
        """
        try:
            return LocalSigner(load_ed25519(self.key_file(name)))
        except CryptoError as error:
            raise DevkitError(str(error)) from None

    def create(self, plan: Plan) -> dict[str, Any]:
        """Make the keys and network.json unless they exist; return its content.

        A crash midway leaves keys that the next call takes up.
        """
        self.store_secrets.create()
        if self.file.exists():
            return self.read()
        network = _describe(plan, {name: self._ensure_key(name) for name in _key_names(plan)})
        self._ensure_kms()
        write_public(self.file, json.dumps(network, indent=1).encode() + b"\n", fresh=True)
        return network

    def new_services(self) -> list[Manifest]:
        """Return the services that are installed and that the network was made without: they may join it."""
        named = self.read().get("services", {})
        return [manifest for manifest in services() if manifest.is_party and manifest.name not in named]

    def ensure_service_key(self, name: str) -> LocalSigner:
        """Return the signer of a service that joins; its key is made unless it is there.

        Raises:
            DevkitError: another command has been changing the folder all the time.
        """
        with self.changing():
            return LocalSigner(self._ensure_key(name))

    def add_shard(self, shard: int) -> dict[str, Any]:
        """Return the shard's entry in network.json, made with a key of its own unless it is there.

        It seals nothing until an assignment says so. A crash midway leaves a key that the next call takes up.
        """
        with self.changing():
            network = self.read()
            for known in network["shards"]:
                if known["id"] == shard:
                    return dict(known)
            origin = f"{network['origin']}/shard/{shard}"
            vkey = NoteSigner(origin, self._ensure_key(f"shard-{shard}")).vkey
            added = {"id": shard, "origin": origin, "verifier_key": vkey, "topics": {}}
            network["shards"].append(added)
            self.write(network)
            return added

    def add_restored(self, restored: RestoredRanges) -> None:
        """Say which records were appended again from the ledger; what was said before stays."""
        with self.changing():
            network = self.read()
            ranges = {at: [*every] for at, every in restored.items()}
            for each in network.get("restored", ()):
                at = each["topic"], each["partition"]
                ranges.setdefault(at, []).append((each["first"], each["next"]))
            network["restored"] = [
                {"topic": topic, "partition": partition, "first": first, "next": end}
                for (topic, partition), every in sorted(ranges.items())
                for first, end in _merged(every)
            ]
            self.write(network)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Keep every other command from changing the folder; who changes it reads it again in here.

        Raises:
            DevkitError: another command has been changing it all the time.
        """
        try:
            with changing_now(self.file):
                yield
        except LockedError as error:
            raise DevkitError(str(error)) from None

    def write(self, network: Mapping[str, Any]) -> None:
        """Replace network.json; a reader sees the old file or the whole new one."""
        write_public(self.file, json.dumps(network, indent=1).encode() + b"\n")

    def _ensure_kms(self) -> None:
        # The services may be given this folder read-only, so storage cannot make the file itself.
        path = self.folder / "keys" / "kms"
        if not path.exists():
            make_kms_file(path)

    def _ensure_key(self, name: str) -> Ed25519PrivateKey:
        file = self.key_file(name)
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return ensure_ed25519(file)


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the same offsets in as few ranges as there are, in their order."""
    found: list[tuple[int, int]] = []
    for first, end in sorted(ranges):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        elif first < end:
            found.append((first, end))
    return found


async def create_topics(bootstrap: Bootstrap, plan: Plan) -> None:
    """Create the network's topics unless they exist; their records stay for ever."""
    names = (*CATALOGUE.input_topics(), *output_topics())
    await ensure_topics(bootstrap, [Topic(name, plan.partitions(name), TOPIC_SETTINGS) for name in names])


def described_topics(network: Mapping[str, Any]) -> list[Topic]:
    """Return the topics that a network.json speaks of, with their partitions, and the output topics.

    They get as many replicas as the broker gives by default: one here, three where it matters.
    """
    sealed: dict[str, int] = {}
    for shard in network["shards"]:
        for topic, partitions in shard["topics"].items():
            sealed[topic] = max(sealed.get(topic, 0), *(partition + 1 for partition in partitions))
    counts = {**dict.fromkeys((*CATALOGUE.input_topics(), *output_topics()), 1), **sealed}
    return [
        Topic(name, partitions, TOPIC_SETTINGS, BROKERS_REPLICATION) for name, partitions in counts.items()
    ]


async def create_buckets(admin: Admin, buckets: Mapping[str, str] | None = None) -> None:
    """Create the network's buckets unless they exist."""
    locked = locked_buckets()
    for bucket, name in (bucket_names() if buckets is None else buckets).items():
        await admin.ensure_bucket(name, object_lock=bucket in locked)


def _key_names(plan: Plan) -> Sequence[str]:
    shards = (f"shard-{shard}" for shard in range(plan.shards))
    witnesses = (f"witness-{witness}" for witness in range(1, plan.witnesses + 1))
    return (*parties(), OPERATOR, "log", *shards, *witnesses)


def _describe(plan: Plan, keys: Mapping[str, Ed25519PrivateKey]) -> dict[str, Any]:
    log_origin = f"{plan.origin}/log"
    shard_origins = [f"{plan.origin}/shard/{shard}" for shard in range(plan.shards)]
    founding = {name: _founder(keys[name], name=name, roles=[name]) for name in parties()}
    return {
        "origin": plan.origin,
        "root": founding["identity"],
        "services": founding,
        "founders": [_founder(keys[OPERATOR], kind="person", roles=[OPERATOR])],
        "log": {"origin": log_origin, "verifier_key": NoteSigner(log_origin, keys["log"]).vkey},
        "shards": [
            {
                "id": shard,
                "origin": origin,
                "verifier_key": NoteSigner(origin, keys[f"shard-{shard}"]).vkey,
                "topics": plan.shard_topics(shard),
            }
            for shard, origin in enumerate(shard_origins)
        ],
        "policy": TlogPolicy((), _quorum(plan, keys)).lines(),
    }


def _quorum(plan: Plan, keys: Mapping[str, Ed25519PrivateKey]) -> Quorum:
    numbers = range(1, plan.witnesses + 1)
    signers = [CosignatureSigner(plan.witness_name(n), keys[f"witness-{n}"]) for n in numbers]
    return Quorum.of(plan.quorum, [signer.verifier for signer in signers])


def _founder(key: Ed25519PrivateKey, *, kind: str = "service", **facts: Any) -> dict[str, Any]:
    signer = LocalSigner(key)
    public = {
        "id": signer.verification_method,
        "multibase": multibase_of(signer.public_key),
        "valid_from": _VALID_FROM,
    }
    return {"did": signer.did, "key": public, "kind": kind, **facts}
