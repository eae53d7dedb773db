"""The last chapters: proof without trust, damage that is named, erasure that leaves the proofs standing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from salus.cli.demo.access import read_record
from salus.cli.demo.stage import Stage
from salus.cli.display import styled
from salus.ledger.errors import LedgerError
from salus.ledger.policy import Policy
from salus.ledger.receipt import verify_receipt
from salus.objects import S3Objects, refuse_stray

ANCHORED_S_MAX = 30.0
FLIPPED_BYTES_MAX = 16 * 1024 * 1024


async def a_receipt_stands_alone(stage: Stage) -> None:
    """Verify one receipt with nothing but the public network file; a changed one fails."""
    policy = Policy.from_network(stage.platform.network.file.read_bytes())
    receipt, event = stage.facts["receipt"], stage.facts["event"]
    stage.chapter(
        "8 · One receipt, verified offline",
        "A receipt is one text file: two C2SP tlog-proofs, the event in its block and the block "
        "in the log. The pure library verifies it with the network's public keys alone: no Kafka, "
        "no store, no operator.",
    )
    path = stage.folder / "receipt.salus"
    path.write_bytes(receipt)
    (stage.folder / "event.json").write_bytes(event)
    verified = verify_receipt(receipt, policy, event=event)
    stage.show(
        "the receipt verifies",
        verified.leaf.is_accepted,
        evidence=f"{len(receipt)} bytes; {verified.leaf.topic} offset {verified.leaf.offset}",
    )
    event_path = stage.folder / "event.json"
    stage.say(styled("try it: [bold]salus verify {} --event {}[/]", path, event_path))
    broken = 0
    for position in range(0, len(receipt), 7):
        changed = bytearray(receipt)
        changed[position] ^= 1
        try:
            again = verify_receipt(bytes(changed), policy, event=event)
        except LedgerError:
            broken += 1
        else:
            # A note may carry signatures of keys that a verifier does not know; those bytes prove nothing.
            broken += again.leaf == verified.leaf
    tried = len(range(0, len(receipt), 7))
    stage.show("no changed bit proves anything else", broken == tried, evidence=f"{tried} flips")


async def damage_is_named(stage: Stage) -> None:
    """Change one byte in a block and one in an object, past every service, and see exactly that found."""
    stage.chapter(
        "9 · Somebody changes two bytes",
        "An insider with the store's root password flips one byte in a sealed block and one in a "
        "stored record.",
    )
    await _everything_anchored(stage)
    with stage.timed() as taken:
        clean = await stage.fsck()
    stage.show(
        "before, the whole ledger is clean",
        clean.ok,
        evidence=f"{clean.counts.rows} leaves re-hashed, signatures judged again",
    )
    stage.measured(
        "fsck of the whole ledger",
        f"{clean.counts.rows / taken[0]:,.0f} leaves/s, {clean.counts.blocks} blocks",
    )
    ledger = stage.bucket("salus-ledger")
    body = await _largest(ledger, "shard", ".parquet")
    async with _flipped(ledger, body):
        damaged = await stage.fsck()
        for finding in damaged.errors[:3]:
            stage.say(styled("[red]✗[/] {}", finding))
        stage.show("fsck names that block", not damaged.ok, evidence=body)
        blamed = {finding.key for finding in damaged.errors}
        stage.show("and blames nothing else", blamed == {body}, evidence=f"{len(damaged.errors)} findings")
    objects = stage.bucket("salus-objects")
    record = await _largest(objects, stage.her.object, "")
    async with _flipped(objects, record):
        path = f"/objects/{stage.her.object}/verify"
        answer = await stage.caller.call(
            "GET", "storage", path, by=stage.cast.hospital.signer, patient=stage.her.pseudonym
        )
        report = stage.require(answer, 200).json
        faults = [
            f"{fault['part']} {fault.get('segment', '')} {fault['fault']}".strip()
            for fault in report["faults"]
        ]
        stage.show("verify names that object and segment", not report["intact"], evidence="; ".join(faults))
    restored = await stage.fsck()
    stage.show(
        "with the bytes put back, all is clean", restored.ok, evidence=f"{restored.counts.rows} leaves"
    )


async def she_is_erased(stage: Stage) -> None:
    """Destroy her key: her data is unreadable everywhere, and every proof still verifies."""
    cast = stage.cast
    stage.chapter(
        "10 · She asks to be forgotten",
        "The privacy officer erases her: her one private key is destroyed. No object is searched "
        "for, no archive is rewritten, no backup is touched.",
    )
    erased = await stage.caller.call(
        "DELETE",
        "storage",
        f"/subjects/{stage.her.pseudonym}/key",
        by=cast.officer.signer,
        body={"basis": "gdpr-art-17"},
    )
    stage.require(erased, 200)
    read = await read_record(stage, cast.covering, None)
    stage.show("her record is gone for everyone", read.status == 410, evidence=read.code)
    key = await stage.caller.call(
        "GET", "storage", f"/subjects/{stage.her.pseudonym}/key", by=cast.hospital.signer
    )
    stage.show("nothing more can be sealed to her", key.status == 410, evidence=key.code)
    left = [
        entry.key
        async for entry in stage.bucket("salus-keys").list(on_stray=refuse_stray)
        if stage.her.pseudonym[-36:] in entry.key
    ]
    stage.show("no copy of her key is in the store", not left, evidence="bucket salus-keys, by name")
    policy = Policy.from_network(stage.platform.network.file.read_bytes())
    verify_receipt(stage.facts["receipt"], policy, event=stage.facts["event"])
    await _everything_anchored(stage)
    report = await stage.fsck()
    stage.show(
        "and all proofs still verify", report.ok, evidence=f"{report.counts.rows} leaves, her receipt too"
    )


async def _everything_anchored(stage: Stage) -> None:
    """Wait until nothing is under way, so that what fsck sees is all there is."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ANCHORED_S_MAX
    before = -1
    while loop.time() < deadline:
        status = stage.require(
            await stage.caller.call("GET", "anchoring", "/status", by=stage.cast.analyst.signer), 200
        )
        size = status.json["size"]
        if size == before:
            return
        before = size
        await asyncio.sleep(1.0)


async def _largest(bucket: S3Objects, prefix: str, ending: str) -> str:
    entries = [
        entry async for entry in bucket.list(prefix, on_stray=refuse_stray) if entry.key.endswith(ending)
    ]
    return max(entries, key=lambda entry: entry.size).key


@asynccontextmanager
async def _flipped(bucket: S3Objects, key: str) -> AsyncIterator[None]:
    """Flip one bit in the middle of an object, and put the old bytes back afterwards."""
    original = await bucket.get(key, bytes_max=FLIPPED_BYTES_MAX)
    changed = bytearray(original)
    changed[len(changed) // 2] ^= 1
    await bucket.put(key, bytes(changed))
    try:
        yield
    finally:
        await bucket.put(key, original)
