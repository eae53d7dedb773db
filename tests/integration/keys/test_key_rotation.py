"""Keys of sequencer, log and witnesses change over while events keep coming, on real Kafka and MinIO."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from httpx import AsyncClient, TransportError
from tests.conftest import PlatformFactory

from salus.client import Publisher
from salus.crypto.keys import load_ed25519
from salus.devkit.network import Plan
from salus.devkit.platform import Platform
from salus.devkit.waiting import until
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.did import LocalSigner
from salus.ledger.block import header_key, parse_header, sign_header
from salus.ledger.errors import ReceiptError
from salus.ledger.merkle import EMPTY_ROOT, leaf_hash
from salus.ledger.note import NoteSigner, split_note
from salus.ledger.policy import Policy
from salus.ledger.receipt import verify_receipt
from salus.messaging import Position
from salus.objects import NotFoundError

SERVICES = ("identity", "anchoring", "sequencer", "witness-1", "witness-2", "audit")
ROTATED = (("sequencer",), ("log",), ("witness", "--number", "2"))
WAIT_S_MAX = 60
LOAD_PERIOD_S = 0.05


@dataclass
class Load:
    """A member that keeps publishing; where each event was put."""

    publisher: Publisher
    patient: str = field(default_factory=lambda: f"urn:uuid:{uuid.uuid4()}")
    positions: list[Position] = field(default_factory=list)

    async def publish(self) -> Position:
        data = DocumentRegistered(patient=self.patient, object=str(uuid.uuid4()), media_type="text/plain")
        position = await (await self.publisher.publish(data, subject=self.patient)).position()
        self.positions.append(position)
        return position

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        async def for_ever() -> None:
            while True:
                await self.publish()
                await asyncio.sleep(LOAD_PERIOD_S)

        task = asyncio.create_task(for_ever())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@dataclass(frozen=True)
class Network:
    """A platform with two witnesses, both of whom have to cosign."""

    platform: Platform

    async def salus(self, *arguments: str) -> Any:
        """Run the command as an operator does; return its JSON."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "salus.cli", *arguments, "--json"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "SALUS_STATE": str(self.platform.state.folder)},
        )
        out, err = await process.communicate()
        assert process.returncode in {0, 1}, f"{arguments}: {err.decode()}"
        return json.loads(out)

    @property
    def description(self) -> bytes:
        return self.platform.network.file.read_bytes()

    async def headers(self) -> list[bytes]:
        """Return the headers of the chain, from the first on."""
        store = self.platform.bucket("salus-ledger")
        notes: list[bytes] = []
        with contextlib.suppress(NotFoundError):
            while True:
                notes.append(await store.get(header_key(0, len(notes)), bytes_max=1 << 30))
        return notes

    async def receipt(self, at: Position, policy: bytes) -> bytes:
        """Return a receipt that verifies under a policy, waiting for it."""
        found = b""

        async def there() -> bool:
            nonlocal found
            query: dict[str, str | int] = {
                "topic": at.topic,
                "partition": at.partition,
                "offset": at.offset,
                "wait_s": 30,
            }
            async with AsyncClient(base_url=self.platform.service_url("anchoring"), timeout=60) as http:
                with contextlib.suppress(TransportError):
                    answer = await http.get("/receipts", params=query)
                    found = answer.content
                    return answer.status_code == 200
            return False

        assert await until(there, deadline_s=WAIT_S_MAX), found
        assert verify_receipt(found, Policy.from_network(policy)).leaf.is_accepted
        return found


@pytest.fixture
async def network(platform_factory: PlatformFactory) -> Network:
    platform = await platform_factory(plan=Plan(witnesses=2), start=False)
    await platform.start_parts()
    await platform.start_services(SERVICES)
    made = Network(platform)
    await made.salus("party", "register", "hospital")
    return made


