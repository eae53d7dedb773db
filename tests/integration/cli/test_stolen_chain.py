"""What a stolen shard's key sealed counts nowhere, once the chain ends before it (redB7, 2 to 7).

The honest sequencer is held up while the thief seals, which stands for his winning the race.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import httpx
import pytest
from tests.commands import Said, Salus

from salus.archive.body import encode_body
from salus.archive.building import SampleRecord, columns_of
from salus.crypto.keys import load_ed25519
from salus.devkit.platform import Platform
from salus.devkit.waiting import until
from salus.ledger.block import Header, body_key, header_key, open_header, sign_header
from salus.ledger.merkle import leaf_hash, root_of
from salus.ledger.note import NoteSigner
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import Producer, Reader, Record
from salus.objects import NotFoundError, S3Objects

CLINICAL, IDENTITY = "salus.clinical.events", ("salus.identity.events", 0)
DEADLINE_S = 90
Rows = Sequence[SampleRecord]


@dataclass
class Thief:
    """Whoever holds shard 0's key and its account at the store."""

    platform: Platform
    ledger: S3Objects
    signer: NoteSigner

    @contextmanager
    def ahead(self) -> Any:
        """Hold the honest sequencer up."""
        pid = self.platform.services["sequencer"].process.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    async def tip(self) -> tuple[Header, bytes]:
        """Return the last block."""
        height, note = 0, b""
        try:
            while True:
                note = await self.ledger.get(header_key(0, height), bytes_max=1 << 20)
                height += 1
        except NotFoundError:
            return open_header(note, self.signer.verifier), note

    async def seal(self, rows: Rows, change: Callable[[Header], Header] = lambda header: header) -> int:
        """Seal these rows of a partition, in a header that is changed as it suits him; return its height."""
        last, note = await self.tip()
        columns = columns_of(rows)
        body, root = encode_body(columns), root_of(columns.leaf_hash)
        ends = {(row.topic, row.partition): row.offset + 1 for row in rows}
        ranges = [
            replace(r, first=r.next, next=ends.get((r.topic, r.partition), r.next)) for r in last.ranges
        ]
        header = replace(
            last,
            height=last.height + 1,
            leaves=len(rows),
            accepted=sum(row.status == "accepted" for row in rows),
            root=root,
            previous=leaf_hash(note),
            body_bytes=len(body),
            body_sha256=sha256(body).digest(),
            ranges=tuple(ranges),
        )
        header = change(header)
        await self.ledger.create(body_key(0, header.height, root), body)
        await self.ledger.create(header_key(0, header.height), sign_header(header, self.signer))
        return header.height


async def records(platform: Platform, at: tuple[str, int], first: int) -> list[Record]:
    """Return what a partition has from an offset on."""
    found: list[Record] = []
    async with Reader(platform.kafka_bootstrap, starts={at: first}) as reader:
        end = (await reader.end_offsets())[at]
        while len(found) < end - first:
            found += await reader.poll(max_records=100, timeout_ms=200)
    return found


async def send_garbage(platform: Platform) -> Record:
    """Publish something to a clinical partition, as any member can; return it as Kafka has it."""
    async with Producer(platform.kafka_bootstrap, client_id="anybody") as producer:
        await producer.send(CLINICAL, key=b"k", value=b"garbage")
    [sent] = [found[-1] for n in range(4) if (found := await records(platform, (CLINICAL, n), 0))]
    return sent


def beyond(header: Header) -> Header:
    """Let the range of the block's partition end where its topic never will."""
    at_end = (replace(r, next=10**12) if r.first < r.next else r for r in header.ranges)
    return replace(header, ranges=tuple(at_end))


@pytest.fixture
async def platform(platform_factory: Any) -> AsyncIterator[Platform]:
    made: Platform = await platform_factory()
    yield made
    # Its other sequencer was started by a command.
    await Salus(made.state.folder)("down")


@pytest.fixture
def salus(platform: Platform) -> Salus:
    return Salus(platform.state.folder)


