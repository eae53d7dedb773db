"""Final checkpoints: published only when enough witnesses cosigned; the log grows whatever they do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httptools
import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from tests.unit.anchoring.receipts import receipt_service
from tests.unit.anchoring.world import LOG_SIGNER, SHARD_SIGNERS, World, key

from salus.anchoring.api import log_routes, status_routes
from salus.anchoring.cosigning import Cosigning
from salus.anchoring.metrics import Metrics
from salus.anchoring.ports import OtherSizeError, WitnessError
from salus.anchoring.receipt_api import receipt_routes
from salus.anchoring.runner import Runner
from salus.archive.building import TOPIC
from salus.archive.log import CHECKPOINT_KEY, LogReader
from salus.devkit.waiting import until
from salus.ledger.checkpoint import Checkpoint, open_checkpoint
from salus.ledger.cosignature import COSIGNED_ED25519, CosignatureSigner, cosigned_message
from salus.ledger.merkle import verify_consistency
from salus.ledger.note import NoteSignature
from salus.ledger.policy import Policy
from salus.ledger.quorum import Quorum
from salus.ledger.receipt import verify_receipt
from salus.runtime import problems

SIGNERS = [CosignatureSigner(f"salus.test/witness/{n}", key(30 + n)) for n in range(3)]
POLICY = Policy(
    (LOG_SIGNER.verifier,),
    {s.name: s.verifier for s in SHARD_SIGNERS.values()},
    Quorum.of(2, [signer.verifier for signer in SIGNERS]),
)


@dataclass
class SmallWitness:
    """Does what c2sp.org/tlog-witness says, in memory; it can be away, hang, or answer nonsense."""

    signer: CosignatureSigner
    last: Checkpoint | None = None
    away: bool = False
    hangs: bool = False
    forget_answers: int = 0
    nonsense: bytes | None = None
    signs_more: bool = False
    throws: Exception | None = None
    asked: list[int] = field(default_factory=list)

    async def add_checkpoint(self, old_size: int, proof: Sequence[bytes], note: bytes) -> bytes:
        checkpoint, _ = open_checkpoint(note, LOG_SIGNER.verifier)
        self.asked.append(checkpoint.size)
        if self.hangs:
            await asyncio.Event().wait()
        if self.away:
            raise WitnessError("away")
        if self.throws is not None:
            raise self.throws
        if self.nonsense is not None:
            return self.nonsense
        if self.signs_more:
            # Valid, but over the checkpoint and its signature lines, which a blank line made into text.
            message = cosigned_message(COSIGNED_ED25519, self.signer.name, 5, note.decode())
            signature = (5).to_bytes(8, "big") + key(30).sign(message)
            return (
                b"\n"
                + NoteSignature(self.signer.name, self.signer.verifier.key_id, signature).line().encode()
            )
        if old_size != (self.last.size if self.last else 0):
            raise OtherSizeError(self.last.size if self.last else 0)
        if self.last is not None and self.last.size:
            verify_consistency(
                first=old_size,
                second=checkpoint.size,
                first_root=self.last.root,
                second_root=checkpoint.root,
                proof=proof,
            )
        else:
            assert not proof
        self.last = checkpoint
        if self.forget_answers:
            self.forget_answers -= 1
            raise WitnessError("the answer was lost")
        return self.signer.cosign(checkpoint, seconds=5).line().encode()


@dataclass
class Witnessed:
    world: World
    witnesses: list[SmallWitness]
    runner: Runner
    http: httpx.AsyncClient
    registry: CollectorRegistry
    tasks: list[asyncio.Task[None]]
    folder: Path
    starts: int = 0

    def shown(self) -> bytes:
        return self.world.log.objects[CHECKPOINT_KEY][0]

    async def status(self) -> dict[str, object]:
        return dict((await self.http.get("/status")).json())

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)

    def start(self) -> None:
        """Start another process on the same log and the same witnesses."""
        names = {witness.signer.name: witness for witness in self.witnesses}
        log = LogReader(self.world.log)
        cosigning = Cosigning(names, POLICY, log, deadline_s=0.2, stragglers_s=0.02)
        anchor = self.world.anchor()
        anchor._is_final = cosigning.is_final
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry)
        self.runner = Runner(
            anchor, metrics, poll_interval_s=0.01, checkpoint_interval_s=0, cosigning=cosigning
        )
        self.starts += 1
        receipts = receipt_service(self.world, self.runner, metrics, self.folder / str(self.starts))
        app = FastAPI()
        problems.install(app)
        app.include_router(log_routes(self.runner, log))
        app.include_router(receipt_routes(receipts))
        app.include_router(status_routes(self.runner))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://anchoring")
        self.tasks = [
            asyncio.create_task(self.runner.run()),
            asyncio.create_task(self.runner.finalise(cosigning)),
        ]

    async def grows_to(self, size: int) -> bool:
        def grown() -> bool:
            return self.runner.anchor.latest is not None and self.runner.anchor.latest.head.size == size

        return await until(grown, deadline_s=60)


@pytest.fixture
async def witnessed(tmp_path: Path) -> AsyncIterator[Witnessed]:
    fresh = Witnessed.__new__(Witnessed)
    fresh.folder = tmp_path
    fresh.world, fresh.witnesses = World(with_bodies=True), [SmallWitness(signer) for signer in SIGNERS]
    fresh.start()
    yield fresh
    await fresh.stop()


async def test_a_receipt_carries_the_cosignatures_and_meets_the_policy(witnessed: Witnessed) -> None:
    await witnessed.world.chains[0].seal_samples(2)
    answer = await witnessed.http.get(
        "/receipts", params={"topic": TOPIC, "partition": 0, "offset": 1, "wait_s": 20}
    )

    verified = verify_receipt(answer.content, POLICY)

    assert {cosigner.name for cosigner in verified.cosigners} == {signer.name for signer in SIGNERS}
    assert POLICY.open_checkpoint(witnessed.shown()).checkpoint == verified.checkpoint


async def test_without_a_quorum_the_log_grows_and_nothing_is_final_until_there_is_one(
    witnessed: Witnessed,
) -> None:
    await witnessed.world.chains[0].seal_samples(1)
    await witnessed.runner.wait_beyond(0)
    final = witnessed.shown()
    witnessed.witnesses[0].away = True
    witnessed.witnesses[1].hangs = True

    for _ in range(3):
        await witnessed.world.chains[0].seal_samples(1)
    assert await witnessed.grows_to(4)
    assert await until(lambda: witnessed.runner.unfinal is not None, deadline_s=60)
    waiting = await witnessed.http.get("/receipts", params={"topic": TOPIC, "partition": 0, "offset": 3})
    status = await witnessed.status()

    assert witnessed.shown() == final
    assert (await witnessed.http.get("/log/checkpoint")).content == final
    assert (waiting.status_code, waiting.json()["code"]) == (404, "not-anchored-yet")
    assert waiting.json()["final_size"] == 1
    assert (status["size"], status["head_size"]) == (1, 4)
    assert status["witnesses"] == dict(
        zip((s.name for s in SIGNERS), ["away", "no answer in time", "ok"], strict=True)
    )
    assert "witnesses has 1 of 2" in str(status["unfinal"])
    cosigned = [
        witnessed.registry.get_sample_value("salus_anchoring_witness_cosigned", {"witness": signer.name})
        for signer in SIGNERS
    ]
    assert cosigned == [0, 0, 1]
    assert witnessed.registry.get_sample_value("salus_log_final_size") == 1

    witnessed.witnesses[0].away = False
    await witnessed.runner.wait_beyond(3)

    assert await until(lambda: witnessed.runner.unfinal is None, deadline_s=60)
    assert len(POLICY.open_checkpoint(witnessed.shown()).cosigners) == 2


async def test_a_witness_whose_answer_was_lost_tells_its_size_and_goes_on(witnessed: Witnessed) -> None:
    for witness in witnessed.witnesses:
        witness.forget_answers = 2

    await witnessed.world.chains[0].seal_samples(1)
    await witnessed.runner.wait_beyond(0)

    assert len(POLICY.open_checkpoint(witnessed.shown()).cosigners) >= 2


async def test_a_size_that_is_told_once_keeps_nobody_from_cosigning_for_ever(witnessed: Witnessed) -> None:
    """Whoever answered once in its place, with a size beyond the log's, had a witness never asked again."""
    for witness in witnessed.witnesses:
        witness.throws = OtherSizeError(1_000_000)

    await witnessed.world.chains[0].seal_samples(1)
    assert await until(lambda: "has cosigned size 1000000" in str(witnessed.runner.unfinal), deadline_s=60)
    for witness in witnessed.witnesses:
        witness.throws = None
    await asyncio.wait_for(witnessed.runner.wait_beyond(0), timeout=60)

    assert len(POLICY.open_checkpoint(witnessed.shown()).cosigners) >= 2


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"not a signature\n",
        SIGNERS[0].cosign(Checkpoint("salus.test/log", 1, bytes(32)), seconds=5).line().encode(),
        b"\n" + SIGNERS[0].cosign(Checkpoint("salus.test/log", 1, bytes(32)), seconds=5).line().encode(),
    ],
)
async def test_what_is_no_valid_cosignature_counts_as_none(witnessed: Witnessed, nonsense: bytes) -> None:
    witnessed.witnesses[0].nonsense = nonsense

    await witnessed.world.chains[0].seal_samples(1)
    await witnessed.runner.wait_beyond(0)

    seen = POLICY.open_checkpoint(witnessed.shown())
    assert {cosigner.name for cosigner in seen.cosigners} == {signer.name for signer in SIGNERS[1:]}
    assert "no valid cosignature" in str((await witnessed.status())["witnesses"])


