"""A backlog is folded in stages that overlap: what is killed, refused or cancelled in one of them."""

from __future__ import annotations

import asyncio
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.databases import Databases
from tests.unit.contracts.backlogs import (
    AGAIN,
    AT,
    AT_ONCE,
    BATCH,
    COUNT,
    FORGED,
    STAGES,
    STALE,
    TopicOfBatches,
    backlog,
    follower_on,
    rebuild,
    rows_in,
    running,
)
from tests.unit.contracts.test_rebuilt_state import CONSENT
from tests.unit.contracts.test_unread_records import changed, with_a_field_more

from salus.contracts import fold, read_ahead, record_judge
from salus.contracts.fold_store import open_fold_store
from salus.events.batch_judging import BatchJudging
from salus.events.effect import Applied, NoEffect, Outcome, Refused, WithoutEffect
from salus.messaging import MessagingError, MissingRecordsError, Position, Record

RECORDS = backlog()


@pytest.fixture(autouse=True)
def _by_twos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_judge, "JUDGED_TOGETHER_MIN", 1)
    monkeypatch.setattr(record_judge, "JUDGED_AT_ONCE", 2)
    monkeypatch.setattr(record_judge, "JUDGED_IN_A_ROW", 1)
    monkeypatch.setattr(fold, "RETRY_S", 0)
    monkeypatch.setattr(fold, "BATCHES_AT_ONCE_MAX", AT_ONCE)