async def status_of(platform: Platform, service: str, path: str) -> dict[str, Any]:
    async with httpx.AsyncClient() as http:
        answer: dict[str, Any] = (await http.get(f"{platform.service_url(service)}{path}")).json()
        return answer


async def checked(salus: Salus) -> dict[str, Any]:
    said = await salus("ledger", "fsck", "--deep", "--json")
    report: dict[str, Any] = json.loads(said.out)
    return report


def done(said: Said) -> Said:
    assert said.code == 0, said.err
    return said


@pytest.mark.timeout(600)
async def test_the_chain_of_a_stolen_key_ends_and_everybody_agrees_again(
    platform: Platform, salus: Salus
) -> None:
    done(await salus("party", "register", "old", "--title", "Old"))
    shown = done(await salus("party", "show", "old", "--json")).json
    did, key = shown["did"], shown["keys"][0]["id"]
    signer = NoteSigner("salus.local/dev/shard/0", load_ed25519(platform.network.key_file("shard-0")))
    thief = Thief(platform, platform.bucket("salus-ledger"), signer)

    async def is_sealed(position: int) -> bool:
        header, _ = await thief.tip()
        return header.next_offsets.get(IDENTITY, 0) >= position

    before = len(await records(platform, IDENTITY, 0))
    assert await until(lambda: is_sealed(before), deadline_s=DEADLINE_S)
    with thief.ahead():
        done(await salus("party", "revoke-key", did, key, "--reason", "compromised"))
        [revocation] = await records(platform, IDENTITY, before)
        place = await send_garbage(platform)
        # poison2.py: an invented row makes the revocation that waits a duplicate.
        assert revocation.value is not None
        invented = revocation.value.replace(b'"time":"20', b'"time":"19', 1)
        signature = revocation.header(SIGNATURE_HEADER)
        row = SampleRecord(
            CLINICAL, place.partition, place.offset, invented, signature, timestamp_ms=place.timestamp_ms
        )
        first = await thief.seal([row])
        # beyond.py: no honest block ever reaches the end of this range.
        place = await send_garbage(platform)
        refused = replace(row, offset=place.offset, value=b"garbage", signature=None)
        await thief.seal([replace(refused, status="rejected:missing-signature")], beyond)

    async def is_halted() -> bool:
        halted = (await status_of(platform, "sequencer", "/status"))["halted"]
        return f"block {first} of shard 0" in (halted or "")

    assert await until(is_halted, deadline_s=DEADLINE_S)
    # Case redB8 7: a platform comes up with it, or the commands below would have nothing to work on.
    done(await salus("down"))
    up = await salus("up")
    assert (up.code, f"ForeignBlockError: block {first} of shard 0" in up.out) == (1, True), up.err
    assert "the platform runs, but sequencer waits for somebody to act" in up.err
    assert (await salus("shard", "end", "0", "--before", str(first + 1))).code == 1
    done(await salus("shard", "end", "0", "--before", str(first)))
    done(await salus("shard", "assign", "1"))
    done(await salus("shard", "remove", "0"))
    done(await salus("audit", "reconcile", "--repair"))

    async def agrees() -> bool:
        report = await checked(salus)
        codes = {finding["code"] for finding in report["findings"]}
        return bool(report["ok"]) and codes == {"void-block"}

    assert await until(agrees, deadline_s=DEADLINE_S), await checked(salus)

    async def is_equal() -> bool:
        checks = (await status_of(platform, "audit", "/readyz"))["checks"]
        return bool(checks["ledger"] == checks["trail"] == checks["damage"] == "ok")

    assert await until(is_equal, deadline_s=DEADLINE_S), await status_of(platform, "audit", "/readyz")
    assert "equals the ledger" in done(await salus("audit", "reconcile")).out
    # Kafka is lost, and filled again from the ledger: the revocation is there.
    done(await salus("down"))
    shutil.rmtree(platform.state.folder / "data" / "kafka")
    done(await salus("ledger", "restore-topics", "--json"))
    done(await salus("up"))
    assert done(await salus("party", "show", "old", "--json")).json["keys"][0]["revoked"] == "compromised"
