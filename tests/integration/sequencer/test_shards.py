"""One shard becomes three and then two while records come in and processes die: nothing is lost or twice."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.asking import NETWORK
from tests.conftest import PlatformFactory

from salus.archive.body import decode_body
from salus.archive.fsck import StoreAddress, fsck
from salus.archive.trust import Trust
from salus.cli.callers import call
from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import NetworkAccess
from salus.cli.sharding import Assignment, Standing, settled
from salus.cli.shards import assign_elsewhere, assign_on, look
from salus.client import Publisher
from salus.client.auth import make_possession
from salus.client.handle import Handle
from salus.devkit.narration import PlainNarrator
from salus.devkit.network import Plan
from salus.devkit.platform import Platform
from salus.devkit.processes import is_alive
from salus.devkit.waiting import until
from salus.events.contexts import CATALOGUE
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.contexts.identity import ShardsAssigned
from salus.events.did import LocalSigner, multibase_of
from salus.events.envelope import decode_event
from salus.events.event_types import type_of
from salus.ledger.block import Header, body_key, header_key, parse_header
from salus.ledger.note import split_note
from salus.ledger.policy import Policy
from salus.ledger.receipt import verify_receipt
from salus.messaging import Position, Reader
from salus.objects import NotFoundError, ObjectStore

WAIT_S = 90.0
GIVER = "sequencer"
PATIENTS = [f"urn:uuid:{uuid.UUID(int=n)}" for n in range(40)]
LIMITS = {"SALUS_BLOCK_RECORDS_MAX": "200", "SALUS_BLOCK_AGE_MS_MAX": "150"}


class Load:
    """A member that publishes without a pause, and remembers what stands where."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self.handles: list[Handle] = []

    async def run(self) -> None:
        while True:
            subject = PATIENTS[len(self.handles) % len(PATIENTS)]
            data = DocumentRegistered(patient=subject, object=f"o-{len(self.handles)}", media_type="a/b")
            self.handles.append(await self._publisher.publish(data, subject=subject))
            await asyncio.sleep(0.01)

    async def published(self) -> dict[tuple[str, int, int], bytes]:
        """Return the value of every record by its position."""
        found = {}
        for handle in self.handles:
            at: Position = await handle.position()
            found[at.topic, at.partition, at.offset] = handle.value
        return found


@asynccontextmanager
async def under_load(platform: Platform) -> AsyncIterator[Load]:
    member = LocalSigner(Ed25519PrivateKey.generate())
    key = {
        "id": member.verification_method,
        "multibase": multibase_of(member.public_key),
        "valid_from": (datetime.now(UTC) - timedelta(minutes=5)).isoformat(),
        "proof": make_possession(member, network=NETWORK, now=datetime.now(UTC)),
    }
    body = {"did": member.did, "kind": "member", "name": "A clinic", "keys": [key]}
    await call(
        platform, "identity", "POST", "/parties", signer=platform.network.signer("operator"), body=body
    )
    async with Publisher(platform.kafka_bootstrap, member, delivery_s=WAIT_S) as publisher:
        load = Load(publisher)
        running = asyncio.create_task(load.run())
        try:
            yield load
        finally:
            running.cancel()
            await asyncio.wait([running])


async def reshard(platform: Platform, *, to: int, killing: str) -> Assignment:
    """Assign, kill one of the sequencers at once, start it again, and wait for the hand-over."""
    signer = platform.network.signer("operator")
    if killing == GIVER:
        assignment, _ = await assign_on(platform, signer, to, [], wait=False, narrator=PlainNarrator())
    else:
        identity = platform.service_url("identity")
        assignment = await assign_elsewhere(NetworkAccess(platform.network, identity), signer, to, [])
    platform.kill(killing)
    assert await until(lambda: not is_alive(platform.services[killing].process), deadline_s=WAIT_S)
    await platform.start_services([killing])
    standings: Mapping[int, Standing | None] = {}

    async def done() -> bool:
        nonlocal standings
        _, standings = await look(platform)
        return settled(assignment, standings) == set(assignment.homes)

    assert await until(done, deadline_s=WAIT_S, period_s=0.2), standings
    return assignment


