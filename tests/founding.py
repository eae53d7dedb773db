"""Who belongs to a network, for tests without the identity service: what it would state, truly asked for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.asking import NETWORK, UNASKED, proofs_of, truly_asked

from salus.devkit.waiting import until
from salus.events.contexts.identity import PartyKind, PartyRegistered, PublicKey
from salus.events.did import LocalSigner, multibase_of
from salus.events.fields import RoleName
from salus.events.requests import Request
from salus.runtime.network import Network
from salus.runtime.publishing import ServicePublisher

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def public_key(signer: LocalSigner, since: datetime = LONG_AGO) -> PublicKey:
    """The key of a signer, as it is registered."""
    return PublicKey(signer.verification_method, multibase_of(signer.public_key), since)


def founding(file: Path) -> list[PartyRegistered]:
    """What identity states when it starts: whom the network file names besides itself."""
    network = Network.read(file)
    request = Request.of_service(network.root.did)
    services = [(role, party) for role, party in network.services.items() if party.did != network.root.did]
    return [
        *(PartyRegistered(p.did, "service", (p.key,), (role,), request=request) for role, p in services),
        *(PartyRegistered(p.did, p.kind, (p.key,), p.roles, request=request) for p in network.founders),
    ]


def add_founder(file: Path, signer: LocalSigner, kind: PartyKind, roles: Sequence[RoleName] = ()) -> None:
    """Let the network file name one more party."""
    network: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    key = {"id": signer.verification_method, "multibase": multibase_of(signer.public_key)}
    founder = {
        "did": signer.did,
        "key": {**key, "valid_from": LONG_AGO.isoformat()},
        "kind": kind,
        "roles": [*roles],
    }
    network["founders"] = [*network.get("founders", []), founder]
    file.write_text(json.dumps(network), encoding="utf-8")


def joining(
    signer: LocalSigner,
    *,
    by: LocalSigner,
    kind: PartyKind = "person",
    roles: tuple[RoleName, ...] = (),
    member: str | None = None,
    network: str = NETWORK,
) -> PartyRegistered:
    """What identity states when a network's only operator, or a member, registers somebody."""
    data = PartyRegistered(signer.did, kind, (public_key(signer),), roles, member, request=UNASKED)
    # The proof is older than the registration, as when its holder made it before.
    now = datetime.now(UTC)
    proofs = proofs_of(signer, member=member, at=now - timedelta(seconds=5), network=network)
    return truly_asked(data, by, at=now, proofs=proofs, network=network)


async def stated(publisher: ServicePublisher, facts: Iterable[PartyRegistered]) -> None:
    """State facts one after the other, each in a later millisecond: a key counts from after its own on."""
    for fact in facts:
        await publisher.publish(fact, subject=fact.did, expected_version=0)
        await next_millisecond()


async def next_millisecond() -> None:
    """Wait until what is appended is later than what was appended before the call."""
    before = _milliseconds()
    assert await until(lambda: _milliseconds() > before, deadline_s=60, period_s=0.001)


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