# Case HIGH 1 of red team B, 101 Upgrade, an error of no family that anybody thought of
@pytest.mark.parametrize(
    "error",
    [
        httptools.HttpParserUpgrade(0),
        httptools.HttpParserInvalidStatusError("status"),
        UnicodeDecodeError("ascii", b"\xff", 0, 1, "ordinal not in range"),
        RecursionError(),
        MemoryError(),
        AssertionError(),
        Exception("of no family at all"),
    ],
)
async def test_no_error_of_one_witness_keeps_the_others_from_making_a_checkpoint_final(
    witnessed: Witnessed, error: Exception
) -> None:
    witnessed.witnesses[0].throws = error

    for size in range(2):
        await witnessed.world.chains[0].seal_samples(1)
        await asyncio.wait_for(witnessed.runner.wait_beyond(size), timeout=60)

    seen = POLICY.open_checkpoint(witnessed.shown())
    assert {cosigner.name for cosigner in seen.cosigners} == {signer.name for signer in SIGNERS[1:]}
    assert not any(task.done() for task in witnessed.tasks)
    assert type(error).__name__ in str((await witnessed.status())["witnesses"])


async def test_a_cosignature_of_more_than_the_checkpoint_counts_as_none(witnessed: Witnessed) -> None:
    witnessed.witnesses[0].signs_more = True

    await witnessed.world.chains[0].seal_samples(1)
    await witnessed.runner.wait_beyond(0)

    assert len(POLICY.open_checkpoint(witnessed.shown()).cosigners) == 2
    assert "more than signature lines" in str((await witnessed.status())["witnesses"])


