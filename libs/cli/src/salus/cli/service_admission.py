"""How a service that is installed after a network was made joins it: what is done, and what is left to do.

Each step looks first whether it is done, so a command that was ended anywhere is simply run again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from salus.cli.callers import RefusedError, json_body
from salus.cli.display import shown
from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import NetworkAccess
from salus.cli.party_commands import target_of
from salus.cli.proven_keys import prove
from salus.cli.shard_sequencers import present_assignment
from salus.cli.sharding import Assignment, Partition
from salus.client.auth import RequestLine
from salus.devkit.network import wide_topics
from salus.events.contexts import CATALOGUE, identity
from salus.events.did import LocalSigner
from salus.runtime.manifests import Manifest, services

SECONDED = "one operator, or two where operators are of several organisations"


@dataclass(frozen=True)
class Admission:
    """A service, and how far it has joined: whether it is registered, and which shard seals its topics."""

    manifest: Manifest
    did: str | None
    is_registered: bool
    assignment: Assignment

    @property
    def name(self) -> str:
        """The service's name, which is its role too."""
        return self.manifest.name

    @property
    def topics(self) -> list[str]:
        """Its topics that blocks are made of; those that nothing seals need no assignment."""
        return sorted(set(self.manifest.topics.owns).intersection(CATALOGUE.input_topics()))

    @property
    def unsealed(self) -> list[str]:
        """Its topics that no shard seals yet."""
        sealed = {topic for topic, _ in self.assignment.homes}
        return [topic for topic in self.topics if topic not in sealed]

    @property
    def is_complete(self) -> bool:
        """Tell whether the network has taken it on."""
        return self.is_registered and not self.unsealed

    def steps(self) -> list[tuple[bool, str]]:
        """Return each step with whether it is done."""
        who = f" as {self.did}" if self.did else " with a key that is made here"
        return [
            (self.is_registered, f"register {self.name}{who}, with the role {self.name}: {SECONDED}"),
            *((t not in self.unsealed, f"let a shard seal {t}: one operator") for t in self.topics),
        ]


def installed_service(name: str) -> Manifest:
    """Return the manifest of a service that may join.

    Raises:
        CommandError: nothing of that name is installed that is a party of a network.
    """
    found = {manifest.name: manifest for manifest in services() if manifest.is_party}
    if name not in found:
        known = ", ".join(sorted(found))
        sentence = f"NAME: no service {shown(name)} is installed here: install its package"
        raise CommandError(Exit.USAGE, f"{sentence}; there are {known}")
    if any(topic in wide_topics() for topic in found[name].topics.owns):
        sentence = (
            f"{name} owns a topic that members write to, whose partitions `salus shard assign` deals out"
        )
        raise CommandError(Exit.NO, sentence)
    return found[name]


async def admission_of(manifest: Manifest, network: NetworkAccess) -> Admission:
    """Return how far a service has joined, by identity and the key in the network's folder.

    Raises:
        CommandError: identity does not answer, or the key's party is another kind of party.
    """
    assignment = await present_assignment(network)
    file = network.folder.key_file(manifest.name)
    if not file.exists():
        return Admission(manifest, None, is_registered=False, assignment=assignment)
    did = network.folder.signer(manifest.name).did
    try:
        party = await network.party(did)
    except RefusedError as error:
        if error.problem != "unknown-party":
            raise
        return Admission(manifest, did, is_registered=False, assignment=assignment)
    if party.kind != "service" or manifest.name not in party.roles:
        sentence = f"{did} is registered, and not as a service with the role {manifest.name}"
        raise CommandError(Exit.NO, f"{sentence}: see `salus party show`, and `salus party grant-role`")
    return Admission(manifest, did, is_registered=True, assignment=assignment)


def registration(manifest: Manifest, signer: LocalSigner, *, network: str, now: datetime) -> RequestLine:
    """Return the request that registers a service; `signer` is its own key, which proves that it joins."""
    key = prove(signer, network=network, member=None, now=now)
    body = {
        "did": signer.did,
        "kind": "service",
        "name": manifest.name,
        "roles": [manifest.name],
        "keys": [msgspec.to_builtins(key)],
    }
    return RequestLine("POST", target_of("parties"), json_body(body))


def sealing(admission: Admission, shard: int | None) -> RequestLine:
    """Return the request that lets a shard seal its topics; by default the one that seals identity's.

    Raises:
        CommandError: the network has no such shard.
    """
    before = admission.assignment
    if shard is None:
        shard = before.homes[identity.CONTEXT.topic, 0]
    if shard not in before.origins:
        raise CommandError(Exit.USAGE, f"--shard: the network has no shard {shard}: see `salus shard list`")
    added: Mapping[Partition, int] = {(topic, 0): shard for topic in admission.unsealed}
    after = Assignment(before.epoch + 1, {**before.homes, **added}, before.origins)
    shards = [{"id": one, "topics": after.topics_of(one)} for one in sorted(after.origins)]
    return RequestLine("POST", "/shards", json_body({"epoch": after.epoch, "shards": shards, "added": []}))


async def admit(
    manifest: Manifest,
    network: NetworkAccess,
    operator: Callable[[], LocalSigner],
    *,
    shard: int | None = None,
) -> Admission:
    """Do what is left until the network has taken a service on, and return how far it is then.

    A crash after the key was made leaves a key that the next call takes. After the registration the service
    waits, and nobody takes events from it: no shard seals its topic, and the service waits for one. The
    operator's key is looked for when something is left.

    Raises:
        RefusedError: identity refused, as where a second operator has to approve the registration.
        CommandError: it does not answer.
    """
    own = network.folder.ensure_service_key(manifest.name)
    before = await admission_of(manifest, network)
    if not before.is_registered:
        line = registration(manifest, own, network=network.origin, now=datetime.now(UTC))
        await network.command(line, signer=operator())
        before = await admission_of(manifest, network)
    if before.unsealed:
        answer: dict[str, Any] = await network.command(sealing(before, shard), signer=operator())
        return Admission(manifest, before.did, is_registered=True, assignment=Assignment.of(answer))
    return before
