"""What a contract service works with, opened once at the start: ring, fold, key, callers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec

from salus.contracts.contract import Contract, ContractHost
from salus.contracts.decision_tokens import DecisionTokens
from salus.contracts.facts import FactWriter
from salus.contracts.fold import FoldStore, Follower, open_fold_store, open_follower
from salus.contracts.partitions import folded_partitions
from salus.contracts.reactor_host import PACE, Obligation, Pace, ReactorHost
from salus.contracts.reactors import Reactor
from salus.contracts.settings import ContractSettings
from salus.events.catalogue import Catalogue
from salus.events.did import LocalSigner
from salus.events.event_types import EventData
from salus.events.parties import Party
from salus.runtime.auth import Authenticator, Caller, party_that_signed
from salus.runtime.identity_view import IdentityView, open_identity_view
from salus.runtime.keys import load_signer
from salus.runtime.manifests import Manifest
from salus.runtime.network import Network
from salus.runtime.own_key import OwnKey
from salus.runtime.publishing import open_publisher
from salus.runtime.service import Check, wait_for
from salus.runtime.supervisor import Supervisor

SettingsT = TypeVar("SettingsT", bound=ContractSettings)
S = TypeVar("S", bound=msgspec.Struct)


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Dependencies(Generic[SettingsT]):
    """What a contract service works with, of its own and of the network's.

    `authenticate` tells who calls, `writer` states facts under the service's key `signer`, and `follower`
    folds into `store`; `host` is how commands of one contract are executed on them, `reactor` how what they
    oblige to is settled.
    """

    manifest: Manifest
    settings: SettingsT
    network: Network
    signer: LocalSigner
    ring: IdentityView
    store: FoldStore
    follower: Follower
    own_key: OwnKey
    writer: FactWriter
    authenticate: Authenticator
    supervisor: Supervisor
    reactors: list[ReactorHost[Any]] = field(default_factory=list)
    _hosts: dict[str, ContractHost[Any]] = field(default_factory=dict)

    @property
    def catalogue(self) -> Catalogue:
        """The event types that accepted events are read with, members' own included, as they are now."""
        return self.ring.ring.types.known

    def now(self) -> datetime:
        """Return the time."""
        return now()

    def host(self, contract: Contract[S]) -> ContractHost[S]:
        """Return the host that executes commands of one contract, always the same: there they take turns."""
        if (known := self._hosts.get(contract.kind)) is None:
            known = ContractHost(contract, follower=self.follower, store=self.store, writer=self.writer)
            self._hosts[contract.kind] = known
        return known

    @property
    def decisions(self) -> DecisionTokens:
        """What requires decisions of consent that are meant for this service: `decisions.require`."""
        return DecisionTokens(self.ring, self.manifest.name)

    async def party_of(self, caller: Caller) -> Party:
        """Return what is known of a caller now: a command may have waited for its turn.

        Raises:
            Refusal: the key that signed the request does not sign any more, there is no such party, or its
                member is suspended or expelled.
        """
        ring = await self.ring.catch_up()
        return party_that_signed(caller.party.did, caller.request, ring, at=self.now())

    def reactor(
        self,
        reactor: Reactor[S],
        *,
        work: Callable[[Obligation[S]], Awaitable[None]],
        outcome: Callable[[S, str], EventData],
        pace: Pace = PACE,
    ) -> ReactorHost[S]:
        """Return the host that settles what aggregates oblige to; it runs as long as the service does."""
        made = ReactorHost(
            reactor,
            host=self.host(reactor.contract),
            follower=self.follower,
            store=self.store,
            signs=self.own_key.check,
            work=work,
            outcome=outcome,
            pace=pace,
        )
        self.reactors.append(made)
        return made

    async def wait_for(self, name: str, check: Check) -> None:
        """Return once the check passes; until then the service says in /readyz that it waits."""
        await wait_for(self.settings, name, check)


@asynccontextmanager
async def open_dependencies(
    manifest: Manifest,
    settings: SettingsT,
    *,
    folds: Sequence[Contract[Any]],
    reactors: Sequence[Reactor[Any]],
    approvals: bool,
) -> AsyncIterator[Dependencies[SettingsT]]:
    """Connect everything, and fold from here on; Kafka must be there.

    Raises:
        ManifestError: a contract folds a topic that the manifest does not say it reads.
    """
    network = Network.read(settings.network_file)
    signer = load_signer(settings.signing_key_file, settings.signing_key_id)
    kafka = settings.kafka
    topics = dict.fromkeys(contract.topic for contract in folds)
    supervisor = Supervisor()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(
            open_fold_store(settings.database_url, release=settings.release)
        )
        ring = await stack.enter_async_context(open_identity_view(kafka, network))
        partitions = await _partitions_of(topics, network, ring, settings)
        publisher = await stack.enter_async_context(open_publisher(kafka, signer, idempotent=True))
        follower = await stack.enter_async_context(
            open_follower(
                kafka,
                store=store,
                identity=ring,
                contracts=folds,
                partitions=partitions,
                supervisor=supervisor,
                reactors=reactors,
            )
        )
        own_key = OwnKey(ring, signer, role=manifest.name)
        yield Dependencies(
            manifest=manifest,
            settings=settings,
            network=network,
            signer=signer,
            ring=ring,
            store=store,
            follower=follower,
            own_key=own_key,
            writer=FactWriter(publisher, follower, own_key, ring=lambda: ring.ring),
            authenticate=Authenticator(
                ring,
                service=manifest.name,
                own_key=own_key,
                has_stated=partial(follower.has_stated, topic=manifest.own_topic),
                approvals=approvals,
                requests=settings.requests(),
            ),
            supervisor=supervisor,
        )


async def _partitions_of(
    topics: Iterable[str], network: Network, ring: IdentityView, settings: ContractSettings
) -> list[tuple[str, int]]:
    """Return the partitions of what is folded, once a shard seals each topic.

    That of a service which joined a running network is assigned by an event. Before that the service waits:
    what it stated would be on no ledger.
    """

    def partitions() -> list[tuple[str, int]]:
        known = ring.ring
        return folded_partitions(
            topics, network=network, assignments=known.assignments, catalogue=known.catalogue
        )

    async def check() -> None:
        await ring.catch_up()
        partitions()

    if not {topic for shard in network.shards for topic in shard.topics}.issuperset(topics):
        await wait_for(settings, "assignment", check)
    return partitions()