async def headers_of(objects: ObjectStore, shard: int) -> list[Header]:
    headers: list[Header] = []
    while True:
        try:
            note = await objects.get(header_key(shard, len(headers)), bytes_max=1 << 30)
        except NotFoundError:
            return headers
        headers.append(parse_header(split_note(note)[0]))


async def leaves_of(
    objects: ObjectStore, headers: Mapping[int, list[Header]]
) -> dict[tuple[str, int, int], int]:
    """Return how often each position is a leaf."""
    found: dict[tuple[str, int, int], int] = defaultdict(int)
    for shard, chain in headers.items():
        for header in chain:
            body = await objects.get(body_key(shard, header.height, header.root), bytes_max=1 << 30)
            columns = decode_body(body, columns=["topic", "partition", "offset"]).to_pylist()
            for row in columns:
                found[row["topic"], row["partition"], row["offset"]] += 1
    return dict(found)


async def everything_sealed(platform: Platform, assignment: Assignment) -> bool:
    async with Reader(platform.kafka_bootstrap, starts=dict.fromkeys(assignment.homes, 0)) as reader:
        ends = await reader.end_offsets()
    _, standings = await look(platform)
    sealed = {at: offset for s in standings.values() if s for at, offset in s.sealing.items()}
    return sealed.keys() == ends.keys() and all(sealed[at] >= end for at, end in ends.items())


@pytest.mark.timeout(600)
async def test_one_shard_becomes_three_and_then_two_under_load(platform_factory: PlatformFactory) -> None:
    platform = await platform_factory(plan=Plan(wide_partitions=4), environment=LIMITS, start=False)
    await platform.start_parts()
    await platform.start_services(["identity", "sequencer", "anchoring"])
    s3 = platform.s3
    address = StoreAddress(s3.endpoint, s3.access_key, s3.secret_key, s3.region, "salus-ledger", "salus-log")
    objects = address.open().ledger
    old_policy = Policy.from_network(platform.network.file.read_bytes())

    async with under_load(platform) as load:
        assert await until(lambda: len(load.handles) > 50, deadline_s=WAIT_S)
        three = await reshard(platform, to=3, killing=GIVER)
        grown = len(load.handles)
        assert await until(lambda: len(load.handles) > grown + 50, deadline_s=WAIT_S)
        two = await reshard(platform, to=2, killing="sequencer-2")
        grown = len(load.handles)
        assert await until(lambda: len(load.handles) > grown + 50, deadline_s=WAIT_S)
    published = await load.published()
    assert len(published) == len(load.handles)

    async def sealed() -> bool:
        return await everything_sealed(platform, two)

    assert await until(sealed, deadline_s=WAIT_S, period_s=0.3)
    headers = {shard: await headers_of(objects, shard) for shard in (0, 1, 2)}
    leaves = await leaves_of(objects, headers)

    assert set(two.homes.values()) == {0, 1}
    assert set(three.homes.values()) == {0, 1, 2}
    assert headers[1][0].handed("took"), "a new shard's chain begins with what it took"
    assert headers[2][-1].next_offsets == {}, "a removed shard's chain ends with what it gave"
    assert set(leaves.values()) == {1}
    assert published.keys() <= leaves.keys()
    clinical = {at for at in leaves if at[0] == "salus.clinical.events"}
    assert clinical == published.keys(), "the leaves are the records that were published, and no others"

    await every_block_anchored(platform, {shard: len(chain) for shard, chain in headers.items()})
    description = platform.network.file.read_bytes()
    report = await fsck(address, Trust.from_network(description), deep=True)
    assert report.ok, [str(finding) for finding in report.errors]
    assert [f.code for f in report.findings if f.code == "handover-pending"] == []
    await receipts_verify(platform, headers, published, Policy.from_network(description))
    await the_event_vouches_for_the_new_keys(platform, objects, headers, old_policy)
    await the_command_lists_and_refuses(platform)