async def test_batches_that_are_read_ahead_come_to_what_records_come_to_one_by_one(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = await rebuild(await databases.url("ahead"), RECORDS)
    async with open_fold_store(await databases.url("alone")) as store:
        monkeypatch.setattr(record_judge, "JUDGED_TOGETHER_MIN", COUNT + 1)
        follower = await follower_on(store, TopicOfBatches(RECORDS))
        outcomes: dict[Position, Outcome] = {}
        for record in RECORDS:
            outcomes |= await follower._fold_batch([record], {AT: record.offset + 1}, outcomes_from={AT: 0})
        alone = await rows_in(store)

    assert ahead == alone
    found = [outcomes[Position(*AT, offset)] for offset in range(COUNT)]
    assert {offset for offset, outcome in enumerate(found) if not isinstance(outcome, Applied)} == {
        STALE,
        AGAIN,
        FORGED,
    }
    assert found[STALE] == WithoutEffect(NoEffect.STALE)
    assert found[FORGED] == Refused("invalid-request")


@pytest.mark.parametrize("stage", STAGES)
async def test_who_is_killed_at_any_stage_folds_nothing_twice_and_loses_nothing(
    databases: Databases, tmp_path: Path, stage: str
) -> None:
    file, url = tmp_path / "records", await databases.url("killed")
    file.write_bytes(pickle.dumps(RECORDS))
    # The fifth batch is read when two are folded; what is folded here is the third.
    call = {"polled": 5, "verifying": 9, "judged": 9, "folding": 2 * BATCH + 2, "committed": 2}.get(stage, 3)
    program = [sys.executable, "-m", "tests.unit.contracts.backlogs", url, str(file), stage, str(call)]
    killed = await asyncio.to_thread(subprocess.run, program, check=False, capture_output=True)
    async with open_fold_store(url) as store:
        folded = (await rows_in(store))["fold_positions"]

    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    # Whole transactions; how many were committed when it was killed depends on the machine.
    left = folded[0][2] if folded else 0
    assert left % (AT_ONCE * BATCH) == 0
    assert left < COUNT
    assert await rebuild(url, RECORDS) == await rebuild(await databases.url("unbroken"), RECORDS)


async def test_what_stops_a_later_stage_is_named_by_its_offset_and_all_before_is_folded(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = asyncio.Event()
    monkeypatch.setattr(fold, "failed", lambda _: stopped.set())
    offset = 2 * BATCH + 1
    other = changed(RECORDS[offset], with_a_field_more, by=CONSENT)
    records = [*RECORDS[:offset], other, *RECORDS[offset + 1 :]]
    async with open_fold_store(await databases.url("a")) as store:
        follower = await follower_on(store, TopicOfBatches(records))
        async with running(follower), asyncio.timeout(60):
            await stopped.wait()
            trouble = str(follower._trouble)
        folded = await store.positions()

    assert f"{AT[0]} 0 {offset}" in trouble
    assert folded == {AT: 2 * BATCH}


async def test_batches_of_one_transaction_are_told_of_when_it_is_committed(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    async with open_fold_store(await databases.url("a")) as store:
        follower = await follower_on(store, TopicOfBatches(RECORDS))
        written = store.set_positions

        async def seen(*args: Any, **named: Any) -> None:
            await written(*args, **named)
            told.append((follower.position(*AT), store.reached.get(AT, 0)))

        monkeypatch.setattr(store, "set_positions", seen)
        async with running(follower), asyncio.timeout(60):
            assert await follower._waits.until(lambda: follower._is_rebuilt, seconds=60)
        folded = await store.positions()

    # Two batches each time: what nobody can lose any more when the first of them is written.
    committed = [first for first in range(0, COUNT, AT_ONCE * BATCH) for _ in range(AT_ONCE)]
    assert told == [(offset, offset) for offset in committed]
    assert folded == {AT: COUNT}


class Compacted(TopicOfBatches):
    """The topic without some of its records, which its reader sees once it is past them."""

    gone: range | None = range(BATCH + 1, BATCH + 3)

    async def poll(self, *, max_records: int, timeout_ms: int) -> Sequence[Record]:
        found = await super().poll(max_records=max_records, timeout_ms=timeout_ms)
        return [record for record in found if record.offset not in (self.gone or ())]

    def require_whole(self, ends: Any) -> None:
        if self.gone and ends[AT] > self.gone[0]:
            raise MissingRecordsError(*AT, self.gone[0], self.gone[-1] + 1)


async def test_nothing_behind_a_gap_is_folded_by_any_start_until_it_is_filled(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case readB9 1: the first start was not ready, and the second one answered without what was gone."""
    url, waits = await databases.url("a"), asyncio.Event()
    monkeypatch.setattr(fold, "failed", lambda _: waits.set())
    for _ in range(2):
        waits.clear()
        async with open_fold_store(url) as store:
            topic = Compacted(RECORDS)
            follower = await follower_on(store, topic)
            async with running(follower), asyncio.timeout(60):
                await waits.wait()
                with pytest.raises(MessagingError, match=f"{AT[0]} 0: of the records from offset 5 to 6"):
                    await follower.check()
                assert await store.positions() == {AT: BATCH}
                with pytest.raises(MissingRecordsError):
                    await (await follower_on(store, Compacted(RECORDS))).fold_up_to({AT: COUNT})
    async with open_fold_store(url) as store:
        topic = Compacted(RECORDS)
        follower = await follower_on(store, topic)
        waits.clear()
        async with running(follower), asyncio.timeout(60):
            await waits.wait()
            topic.gone = None
            assert await follower._waits.until(lambda: follower._is_rebuilt, seconds=60)
        found = await rows_in(store)

    assert found == await rebuild(await databases.url("whole"), RECORDS)


async def test_a_transaction_waits_for_its_next_batch_no_longer_than_others_may_wait_for_it(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold, "NEXT_BATCH_S_MAX", 0.01)
    waits, hangs = asyncio.Event(), asyncio.Event()
    monkeypatch.setattr(fold, "failed", lambda _: waits.set())
    async with open_fold_store(await databases.url("a")) as store:
        topic = TopicOfBatches(RECORDS)
        poll = topic.poll

        async def away(**named: Any) -> Sequence[Record]:
            if topic.polls == 1:
                await hangs.wait()
            return await poll(**named)

        monkeypatch.setattr(topic, "poll", away)
        follower = await follower_on(store, topic)
        async with running(follower), asyncio.timeout(60):
            await waits.wait()
            assert await store.positions() == {AT: BATCH}
            monkeypatch.setattr(fold, "NEXT_BATCH_S_MAX", 60)
            hangs.set()
            assert await follower._waits.until(lambda: follower._is_rebuilt, seconds=60)
        found = await rows_in(store)

    assert found == await rebuild(await databases.url("unbroken"), RECORDS)


async def test_no_more_than_two_batches_wait_for_the_one_that_is_written(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_fold_store(await databases.url("a")) as store:
        topic, is_writing, may_write = TopicOfBatches(RECORDS), asyncio.Event(), asyncio.Event()
        write = store.set_positions

        async def slow(*args: Any, **named: Any) -> None:
            is_writing.set()
            await may_write.wait()
            await write(*args, **named)

        monkeypatch.setattr(store, "set_positions", slow)
        follower = await follower_on(store, topic)
        async with running(follower), asyncio.timeout(60):
            await is_writing.wait()
            await asyncio.wait([*follower._ahead._begun])
            await asyncio.sleep(0)
            polls = topic.polls
            may_write.set()
            assert await follower._waits.until(lambda: follower._is_rebuilt, seconds=60)

    assert polls == 1 + read_ahead.BATCHES_AHEAD_MAX == 3


async def test_a_fold_that_is_cancelled_verifies_no_more_and_leaves_no_thread(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    is_verifying, may_verify = threading.Event(), threading.Event()

    def slow(_: BatchJudging) -> None:
        threads.append(threading.current_thread())
        is_verifying.set()
        may_verify.wait(60)

    monkeypatch.setattr(BatchJudging, "verify", slow)
    async with open_fold_store(await databases.url("a")) as store:
        follower = await follower_on(store, TopicOfBatches(RECORDS))
        async with running(follower), asyncio.timeout(60):
            await asyncio.to_thread(is_verifying.wait, 60)
        may_verify.set()
        # Another test's thread may still be there: this one's verified once.
        [thread] = threads
        await asyncio.to_thread(thread.join, 60)
        folded = await store.positions()

    assert not thread.is_alive()
    assert len(threads) == 1
    assert folded == {AT: 0}


async def test_what_failed_while_it_was_verified_is_read_again(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify, failures = BatchJudging.verify, [OSError("no memory")]
    calls: list[int] = []

    def failing(judging: BatchJudging) -> None:
        calls.append(1)
        if len(calls) == 6 and failures:
            raise failures.pop()
        verify(judging)

    monkeypatch.setattr(BatchJudging, "verify", failing)
    found = await rebuild(await databases.url("a"), RECORDS)
    monkeypatch.setattr(BatchJudging, "verify", verify)

    assert not failures
    assert found == await rebuild(await databases.url("unbroken"), RECORDS)
