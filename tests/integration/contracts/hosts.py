"""Replicas of a contract's service on real Kafka, each with a database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from tests.asking import NETWORK
from tests.founding import public_key

from salus.contracts.contract import ContractHost
from salus.contracts.facts import FactWriter
from salus.contracts.fold import FoldStore, Follower, open_fold_store, open_follower
from salus.contracts.ports import Stating
from salus.contracts.testing.host_promises import HELD_KEYS, HeldKeys
from salus.events.did import LocalSigner
from salus.messaging import Topic, ensure_topics
from salus.runtime.identity_view import IDENTITY_TOPIC, IdentityView, open_identity_view
from salus.runtime.network import FoundingParty, Log, Network, RestoredRange, Shard
from salus.runtime.own_key import OwnKey
from salus.runtime.publishing import open_publisher
from salus.runtime.supervisor import Supervisor


@dataclass(frozen=True)
class Replica:
    """One replica: its own database and connections, the network's one topic."""

    host: ContractHost[HeldKeys]
    follower: Follower
    identity: IdentityView
    store: FoldStore


def member(signer: LocalSigner) -> FoundingParty:
    """A member that the network file names."""
    return FoundingParty(signer.did, public_key(signer), "member")


def operator(signer: LocalSigner) -> FoundingParty:
    """An operator that the network file names, of no organisation but themselves."""
    return FoundingParty(signer.did, public_key(signer), "person", ("operator",))


def network_of(
    root: LocalSigner, founders: Iterable[FoundingParty], restored: Iterable[RestoredRange] = ()
) -> Network:
    """A network of one service, which is identity, and these founders."""
    return Network(
        origin=NETWORK,
        root=FoundingParty(did=root.did, key=public_key(root)),
        services={},
        founders=tuple(founders),
        log=Log("test/log", "-"),
        shards=(Shard(0, "test/shard/0", "-", {IDENTITY_TOPIC: (0,)}),),
        restored=tuple(restored),
    )


@asynccontextmanager
async def running_replica(
    bootstrap: str,
    root: LocalSigner,
    url: str,
    founders: Iterable[FoundingParty],
    *,
    publishing: AbstractAsyncContextManager[Stating] | None = None,
    restored: Iterable[RestoredRange] = (),
) -> AsyncIterator[Replica]:
    """Run a replica; what it states goes out by `publishing`."""
    await ensure_topics(bootstrap, [Topic(IDENTITY_TOPIC, 1)])
    network = network_of(root, founders, restored)
    async with (
        open_identity_view(bootstrap, network) as identity,
        open_fold_store(url) as store,
        publishing or open_publisher(bootstrap, root, idempotent=True) as publisher,
        open_follower(
            bootstrap,
            store=store,
            identity=identity,
            contracts=[HELD_KEYS],
            partitions=network.topic_partitions(IDENTITY_TOPIC),
            supervisor=Supervisor(),
        ) as follower,
    ):
        own_key = OwnKey(identity, root, role="identity")
        writer = FactWriter(publisher, follower, own_key, ring=lambda: identity.ring)
        host = ContractHost(HELD_KEYS, follower=follower, store=store, writer=writer)
        yield Replica(host, follower, identity, store)