async def test_all_keys_rotate_under_load_without_a_gap(network: Network, tmp_path: Path) -> None:
    platform, monitor = network.platform, ("ledger", "monitor", "--once", "--state", str(tmp_path / "seen"))
    hospital = platform.network.folder / "keys" / "parties" / "hospital.pem"
    before = network.description
    retired = load_ed25519(platform.network.key_file("shard-0"))
    pids = {name: service.process.pid for name, service in platform.services.items()}
    async with Publisher(platform.kafka_bootstrap, _signer(hospital)) as publisher:
        load = Load(publisher)
        old = await network.receipt(await load.publish(), before)
        assert (await network.salus(*monitor))["final"]
        async with load.going_on():
            ended = {one[0]: (await network.salus("key", "rotate", *one))[0] for one in ROTATED}
        new = await network.receipt(await load.publish(), network.description)

    # Old and new receipts verify with the present network file alone; the file of before refuses new ones.
    for receipt in (old, new):
        assert verify_receipt(receipt, Policy.from_network(network.description)).leaf.is_accepted
    with pytest.raises(ReceiptError, match="header-signature"):
        verify_receipt(new, Policy.from_network(before))
    assert (await network.salus(*monitor))["final"]
    # Nobody was restarted, and every event that was acknowledged is on the ledger once.
    assert {name: service.process.pid for name, service in platform.services.items()} == pids
    assert all(ready for ready, _ in (await platform.ready()).values())
    notes = await network.headers()
    _require_whole(notes, load.positions, end=ended["sequencer"]["until"], old=ended["sequencer"]["key_id"])
    events = await network.salus("ledger", "query", _RECORDED)
    assert [row["type"].split(".")[-2] for row in events] == ["key-rotated", "key-retired"] * 3
    assert (await network.salus("ledger", "fsck"))["ok"]
    await _a_retired_key_forges(network, retired)


_RECORDED = "SELECT type FROM leaves WHERE type LIKE 'salus.network.key-%' ORDER BY \"offset\""


def _signer(file: Path) -> LocalSigner:
    return LocalSigner(load_ed25519(file))


def _require_whole(notes: list[bytes], positions: list[Position], *, end: int, old: str) -> None:
    """Every height has the keys that it should, the hand-over both, and every event is covered."""
    headers = [parse_header(split_note(note)[0]) for note in notes]
    signed = [[s.key_id.hex() for s in split_note(note)[1]] for note in notes]

    assert [header.height for header in headers] == list(range(len(headers)))
    assert signed[0] == [old]
    assert old in signed[end - 1]
    assert len(signed[end - 1]) == 2
    assert old not in signed[-1]
    ranges = [r for header in headers for r in header.ranges]
    covered = {(r.topic, r.partition, offset) for r in ranges for offset in range(r.first, r.next)}
    assert {(p.topic, p.partition, p.offset) for p in positions} <= covered


async def _a_retired_key_forges(network: Network, key: Ed25519PrivateKey) -> None:
    """A thief of the old key puts a block after the last one; fsck names it, and the log does not take it."""
    await network.platform.stop_service("sequencer")
    notes = await network.headers()
    last = parse_header(split_note(notes[-1])[0])
    forged = replace(
        last,
        height=last.height + 1,
        previous=leaf_hash(notes[-1]),
        leaves=0,
        accepted=0,
        root=EMPTY_ROOT,
        ranges=tuple(replace(r, first=r.next) for r in last.ranges),
    )
    note = sign_header(forged, NoteSigner(last.origin, key))
    await network.platform.bucket("salus-ledger").create(header_key(0, forged.height), note)
    report = await network.salus("ledger", "fsck")

    assert not report["ok"]
    assert "key-period" in {finding["code"] for finding in report["findings"]}

    async def stalled() -> bool:
        async with AsyncClient(base_url=network.platform.service_url("anchoring"), timeout=60) as http:
            return "key-period" in (await http.get("/status")).text

    assert await until(stalled, deadline_s=WAIT_S_MAX)