async def test_a_restart_goes_on_from_the_last_final_checkpoint_while_witnesses_are_away(
    witnessed: Witnessed,
) -> None:
    await witnessed.world.chains[0].seal_samples(1)
    await witnessed.runner.wait_beyond(0)
    for witness in witnessed.witnesses:
        witness.away = True
    await witnessed.world.chains[0].seal_samples(1)
    assert await witnessed.grows_to(2)
    await witnessed.stop()

    witnessed.start()
    assert await witnessed.grows_to(2)
    old = await witnessed.http.get(
        "/receipts", params={"topic": TOPIC, "partition": 0, "offset": 0, "wait_s": 5}
    )
    new = await witnessed.http.get("/receipts", params={"topic": TOPIC, "partition": 0, "offset": 1})

    assert verify_receipt(old.content, POLICY).checkpoint.size == 1
    assert new.json()["code"] == "not-anchored-yet"


async def test_a_restart_on_a_final_head_is_ready_without_asking_anybody(witnessed: Witnessed) -> None:
    await witnessed.world.chains[0].seal_samples(1)
    await witnessed.runner.wait_beyond(0)
    await witnessed.stop()
    asked = [list(witness.asked) for witness in witnessed.witnesses]

    witnessed.start()

    assert await until(lambda: witnessed.runner.unfinal is None, deadline_s=60)
    assert [witness.asked for witness in witnessed.witnesses] == asked


