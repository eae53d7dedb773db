"""Anchoring with two real witnesses: one is killed and comes back, and a log that lies finds no cosigner."""

from __future__ import annotations

import asyncio
import json
import sys
from hashlib import sha256
from typing import Any

import httpx

from salus.archive.building import TOPIC
from salus.archive.fsck import fsck
from salus.cli.exits import Exit
from salus.crypto.keys import load_ed25519
from salus.devkit.waiting import until
from salus.ledger.checkpoint import Checkpoint, sign_checkpoint
from salus.ledger.note import NoteSigner
from salus.ledger.receipt import verify_receipt


async def test_checkpoints_are_final_with_both_witnesses_and_wait_for_one_that_was_killed(
    witnessed: Any,
) -> None:
    _, other = [await witnessed.start_witness() for _ in range(2)]
    await witnessed.chain.seal_samples(2)
    anchoring = await witnessed.start_ready()
    assert await anchoring.reaches(1)
    receipt = await anchoring.get("/receipts", params={"topic": TOPIC, "partition": 0, "offset": 1})
    assert len(verify_receipt(receipt.content, witnessed.policy).cosigners) == 2

    await other.kill()
    for _ in range(3):
        await witnessed.chain.seal_samples(1)

    async def grown() -> bool:
        status = (await anchoring.get("/status")).json()
        return status["head_size"] == 4 and status["unfinal"] is not None

    assert await until(grown, deadline_s=60)
    status = (await anchoring.get("/status")).json()
    waiting = await anchoring.get("/receipts", params={"topic": TOPIC, "partition": 0, "offset": 4})
    ready = await anchoring.get("/readyz")
    assert (status["size"], waiting.json()["code"]) == (1, "not-anchored-yet")
    assert "does not answer" in status["witnesses"][other.name]
    assert (ready.status_code, other.name in ready.json()["checks"]["witnesses"]) == (503, True)

    await other.start()
    assert await anchoring.reaches(4)
    receipt = await anchoring.get(
        "/receipts", params={"topic": TOPIC, "partition": 0, "offset": 4, "wait_s": 20}
    )
    verified = verify_receipt(receipt.content, witnessed.policy)
    assert (verified.checkpoint.size, len(verified.cosigners)) == (4, 2)
    query = {"topic": TOPIC, "partition": 0, "offset": 4, "format": "cose"}
    cose = await anchoring.get("/receipts", params=query)
    assert cose.headers["content-type"].startswith("application/cose")
    assert verify_receipt(cose.content, witnessed.policy) == verified
    assert await until(anchoring.is_ready, deadline_s=60)
    report = await fsck(witnessed.address, witnessed.trust, workers=0)
    assert report.ok, report.findings


async def test_anchoring_and_witnesses_killed_again_and_again_keep_one_history(witnessed: Any) -> None:
    witnesses = [await witnessed.start_witness() for _ in range(2)]
    sealed = 0
    for round_ in range(3):
        anchoring = await witnessed.start()
        await witnessed.chain.seal_samples(1)
        sealed += 1
        await asyncio.sleep(0)
        if round_:
            assert await anchoring.reaches(sealed)
        await anchoring.kill()
        await witnesses[round_ % 2].kill()
        await witnesses[round_ % 2].start()
    anchoring = await witnessed.start_ready()
    assert await anchoring.reaches(sealed)

    shown = witnessed.policy.open_checkpoint((await anchoring.get("/log/checkpoint")).content)
    async with httpx.AsyncClient(trust_env=False) as client:
        path = f"/{sha256(shown.checkpoint.origin.encode()).hexdigest()}/checkpoint"
        for witness in witnesses:
            seen = witnessed.policy.open_checkpoint((await client.get(witness.url + path)).content)

            assert seen.checkpoint == shown.checkpoint
            assert [cosigner.name for cosigner in seen.cosigners] == [witness.name]


async def test_the_log_s_own_key_gets_no_cosignature_for_a_second_history(witnessed: Any) -> None:
    witness = await witnessed.start_witness()
    await witnessed.start_witness()
    await witnessed.chain.seal_samples(1)
    anchoring = await witnessed.start_ready()
    assert await anchoring.reaches(1)
    shown = witnessed.policy.open_checkpoint((await anchoring.get("/log/checkpoint")).content).checkpoint
    signer = NoteSigner(shown.origin, load_ed25519(witnessed.folder.key_file("log")))

    async with httpx.AsyncClient(trust_env=False) as client:
        for old, size, status in ((1, 1, 422), (1, 2, 422), (0, 1, 409), (0, 2, 409)):
            forged = sign_checkpoint(Checkpoint(shown.origin, size, b"\x01" * 32), (signer,))
            body = f"old {old}\n\n".encode() + forged
            answer = await client.post(f"{witness.url}/add-checkpoint", content=body)

            assert answer.status_code == status
            assert witness.name not in answer.text


async def monitor(network: Any, *arguments: str) -> tuple[int, str]:
    """Look at a log once, with the state and the evidence in the network's folder."""
    folder = network.folder.folder
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "salus.cli", "ledger", "monitor", *arguments, "--once"),
        *("--policy", str(network.folder.file)),
        *("--state", str(folder / "last"), "--evidence", str(folder / "evidence")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return await process.wait(), output.decode()


async def test_a_log_that_shows_a_second_history_finds_no_witness_and_the_monitor_keeps_both(
    witnessed: Any,
) -> None:
    witness, _ = [await witnessed.start_witness() for _ in range(2)]
    await witnessed.chain.seal_samples(2)
    honest = await witnessed.start_ready()
    assert await honest.reaches(1)
    seen = await monitor(witnessed, f"{honest.url}/log", "--witness", witness.url)
    assert seen[0] == Exit.OK, seen
    await honest.stop()

    # The same keys, another archive and another log: what a log that lies would run for somebody else.
    witnessed.name += "-other"
    await witnessed.create()
    for _ in range(2):
        await witnessed.chain.seal_samples(3)
    liar = await witnessed.start()

    async def refused() -> bool:
        try:
            return "refuses: 422" in (await liar.get("/readyz")).text
        except httpx.TransportError:
            return False

    assert await until(refused, deadline_s=60), liar.log.read_text()
    assert (await liar.get("/log/checkpoint")).status_code == 503
    await liar.stop()

    # Without witnesses it can show what it likes, and the monitor catches it.
    description = json.loads(witnessed.folder.file.read_text())
    witnessless = witnessed.folder.folder / "witnessless.json"
    witnessless.write_text(json.dumps(description | {"policy": ["quorum none"]}))
    liar = await witnessed.start_ready(SALUS_WITNESSES="{}", SALUS_NETWORK_FILE=str(witnessless))
    assert await liar.reaches(2)
    code, said = await monitor(witnessed, f"{liar.url}/log")

    assert (code, "two histories" in said) == (Exit.NO, True), said
    kept = [file.read_bytes() for file in (witnessed.folder.folder / "evidence").iterdir()]
    opened = [witnessed.policy.open_checkpoint(note).checkpoint for note in kept]
    assert sorted(checkpoint.size for checkpoint in opened) == [1, 2]
