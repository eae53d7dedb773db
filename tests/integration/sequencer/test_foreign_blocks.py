"""What whoever has a shard's key and store account seals stops the shard, and the way out (redB6, 3 to 5).

The honest sequencer is held up while the thief seals, which stands for his winning the race.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from tests.integration.sequencer.shard import CLINICAL, SequencerProcess, Shard, open_shard

from salus.archive.body import ACCEPTED, encode_body
from salus.archive.building import SampleRecord, columns_of
from salus.crypto.keys import load_ed25519
from salus.devkit.addresses import Addresses
from salus.devkit.key_files import KeyFiles, Owner
from salus.devkit.waiting import until
from salus.events.errors import RejectedError
from salus.events.keyring import KeyRing
from salus.events.signature import sign_values
from salus.ledger.block import Header, body_key, header_key, open_header, sign_header
from salus.ledger.merkle import leaf_hash, root_of
from salus.ledger.note import NoteSigner
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import Producer
from salus.objects import NotFoundError
from salus.runtime.network import Network
from salus.sequencer.adapters.log import open_identities
from salus.sequencer.adapters.patience import Patience

DEADLINE_S = 60
OWNER = Owner("sequencer")


@pytest.fixture
async def shard(parts: Addresses, tmp_path: Path) -> AsyncIterator[Shard]:
    async with open_shard(parts, tmp_path / "network") as opened:
        await opened.join_hospital()
        yield opened


async def headers(shard: Shard) -> list[tuple[Header, bytes]]:
    """Return the chain by all keys that the shard had; `Shard.chain` knows the first one alone."""
    history = Network.read(shard.folder.file).shards[0].history
    found: list[tuple[Header, bytes]] = []
    with contextlib.suppress(NotFoundError):
        while True:
            note = await shard.store.get(header_key(0, len(found)), bytes_max=1 << 20)
            found.append((open_header(note, history), note))
    return found


async def forge(shard: Shard, *, status: str, position: int | None) -> None:
    """Seal what is not sealed yet: records of clinical topics with this status, all others as accepted."""
    last, note = (await headers(shard))[-1]
    following = last.next_offsets
    fresh = [r for at, r in sorted((await shard.records()).items()) if r.offset >= following[at[:2]]]
    rows = [
        SampleRecord(
            record.topic,
            record.partition,
            record.offset,
            record.value,
            record.header(SIGNATURE_HEADER),
            status=status if record.topic == CLINICAL else ACCEPTED,
            timestamp_ms=record.timestamp_ms,
        )
        for record in fresh
    ]
    ends = {(row.topic, row.partition): row.offset + 1 for row in rows}
    columns = columns_of(rows)
    body, root = encode_body(columns), root_of(columns.leaf_hash)
    ranges = [replace(r, first=r.next, next=ends.get((r.topic, r.partition), r.next)) for r in last.ranges]
    known = max([last.identity[2], *(r.next for r in ranges if r.topic == last.identity[0])])
    header = replace(
        last,
        height=last.height + 1,
        leaves=len(rows),
        accepted=sum(row.status == ACCEPTED for row in rows),
        root=root,
        previous=leaf_hash(note),
        body_bytes=len(body),
        body_sha256=sha256(body).digest(),
        identity=(*last.identity[:2], known if position is None else position),
        ranges=tuple(ranges),
    )
    stolen = NoteSigner(header.origin, load_ed25519(shard.folder.key_file("shard-0")))
    await shard.store.create(body_key(0, header.height, root), body)
    await shard.store.create(header_key(0, header.height), sign_header(header, stolen))


async def send_forged_value(shard: Shard) -> None:
    """Send an event that its signature does not fit, as anybody can."""
    value = columns_value(await shard.rows())
    headers = [(SIGNATURE_HEADER, sign_values([b"another"], shard.hospital)[0])]
    async with Producer(shard.parts.kafka_bootstrap, client_id="anybody") as producer:
        await producer.send(CLINICAL, key=b"k", value=value, headers=headers)


def columns_value(rows: list[dict[str, object]]) -> bytes:
    value = next(row["value"] for row in rows if row["topic"] == CLINICAL and row["status"] == ACCEPTED)
    assert isinstance(value, bytes)
    return value.replace(b'"id":"', b'"id":"forged-', 1)


async def is_halted(sequencer: SequencerProcess, why: str) -> bool:
    code, page = await sequencer.answer("/status")
    return code == 200 and page["halted"] is not None and why in page["halted"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("status", "position", "why"),
    [
        # falserej.py: an honest record is said to be a duplicate
        pytest.param("rejected:duplicate", None, "rejected:duplicate, and is accepted", id="false-rejection"),
        # forgeacc.py: a record that nobody signed is said to be good
        pytest.param(ACCEPTED, None, "accepted, and is rejected:bad-signature", id="false-acceptance"),
        # future.py: an identity position that the topic never had
        pytest.param(ACCEPTED, 10**12, "names identity position 1000000000000", id="future"),
    ],
)
async def test_a_forged_block_halts_the_shard_until_its_key_is_retired(
    shard: Shard, status: str, position: int | None, why: str
) -> None:
    sequencer = await shard.start_sequencer()
    await shard.publish_documents(5)
    await shard.wait_until_sealed()
    sequencer.process.send_signal(signal.SIGSTOP)
    if status == ACCEPTED and position is None:
        await send_forged_value(shard)
    await shard.publish_documents(3, name="forged")
    await forge(shard, status=status, position=position)
    sequencer.process.send_signal(signal.SIGCONT)
    await shard.publish_documents(3, name="later")

    assert await until(lambda: is_halted(sequencer, why), deadline_s=DEADLINE_S), sequencer.log.read_text()[
        -3000:
    ]
    assert await sequencer.lacks("sealing")
    sealed = len(await headers(shard))
    await sequencer.stop()
    # The way out: the stolen key ends behind the forged block.
    keys = KeyFiles(shard.folder)
    [stolen] = keys.of(OWNER)
    keys.add(OWNER, first=sealed)
    keys.retire(stolen, end=sealed)
    again = await shard.start_sequencer()

    async def goes_on() -> bool:
        return len(await headers(shard)) > sealed and await again.is_ready()

    assert await until(goes_on, deadline_s=DEADLINE_S), again.log.read_text()[-3000:]
    assert "a wrong block stays" in again.log.read_text()
    chain = await headers(shard)
    assert chain[sealed][0].identity[2] < 10**6


async def test_the_identity_topic_is_folded_up_to_exactly_a_position(shard: Shard) -> None:
    network, method = Network.read(shard.folder.file), shard.hospital.verification_method
    later = datetime.now(UTC) + timedelta(minutes=1)
    async with (
        open_identities(shard.parts.kafka_bootstrap, network, Patience(), seen=lambda _: None) as identities,
        identities.past() as past,
    ):
        end = (await identities.catch_up()).position
        positions, known = (end - 1, end, end - 2, 0, end - 1), []
        for position in positions:
            ring = await past.at(position)
            assert ring.position == position
            known.append(knows(ring, method, later))
        assert (await identities.catch_up()).position == end

    # The hospital joined last.
    assert known == [position == end for position in positions]


def knows(ring: KeyRing, method: str, at: datetime) -> bool:
    try:
        ring.key_for(method, at=at)
    except RejectedError:
        return False
    return True