# case L4
async def test_a_restart_knows_the_sizes_of_witnesses_from_their_last_cosignatures(
    witnessed: Witnessed,
) -> None:
    await witnessed.world.chains[0].seal_samples(1)
    await witnessed.runner.wait_beyond(0)
    await witnessed.stop()
    known = {cosigner.name for cosigner in POLICY.open_checkpoint(witnessed.shown()).cosigners}
    asked = {witness.signer.name: len(witness.asked) for witness in witnessed.witnesses}

    witnessed.start()
    await witnessed.world.chains[0].seal_samples(1)
    await witnessed.runner.wait_beyond(1)

    # Whoever is in the checkpoint is asked once, with the size that it cosigned: nobody has to refuse first.
    first = {w.signer.name: w.asked[asked[w.signer.name] :] for w in witnessed.witnesses}
    assert len(known) >= 2
    assert all(first[name] == [2] for name in known)


async def test_a_log_that_had_no_witnesses_gets_its_checkpoint_cosigned_in_place(
    witnessed: Witnessed,
) -> None:
    await witnessed.stop()
    witnessed.world = World(with_bodies=True)
    await witnessed.world.chains[0].seal_samples(1)
    await witnessed.world.anchor().append()
    assert len(POLICY.open_checkpoint(witnessed.shown()).cosigners) == 0
    for witness in witnessed.witnesses:
        witness.last = None

    witnessed.start()
    await witnessed.runner.wait_beyond(0)

    assert len(POLICY.open_checkpoint(witnessed.shown()).cosigners) >= 2
    # Another process that shows the same size takes no signatures away.
    await witnessed.world.anchor().stand()
    assert len(POLICY.open_checkpoint(witnessed.shown()).cosigners) >= 2


async def test_a_log_that_went_back_is_refused_by_witnesses_that_remember(witnessed: Witnessed) -> None:
    await witnessed.world.chains[0].seal_samples(1)
    await witnessed.runner.wait_beyond(0)
    await witnessed.stop()
    witnessed.world = World(with_bodies=True)

    witnessed.start()

    assert await until(lambda: "has cosigned size 1" in str(witnessed.runner.unfinal), deadline_s=60)
    assert CHECKPOINT_KEY not in witnessed.world.log.objects


async def test_witnesses_are_asked_while_tiles_are_written_and_nothing_is_shown_before_they_are(
    witnessed: Witnessed,
) -> None:
    await witnessed.world.chains[0].seal_samples(1)
    await witnessed.runner.wait_beyond(0)
    final = witnessed.shown()
    witnessed.world.log.hold = "tile/0/000.p/2"

    await witnessed.world.chains[0].seal_samples(1)

    assert await until(
        lambda: all(w.last is not None and w.last.size == 2 for w in witnessed.witnesses), deadline_s=60
    )
    await witnessed.world.log.held.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert witnessed.shown() == final
    assert "tile/0/000.p/2" not in witnessed.world.log.objects

    witnessed.world.log.hold = ""
    witnessed.world.log.release.set()
    published = await witnessed.runner.wait_beyond(1)
    assert published.head.size == 2
    assert witnessed.shown() == published.head.checkpoint.encode()


async def test_what_was_cosigned_and_not_written_is_finished_by_the_next_process(
    witnessed: Witnessed,
) -> None:
    await witnessed.world.chains[0].seal_samples(1)
    await witnessed.runner.wait_beyond(0)
    witnessed.world.log.hold = "tile/0/000.p/2"
    await witnessed.world.chains[0].seal_samples(1)
    assert await until(
        lambda: all(w.last is not None and w.last.size == 2 for w in witnessed.witnesses), deadline_s=60
    )
    await witnessed.stop()
    witnessed.world.log.hold = ""

    witnessed.start()
    await witnessed.runner.wait_beyond(1)

    assert POLICY.open_checkpoint(witnessed.shown()).checkpoint.size == 2
    await witnessed.world.require_whole()