async def every_block_anchored(platform: Platform, heights: Mapping[int, int]) -> None:
    async def anchored() -> bool:
        status = (await call(platform, "anchoring", "GET", "/status")).json()
        assert not status["stalled"], status
        return bool(status["next_heights"] == {str(shard): height for shard, height in heights.items()})

    assert await until(anchored, deadline_s=WAIT_S, period_s=0.3)


async def receipts_verify(
    platform: Platform,
    headers: Mapping[int, list[Header]],
    published: Mapping[tuple[str, int, int], bytes],
    policy: Policy,
) -> None:
    """Verify the receipts of the records on both sides of every hand-over, and of some others."""
    edges = {
        (h.topic, h.partition, offset)
        for chain in headers.values()
        for header in chain
        for h in header.handovers
        for offset in (h.offset - 1, h.offset)
    }
    wanted = sorted((edges & published.keys()) | set(sorted(published)[::50]))
    assert len(edges & published.keys()) >= 4
    origins = set()
    for topic, partition, offset in wanted:
        query = [("topic", topic), ("partition", str(partition)), ("offset", str(offset)), ("wait_s", "30")]
        answer = await call(platform, "anchoring", "GET", "/receipts", query=query)
        proven = verify_receipt(answer.content, policy, event=published[topic, partition, offset])
        assert proven.leaf.is_accepted
        origins.add(proven.header.origin)
    assert len(origins) == 3


async def the_event_vouches_for_the_new_keys(
    platform: Platform, objects: ObjectStore, headers: Mapping[int, list[Header]], old_policy: Policy
) -> None:
    """Whoever trusts the old network.json verifies the event that has the keys of the new shards."""
    for header in headers[0]:
        body = await objects.get(body_key(0, header.height, header.root), bytes_max=1 << 30)
        rows = decode_body(body, columns=["topic", "partition", "offset", "type", "value"]).to_pylist()
        for row in rows:
            if row["type"] != type_of(ShardsAssigned).name or not (event := added_by(row["value"])):
                continue
            query = [(name, str(row[name])) for name in ("topic", "partition", "offset")]
            answer = await call(platform, "anchoring", "GET", "/receipts", query=query)
            proven = verify_receipt(answer.content, old_policy, event=row["value"])
            assert proven.leaf.is_accepted
            assert event == {s["id"]: s["verifier_key"] for s in platform.network.read()["shards"] if s["id"]}
            return
    pytest.fail("the event is not on the ledger")


def added_by(value: bytes) -> dict[int, str]:
    data = decode_event(value, CATALOGUE).data
    assert isinstance(data, ShardsAssigned)
    return {shard.id: shard.verifier_key for shard in data.added}


async def the_command_lists_and_refuses(platform: Platform) -> None:
    operator = platform.network.signer("operator")
    with pytest.raises(CommandError, match="already"):
        await assign_on(platform, operator, 2, [], wait=True, narrator=PlainNarrator())
    shown = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "salus.cli", "shard", "list", "--json"],
        env={**os.environ, "SALUS_STATE": str(platform.state.folder)},
        capture_output=True,
        check=True,
    )
    listed = json.loads(shown.stdout)
    assert (listed["epoch"], listed["settled"]) == (2, True)
    assert [bool(shard["assigned"]) for shard in listed["shards"]] == [True, True, False]
    late = {"epoch": 2, "shards": [{"id": 0, "topics": {}}], "added": []}
    with pytest.raises(CommandError, match="wrong-epoch"):
        await call(platform, "identity", "POST", "/shards", signer=operator, body=late)
    for shard, code in ((1, Exit.NO), (2, Exit.OK)):
        removed = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "salus.cli", "shard", "remove", str(shard)],
            env={**os.environ, "SALUS_STATE": str(platform.state.folder)},
            check=False,
        )
        assert removed.returncode == code
    run = platform.state.run()
    assert run is not None
    assert run.services.keys() == {"identity", "anchoring", "sequencer", "sequencer-1"}
    assert not is_alive(platform.services["sequencer-2"].process)
